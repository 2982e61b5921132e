//! The shapes of random offsets beside those that fio draws for the same option, where fio is
//! installed: the share of the accesses that the most popular blocks get, and of zones.

#![allow(clippy::print_stderr, reason = "says why trials are skipped")]

use std::path::Path;
use std::process::Command;

use fio_spdk::base::PerOp;
use fio_spdk::base::shape::{BlockSizes, Distribution, Mix, Places, Strides, Zone};
use fio_spdk::workload::{Limit, Region, Workload, WorkloadSpec};
use libtest_mimic::{Arguments, Failed, Trial};

const BLOCKS: u64 = 1000;
const DRAWS: u64 = 200_000;
const BS: u64 = 4096;

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let fio = Command::new("fio").arg("--version").output().is_ok_and(|out| out.status.success());
    if !fio {
        eprintln!("skipped: fio is not installed (apt-get install fio)");
    }
    let trials = vec![
        Trial::test("zipf_has_fios_popular_blocks", || popular("zipf:1.1", &Distribution::Zipf(1.1))),
        Trial::test("pareto_has_fios_popular_blocks", || popular("pareto:0.2", &Distribution::Pareto(0.2))),
        Trial::test("zones_have_fios_shares", zones),
        Trial::test("windows_are_fios", windows),
    ];
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(!fio)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// How often each block was read.
fn ours(distribution: &Distribution) -> Result<Vec<f64>, Failed> {
    let mut workload = Workload::new(&WorkloadSpec {
        regions: vec![Region { target: 0, start: 0, bytes: BLOCKS * BS }],
        service: fio_spdk::base::shape::FileService::default(),
        mix: Mix::Read,
        read_percent: 100,
        random: true,
        coverage: false,
        modifier: None,
        sizes: PerOp::all(BlockSizes::Fixed(4096)),
        align: PerOp::all(0),
        distribution: PerOp::all(distribution.clone()),
        percentage_random: PerOp::all(100),
        places: Places::default(),
        trim: None,
        log: None,
        seed: 1,
        limit: Limit { ios: Some(DRAWS), ..Limit::default() },
    })?;
    let mut shares = vec![0.0; usize::try_from(BLOCKS)?];
    while let Some(step) = workload.next() {
        shares[usize::try_from(step.offset / BS)?] += 1.0 / DRAWS as f64;
    }
    Ok(shares)
}

fn theirs(option: &str) -> Result<Vec<f64>, Failed> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("log");
    let status = Command::new("fio")
        .current_dir(directory.path())
        .args([
            "--name=x",
            "--ioengine=null",
            "--rw=randread",
            "--norandommap",
            "--bs=4k",
            "--output=/dev/null",
        ])
        .arg(format!("--size={}", BLOCKS * BS))
        .arg(format!("--io_size={}", DRAWS * BS))
        .arg(format!("--random_distribution={option}"))
        .arg(format!("--write_iolog={}", log.display()))
        .status()?;
    if !status.success() {
        return Err("fio failed".into());
    }
    shares_in(&log)
}

/// Reads an iolog of fio's: `[time] file read offset length`.
fn shares_in(log: &Path) -> Result<Vec<f64>, Failed> {
    let text = std::fs::read_to_string(log)?;
    let mut shares = vec![0.0; usize::try_from(BLOCKS)?];
    let mut count = 0.0;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(place) = words.iter().position(|&word| word == "read") else { continue };
        let offset: u64 = words.get(place + 1).ok_or("a line without an offset")?.parse()?;
        shares[usize::try_from(offset / BS)?] += 1.0;
        count += 1.0;
    }
    if count < DRAWS as f64 / 2.0 {
        return Err(format!("fio logged only {count} reads").into());
    }
    shares.iter_mut().for_each(|share| *share /= count);
    Ok(shares)
}

/// Compares the shares of the most popular blocks. Only few: fio scatters ranks by a hash, whose
/// collisions pile ranks up on one block; ours are scattered by a permutation, which has none.
fn popular(option: &str, distribution: &Distribution) -> Result<(), Failed> {
    let top = |mut shares: Vec<f64>, count: usize| -> f64 {
        shares.sort_by(|a, b| b.total_cmp(a));
        shares[..count].iter().sum()
    };
    let (ours, theirs) = (ours(distribution)?, theirs(option)?);
    for (count, tolerance) in [(1, 0.05), (3, 0.15)] {
        let (mine, fios) = (top(ours.clone(), count), top(theirs.clone(), count));
        if (mine / fios - 1.0).abs() > tolerance {
            return Err(format!("{option}: the top {count} get {mine:.4} here and {fios:.4} in fio").into());
        }
    }
    Ok(())
}

