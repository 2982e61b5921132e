//! Block sizes, distributions, mixes and CPU sets: the options with a grammar of their own.

use super::diagnostic::Issue;
use super::kind::{percent, show_integer, size, texts, with_nearest};
use super::spec::JobSpec;
use super::value::{Data, Outcome, Value, per_op, quote, show_per_op};
use crate::base::PerOp;
use crate::base::shape::{BlockSizes, Distribution, Mix, Zone, ZoneOfBytes};
use crate::base::units::parse_size;

/// Largest I/O, in bytes.
pub(crate) const MAX_BS: u64 = 1 << 30;
/// What `bs` is where nothing is said, as in fio.
pub(crate) const DEFAULT_BS: u32 = 4096;
/// Highest CPU number that Linux can have.
const MAX_CPU: u32 = 8_191;
/// As in fio.
const MAX_ZONES: usize = 256;

/// A size in TOML: a string with the largest unit that is exact, or a bare number.
pub(crate) fn show_size(bytes: u64) -> String {
    let text = size_text(bytes);
    if text.ends_with(|c: char| c.is_ascii_digit()) { show_integer(bytes) } else { quote(&text) }
}

pub(crate) fn size_text(bytes: u64) -> String {
    let units = [(50, "p"), (40, "t"), (30, "g"), (20, "m"), (10, "k")];
    match units.iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift)) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

fn block_size(value: &Value) -> Outcome<u32> {
    let bytes = size(value, 1, MAX_BS)?;
    u32::try_from(bytes).map_err(|_| value.bad("too large"))
}

/// A block size within a longer text.
fn block_size_in(value: &Value, text: &str) -> Outcome<u32> {
    let bytes = parse_size(text).map_err(|why| value.bad(format!("`{}`: {why}", text.trim())))?;
    u32::try_from(bytes)
        .ok()
        .filter(|&bytes| bytes > 0 && u64::from(bytes) <= MAX_BS)
        .ok_or_else(|| value.bad(format!("`{}`: block sizes are from 1 byte to 1 GiB", text.trim())))
}

/// `bs`.
pub(crate) fn set_bs(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    if job.bs.iter().any(|(_, sizes)| !matches!(sizes, BlockSizes::Fixed(_))) {
        job.bs = PerOp::all(BlockSizes::Fixed(DEFAULT_BS));
    }
    per_op(value, &mut job.bs, |value| match &value.data {
        Data::Text(text) if text.contains('/') => {
            Err(value.bad(format!("`{text}` is no size")).help("sizes with shares are set by `bssplit`"))
        }
        Data::Text(text) if text.contains('-') => {
            Err(value.bad(format!("`{text}` is no size")).help("a range of sizes is set by `bsrange`"))
        }
        _ => block_size(value).map(BlockSizes::Fixed),
    })
}

/// `bs` in TOML, if the block sizes are that simple.
pub(crate) fn show_bs(job: &JobSpec) -> Option<String> {
    let simple = job.bs.iter().all(|(_, sizes)| matches!(sizes, BlockSizes::Fixed(_)));
    simple.then(|| show_per_op(&job.bs, |sizes| show_size(u64::from(sizes.min()))))
}

/// `bsrange`.
pub(crate) fn set_bsrange(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    if job.bs.iter().any(|(_, sizes)| matches!(sizes, BlockSizes::Split(_))) {
        job.bs = PerOp::all(BlockSizes::Fixed(DEFAULT_BS));
    }
    per_op(value, &mut job.bs, |value| {
        let Data::Text(text) = &value.data else { return Err(value.wrong("a range of sizes")) };
        let Some((min, max)) = text.split_once('-') else {
            return Err(value.bad(format!("`{text}` is no range of sizes")));
        };
        let (min, max) = (block_size_in(value, min)?, block_size_in(value, max)?);
        match min.cmp(&max) {
            std::cmp::Ordering::Less => Ok(BlockSizes::Range { min, max }),
            std::cmp::Ordering::Equal => Ok(BlockSizes::Fixed(min)),
            std::cmp::Ordering::Greater => Err(value.bad("the range ends before it begins")),
        }
    })
}

