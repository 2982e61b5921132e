//! Power cuts of a drive behind the kernel, which keeps a log of its own. An oracle that shares no code with the
//! verification says from that log what must be found on the drive; the program, run as a user runs it, must find
//! just that, block by block.
//!
//! The drive is a file on FUSE: it needs root and /dev/fuse. Where one is missing the trials are skipped.
//!
//! `FIO_SPDK_FUSE_CUTS=100000 cargo test --test power_cut_fuse` cuts more often; `FIO_SPDK_FUSE_SEED=N` tries what
//! a seed began again.

#![allow(clippy::cast_possible_truncation, reason = "the drive is small")]
#![allow(clippy::print_stderr, reason = "says why trials are skipped, and what was tried")]

mod power_cut_fuse {
    pub mod drive;
    pub mod mount;
    pub mod oracle;
    pub mod trial;
}

use std::path::Path;

use libtest_mimic::{Arguments, Failed, Trial};

use power_cut_fuse::drive::LBA;
use power_cut_fuse::mount::Mounted;
use power_cut_fuse::trial::{Bench, SIZE, Sum};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fio-spdk");
/// Cuts of one mounted drive. What is on it before a cut is what the cuts before have left.
const CUTS_A_DRIVE: u64 = 10;
/// Cuts of all drives, where nothing else is asked for.
const CUTS: u64 = 500;
const CUTS_VARIABLE: &str = "FIO_SPDK_FUSE_CUTS";
const SEED_VARIABLE: &str = "FIO_SPDK_FUSE_SEED";
/// Failures that are shown.
const MOST_SHOWN: usize = 4;
/// What other workers had written must count as durable by a flush. If not it may.
const FLUSHES_ARE_SHARED: bool = false;

fn main() {
    let arguments = Arguments::from_args();
    let why_not = why_not();
    if let Some(why) = &why_not {
        eprintln!("skipped: power_cut_fuse: {why}");
    }
    let trial = |share: u64, name: &str| {
        let run = move || cuts(share);
        Trial::test(name, run).with_ignored_flag(why_not.is_some())
    };
    let trials = [
        trial(0, "an_independent_oracle_agrees_on_every_block"),
        trial(1, "an_independent_oracle_agrees_on_every_block_of_more_drives"),
    ];
    libtest_mimic::run(&arguments, trials.into()).exit();
}

/// Why no drive can be mounted here, if none can.
fn why_not() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if !Path::new("/dev/fuse").exists() {
        return Some("no /dev/fuse".to_owned());
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    Mounted::new(directory.path(), SIZE, 0).err().map(|why| format!("cannot mount: {why}"))
}

#[expect(clippy::disallowed_methods, reason = "says how long the test goes on, not what the program does")]
fn wanted(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Cuts the power of every second drive, from the `share`-th.
fn cuts(share: u64) -> Result<(), Failed> {
    let (mut sum, mut wrong) = (Sum::default(), Vec::new());
    let drives = wanted(CUTS_VARIABLE).unwrap_or(CUTS).div_ceil(CUTS_A_DRIVE);
    let one = wanted(SEED_VARIABLE);
    let drives: Vec<u64> =
        one.map_or_else(|| (0..drives).filter(|seed| seed % 2 == share).collect(), |seed| vec![seed]);
    for seed in drives {
        match cuts_of_a_drive(seed) {
            Ok(found) => sum.add(&found),
            Err(why) => {
                wrong.push(format!("replay: {SEED_VARIABLE}={seed} cargo test --test power_cut_fuse\n{why}"))
            }
        }
    }
    eprintln!("{sum:?}");
    if !wrong.is_empty() {
        let shown = wrong[..wrong.len().min(MOST_SHOWN)].join("\n\n");
        return Err(format!("{} drives of {sum:?}\n{shown}", wrong.len()).into());
    }
    if one.is_none() && (sum.violations == 0 || sum.open * 10 > sum.blocks) {
        return Err(format!("too little was decided: {sum:?}").into());
    }
    Ok(())
}

fn cuts_of_a_drive(seed: u64) -> Result<Sum, String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mount = directory.path().join("mount");
    std::fs::create_dir(&mount).expect("a directory");
    let mounted = Mounted::new(&mount, SIZE, seed).map_err(|why| format!("cannot mount: {why}"))?;
    let writers = vec![None; SIZE / LBA];
    let mut bench =
        Bench { program: PROGRAM, mounted: &mounted, directory: directory.path(), mount: &mount, writers };
    let mut sum = Sum::default();
    for cut in 0..CUTS_A_DRIVE {
        match bench.cut(seed * 1000 + cut, FLUSHES_ARE_SHARED) {
            Ok(found) => sum.add(&found),
            Err(why) => return Err(format!("cut {cut}: {}", why.0)),
        }
    }
    Ok(sum)
}