fn zones() -> Result<(), Failed> {
    let zones = [(60.0, 10.0), (30.0, 20.0), (8.0, 30.0), (2.0, 40.0)]
        .map(|(access_percent, range_percent)| Zone { access_percent, range_percent });
    let (ours, theirs) =
        (ours(&Distribution::Zoned(zones.to_vec()))?, theirs("zoned:60/10:30/20:8/30:2/40")?);
    for range in [0..100, 100..300, 300..600, 600..1000] {
        let (mine, fios): (f64, f64) = (ours[range.clone()].iter().sum(), theirs[range.clone()].iter().sum());
        if (mine - fios).abs() > 0.01 {
            return Err(format!("blocks {range:?} get {mine:.4} here and {fios:.4} in fio").into());
        }
    }
    Ok(())
}

/// The blocks that fio visits with `zonemode=strided`, in order.
fn windows_of_fio(blocks: u64, strides: &Strides, rw: &str) -> Result<Vec<u64>, Failed> {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("log");
    let status = Command::new("fio")
        .current_dir(directory.path())
        .args(["--name=x", "--ioengine=null", "--bs=4k", "--output=/dev/null", "--zonemode=strided"])
        .arg(format!("--rw={rw}"))
        .arg(format!("--size={}", blocks * BS))
        .arg(format!("--zonesize={}", strides.amount))
        .arg(format!("--zonerange={}", strides.range))
        .arg(format!("--zoneskip={}", strides.skip))
        .arg(format!("--write_iolog={}", log.display()))
        .status()?;
    if !status.success() {
        return Err("fio failed".into());
    }
    let text = std::fs::read_to_string(&log)?;
    let offset = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = words.iter().position(|&word| word == "read")?;
        words.get(place + 1)?.parse::<u64>().ok()
    };
    Ok(text.lines().filter_map(offset).map(|offset| offset / BS).collect())
}

fn windows_here(blocks: u64, strides: Strides, random: bool) -> Result<Vec<u64>, Failed> {
    let mut workload = Workload::new(&WorkloadSpec {
        regions: vec![Region { target: 0, start: 0, bytes: blocks * BS }],
        service: Default::default(),
        log: None,
        mix: Mix::Read,
        read_percent: 100,
        random,
        coverage: true,
        modifier: None,
        sizes: PerOp::all(BlockSizes::Fixed(4096)),
        align: PerOp::all(0),
        distribution: PerOp::all(Distribution::Random),
        percentage_random: PerOp::all(100),
        places: Places { strides: Some(strides), ..Places::default() },
        trim: None,
        seed: 1,
        limit: Limit { bytes: Some(blocks * BS), ..Limit::default() },
    })?;
    Ok(std::iter::from_fn(|| workload.next()).map(|step| step.offset / BS).collect())
}

/// In sequence the same blocks in the same order; at random the same blocks in each pass over a window.
fn windows() -> Result<(), Failed> {
    let jobs =
        [(16, 2, 2, 2), (16, 4, 2, 1), (256, 2, 4, 4), (256, 16, 16, 0), (256, 8, 8, 24), (64, 32, 16, 16)];
    for (blocks, amount, range, skip) in jobs {
        let strides = Strides { amount: amount * BS, range: range * BS, skip: skip * BS };
        let (mine, fios) = (windows_here(blocks, strides, false)?, windows_of_fio(blocks, &strides, "read")?);
        if mine != fios {
            return Err(format!("{strides:?}: {mine:?} here and {fios:?} in fio").into());
        }
        if amount < range {
            continue;
        }
        let sorted = |visits: Vec<u64>| -> Result<Vec<u64>, Failed> {
            let mut visits = visits;
            visits.chunks_mut(usize::try_from(range)?).for_each(<[u64]>::sort_unstable);
            Ok(visits)
        };
        let mine = sorted(windows_here(blocks, strides, true)?)?;
        let fios = sorted(windows_of_fio(blocks, &strides, "randread")?)?;
        if mine != fios {
            return Err(format!("at random, {strides:?}: {mine:?} here and {fios:?} in fio").into());
        }
    }
    Ok(())
}