/// `bsrange` in TOML, if there is a range.
pub(crate) fn show_bsrange(job: &JobSpec) -> Option<String> {
    let is_range =
        |sizes: &BlockSizes| matches!(sizes, BlockSizes::Range { .. } | BlockSizes::Unaligned { .. });
    let ranges = job.bs.iter().any(|(_, sizes)| is_range(sizes));
    ranges.then(|| {
        show_per_op(&job.bs, |sizes| {
            let (min, max) = (u64::from(sizes.min()), u64::from(sizes.max()));
            quote(&format!("{}-{}", size_text(min), size_text(max)))
        })
    })
}

/// `bssplit`.
pub(crate) fn set_bssplit(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    if job.bs.iter().any(|(_, sizes)| matches!(sizes, BlockSizes::Range { .. })) {
        job.bs = PerOp::all(BlockSizes::Fixed(DEFAULT_BS));
    }
    per_op(value, &mut job.bs, split)
}

fn split(value: &Value) -> Outcome<BlockSizes> {
    let entries = texts(value, |text| text.split(':').map(str::to_owned).collect())?;
    let mut sizes = Vec::new();
    for entry in &entries {
        let (bytes, share) = entry.split_once('/').unwrap_or((entry, ""));
        let share = match share.trim().trim_end_matches('%') {
            "" => None,
            number => Some(number.parse::<u32>().ok().filter(|&share| share <= 100).ok_or_else(|| {
                value.bad(format!("`{}` is no share: use whole percent from 0 to 100", share.trim()))
            })?),
        };
        sizes.push((block_size_in(value, bytes)?, share));
    }
    let given: u64 = sizes.iter().filter_map(|&(_, share)| share).map(u64::from).sum();
    let blanks = sizes.iter().filter(|(_, share)| share.is_none()).count() as u64;
    if given > 100 || (blanks == 0 && given < 100) {
        return Err(value.bad(format!("the shares add up to {given}, not to 100")));
    }
    if 100 - given < blanks {
        return Err(
            value.bad(format!("the shares given leave {} percent for {blanks} blank ones", 100 - given))
        );
    }
    // The rest may not divide evenly: the first blank ones take one percent more.
    let rest = 100 - given;
    let mut more = if blanks > 0 { rest % blanks } else { 0 };
    let mut list = Vec::new();
    for (bytes, share) in sizes {
        let share = match share {
            Some(share) => share,
            None => {
                let extra = u64::from(more > 0);
                more -= extra;
                u32::try_from(rest / blanks + extra).unwrap_or(0)
            }
        };
        // A size that never comes would only blur the smallest and largest.
        if share > 0 {
            list.push((bytes, share));
        }
    }
    Ok(if let [(bytes, _)] = list[..] { BlockSizes::Fixed(bytes) } else { BlockSizes::Split(list) })
}

/// `bssplit` in TOML, if there are shares.
pub(crate) fn show_bssplit(job: &JobSpec) -> Option<String> {
    let splits = job.bs.iter().any(|(_, sizes)| matches!(sizes, BlockSizes::Split(_)));
    splits.then(|| {
        show_per_op(&job.bs, |sizes| {
            let list = match sizes {
                BlockSizes::Split(list) => list.clone(),
                other => vec![(other.min(), 100)],
            };
            let entries: Vec<String> = list
                .iter()
                .map(|&(bytes, share)| format!("{}/{share}", size_text(u64::from(bytes))))
                .collect();
            quote(&entries.join(":"))
        })
    })
}

/// Names of `rw`, the first of each pair of synonyms being the one that is printed.
const MIXES: [(&str, bool, Mix); 11] = [
    ("read", false, Mix::Read),
    ("write", false, Mix::Write),
    ("trim", false, Mix::Trim),
    ("randread", true, Mix::Read),
    ("randwrite", true, Mix::Write),
    ("randtrim", true, Mix::Trim),
    ("rw", false, Mix::ReadWrite),
    ("readwrite", false, Mix::ReadWrite),
    ("randrw", true, Mix::ReadWrite),
    ("trimwrite", false, Mix::TrimWrite),
    ("randtrimwrite", true, Mix::TrimWrite),
];

/// The names alone.
pub(crate) const MIX_NAMES: [&str; MIXES.len()] = {
    let mut names = [""; MIXES.len()];
    let mut index = 0;
    while index < MIXES.len() {
        names[index] = MIXES[index].0;
        index += 1;
    }
    names
};

/// `rw`.
pub(crate) fn set_rw(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let Data::Text(text) = &value.data else { return Err(value.wrong("a string")) };
    let (word, modifier) = match text.split_once(':') {
        Some((word, modifier)) => (word.trim(), Some(modifier.trim())),
        None => (text.trim(), None),
    };
    let Some(&(_, random, mix)) = MIXES.iter().find(|(name, ..)| *name == word.to_ascii_lowercase()) else {
        let issue = value.bad(format!("`{word}` is no kind of workload"));
        return Err(with_nearest(issue, word, MIX_NAMES.into_iter()));
    };
    let modifier = match modifier {
        None => None,
        Some(modifier) => Some(rw_modifier(value, random, modifier)?),
    };
    (job.random, job.mix, job.rw_modifier) = (random, mix, modifier);
    Ok(())
}

fn rw_modifier(value: &Value, random: bool, text: &str) -> Outcome<u64> {
    let number = parse_size(text);
    if !random {
        return number.map_err(|why| {
            value.bad(format!("`{text}`: {why}")).help("after a sequential pattern stands the size of a hole")
        });
    }
    number.ok().filter(|&count| count > 0 && count <= u64::from(u32::MAX)).ok_or_else(|| {
        value
            .bad(format!("`{text}` is no number of I/Os from 1 to {}", u32::MAX))
            .help("after a random pattern stands how many I/Os follow each other")
    })
}

/// `rw` in TOML.
pub(crate) fn show_rw(job: &JobSpec) -> Option<String> {
    let (name, ..) = MIXES.iter().find(|(_, random, mix)| (*random, *mix) == (job.random, job.mix))?;
    Some(quote(&match job.rw_modifier {
        None => (*name).to_owned(),
        Some(count) if job.random => format!("{name}:{count}"),
        Some(bytes) => format!("{name}:{}", size_text(bytes)),
    }))
}

const DISTRIBUTIONS: [&str; 7] = ["random", "zipf", "pareto", "normal", "zoned", "zoned_abs", "sequence"];
/// As in fio.
const MAX_SEQUENCE: usize = 64;

/// `random_distribution` of one direction.
pub(crate) fn distribution(value: &Value) -> Outcome<Distribution> {
    let Data::Text(text) = &value.data else { return Err(value.wrong("a string")) };
    let (name, rest) = match text.split_once(':') {
        Some((name, rest)) => (name.trim(), Some(rest.trim())),
        None => (text.trim(), None),
    };
    let number = |default: f64, what: &str, ok: fn(f64) -> bool| -> Outcome<f64> {
        let Some(rest) = rest else { return Ok(default) };
        if rest.contains(':') {
            return Err(value.bad("a centre of the distribution is not supported yet"));
        }
        percent(rest).filter(|&number| ok(number)).ok_or_else(|| value.bad(format!("`{rest}` is not {what}")))
    };
    match name {
        "random" if rest.is_none() => Ok(Distribution::Random),
        "random" => Err(value.bad("`random` takes no number")),
        "zipf" => {
            number(1.1, "a theta: above 0, at most 100, other than 1", |theta| theta > 0.0 && theta != 1.0)
                .map(Distribution::Zipf)
        }
        "pareto" => number(0.2, "between 0 and 1", |h| h > 0.0 && h < 1.0).map(Distribution::Pareto),
        "normal" => number(0.0, "a deviation from 0 to 100", |_| true).map(Distribution::Normal),
        "zoned" => zones(value, rest.unwrap_or("")).map(Distribution::Zoned),
        "zoned_abs" => zones_of_bytes(value, rest.unwrap_or("")).map(Distribution::ZonedAbs),
        "sequence" => sequence(value, rest.unwrap_or("")),
        _ => {
            let issue = value.bad(format!("`{name}` is no distribution"));
            Err(with_nearest(issue, name, DISTRIBUTIONS.into_iter()))
        }
    }
}

fn zones(value: &Value, text: &str) -> Outcome<Vec<Zone>> {
    let entries: Vec<&str> = text.split(':').collect();
    if text.is_empty() {
        return Err(value.bad("`zoned` needs its zones").help("for example \"zoned:60/10:30/20:10/70\""));
    }
    if entries.len() > MAX_ZONES {
        return Err(value.bad(format!("{} zones: at most {MAX_ZONES}", entries.len())));
    }
    let share = |text: &str| match text.trim() {
        "" => Ok(None),
        text => match percent(text) {
            Some(share) => Ok(Some(share)),
            None => Err(value.bad(format!("`{text}` is no share from 0 to 100"))),
        },
    };
    let (mut access, mut range) = (Vec::new(), Vec::new());
    for entry in entries {
        let (left, right) = entry.split_once('/').unwrap_or((entry, ""));
        access.push(share(left)?);
        range.push(share(right)?);
    }
    let access = shared_out(value, &access, "accesses")?;
    let range = shared_out(value, &range, "region")?;
    let zone = |(access_percent, range_percent)| Zone { access_percent, range_percent };
    let zones: Vec<Zone> = access.into_iter().zip(range).map(zone).collect();
    if zones.iter().any(|zone| zone.access_percent > 0.0 && zone.range_percent == 0.0) {
        return Err(value.bad("a zone without room cannot have accesses"));
    }
    Ok(zones)
}

/// The zones of `zoned_abs`. Sizes have no default: a blank one could only be guessed.
fn zones_of_bytes(value: &Value, text: &str) -> Outcome<Vec<ZoneOfBytes>> {
    let example = "for example \"zoned_abs:60/20g:30/100g:10/500g\"";
    let entries: Vec<&str> = text.split(':').collect();
    if entries.len() > MAX_ZONES {
        return Err(value.bad(format!("{} zones: at most {MAX_ZONES}", entries.len())));
    }
    let (mut access, mut bytes) = (Vec::new(), Vec::new());
    for entry in entries {
        let parts = entry.split_once('/').filter(|(_, size)| !size.trim().is_empty());
        let Some((share, size)) = parts else {
            return Err(value.bad(format!("the zone `{entry}` has no size")).help(example));
        };
        access.push(match share.trim() {
            "" => None,
            share => Some(
                percent(share).ok_or_else(|| value.bad(format!("`{share}` is no share from 0 to 100")))?,
            ),
        });
        let size = parse_size(size).map_err(|why| value.bad(format!("`{size}`: {why}")))?;
        bytes.push(size);
    }
    if bytes.contains(&0) {
        return Err(value.bad("a zone has a size above 0"));
    }
    let access = shared_out(value, &access, "accesses")?;
    let zone = |(access_percent, bytes)| ZoneOfBytes { access_percent, bytes };
    Ok(access.into_iter().zip(bytes).map(zone).collect())
}

/// `sequence`. Whether it moves on is said by another option.
fn sequence(value: &Value, text: &str) -> Outcome<Distribution> {
    let block = |text: &str| {
        text.trim().parse::<u64>().ok().filter(|&block| block < 1 << 62).ok_or_else(|| {
            value.bad(format!("`{text}` is no number of a block")).help("for example \"sequence:2,0,1\"")
        })
    };
    let blocks = text.split(',').map(block).collect::<Outcome<Vec<u64>>>()?;
    if blocks.len() > MAX_SEQUENCE {
        return Err(value.bad(format!("{} blocks: at most {MAX_SEQUENCE}", blocks.len())));
    }
    Ok(Distribution::Sequence { blocks, strides: false })
}

/// `random_distribution`. The commas of a sequence are its own, unlike those between directions.
pub(crate) fn set_distribution(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    if let Data::Text(text) = &value.data
        && text.trim_start().starts_with("sequence")
    {
        job.random_distribution = PerOp::all(distribution(value)?);
        return Ok(());
    }
    per_op(value, &mut job.random_distribution, distribution)
}

/// Fills the blanks with even parts of what is left of 100.
fn shared_out(value: &Value, shares: &[Option<f64>], what: &str) -> Outcome<Vec<f64>> {
    const TOLERANCE: f64 = 1e-6;
    let given: f64 = shares.iter().flatten().sum();
    let blanks = shares.iter().filter(|share| share.is_none()).count();
    if given > 100.0 + TOLERANCE || (blanks == 0 && given < 100.0 - TOLERANCE) {
        return Err(value.bad(format!("the shares of the {what} add up to {given}, not to 100")));
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 256")]
    let rest = (100.0 - given).max(0.0) / blanks.max(1) as f64;
    Ok(shares.iter().map(|share| share.unwrap_or(rest)).collect())
}

/// `random_distribution` in TOML.
pub(crate) fn show_distribution(distribution: &Distribution) -> String {
    quote(&match distribution {
        Distribution::Random => "random".to_owned(),
        Distribution::Zipf(theta) => format!("zipf:{theta}"),
        Distribution::Pareto(h) => format!("pareto:{h}"),
        Distribution::Normal(deviation) => format!("normal:{deviation}"),
        Distribution::Zoned(zones) => {
            let entries: Vec<String> =
                zones.iter().map(|zone| format!("{}/{}", zone.access_percent, zone.range_percent)).collect();
            format!("zoned:{}", entries.join(":"))
        }
        Distribution::ZonedAbs(zones) => {
            let entries: Vec<String> = zones
                .iter()
                .map(|zone| format!("{}/{}", zone.access_percent, size_text(zone.bytes)))
                .collect();
            format!("zoned_abs:{}", entries.join(":"))
        }
        Distribution::Sequence { blocks, .. } => {
            let blocks: Vec<String> = blocks.iter().map(u64::to_string).collect();
            format!("sequence:{}", blocks.join(","))
        }
    })
}

/// A set of CPUs, in rising order.
pub(crate) fn cpus(value: &Value) -> Outcome<Vec<u32>> {
    let mut cpus = vec![false; MAX_CPU as usize + 1];
    let one = |value: &Value, text: &str| -> Outcome<u32> {
        text.trim()
            .parse()
            .ok()
            .filter(|&cpu| cpu <= MAX_CPU)
            .ok_or_else(|| value.bad(format!("`{}` is no CPU number from 0 to {MAX_CPU}", text.trim())))
    };
    let mut add = |value: &Value| -> Outcome<()> {
        let text = match &value.data {
            Data::Integer(Some(cpu)) => cpu.to_string(),
            Data::Text(text) => text.clone(),
            _ => return Err(value.wrong("CPU numbers or ranges such as \"0-3\"")),
        };
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (one(value, first)?, one(value, last)?);
            if first > last {
                return Err(value.bad(format!("the range `{}` ends before it begins", part.trim())));
            }
            cpus[first as usize..=last as usize].fill(true);
        }
        Ok(())
    };
    match &value.data {
        Data::List(items) if items.is_empty() => return Err(value.bad("no CPU at all")),
        Data::List(items) => items.iter().try_for_each(&mut add)?,
        _ => add(value)?,
    }
    Ok((0..=MAX_CPU).filter(|&cpu| cpus[cpu as usize]).collect())
}

/// A set of CPUs in TOML.
pub(crate) fn show_cpus(cpus: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let one = |&(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let parts: Vec<String> = ranges.iter().map(one).collect();
    quote(&parts.join(","))
}

/// The words of `continue_on_error`.
pub(crate) const ERROR_KINDS: [&str; 6] = ["none", "read", "write", "io", "verify", "all"];

/// `continue_on_error`: a word of fio's, or an array of them.
pub(crate) fn set_continue_on(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let words = match &value.data {
        Data::Bool(flag) => vec![if *flag { "all" } else { "none" }.to_owned()],
        Data::Integer(Some(number)) => vec![number.to_string()],
        _ => texts(value, |text| vec![text.trim().to_owned()])?,
    };
    let mut on = super::spec::ContinueOn::default();
    for word in &words {
        let (read, write, verify) = match word.as_str() {
            "none" | "0" => (false, false, false),
            "read" => (true, false, false),
            "write" => (false, true, false),
            "io" => (true, true, false),
            "verify" => (false, false, true),
            "all" | "1" => (true, true, true),
            _ => {
                let issue: Issue = value.bad(format!("`{word}` is no kind of error"));
                return Err(with_nearest(issue, word, ERROR_KINDS.into_iter()));
            }
        };
        on.read |= read;
        on.write |= write;
        on.verify |= verify;
    }
    job.continue_on_error = on;
    Ok(())
}

/// `continue_on_error` in TOML.
pub(crate) fn show_continue_on(job: &JobSpec) -> Option<String> {
    let on = job.continue_on_error;
    Some(
        match (on.read, on.write, on.verify) {
            (false, false, false) => "\"none\"",
            (true, false, false) => "\"read\"",
            (false, true, false) => "\"write\"",
            (true, true, false) => "\"io\"",
            (false, false, true) => "\"verify\"",
            (true, false, true) => "[\"read\", \"verify\"]",
            (false, true, true) => "[\"write\", \"verify\"]",
            (true, true, true) => "\"all\"",
        }
        .to_owned(),
    )
}
