//! What is logged while the job runs, in fio's formats.

use super::{choice, entry};
use crate::base::units::parse_time_ns;
use crate::job::diagnostic::Issue;
use crate::job::kind::{Kind, Number, integer, show_integer, show_time};
use crate::job::shapes;
use crate::job::spec::{JobSpec, LogName, WindowValue};
use crate::job::table::OptionDef;
use crate::job::value::{Data, Outcome, Value, quote};

const SECTION: &str = "Logs";

const MILLISECOND_NS: u64 = 1_000_000;
/// The longest window: what fits an `int` of milliseconds, as in fio.
const MOST_NS: u64 = i32::MAX as u64 * MILLISECOND_NS;

/// Clocks of clock_gettime(2) that tell a time, by number.
const CLOCKS: [u64; 7] = [0, 1, 4, 5, 6, 7, 11];

const NAME_FORM: &str = "true, or a string that the names of the files begin with";
const TIME_FORM: &str = "time: milliseconds, or a string with a unit such as \"1s\"";

/// `true`, or what the name begins with. On the command line an option without a value, or with an
/// empty one, is `true`.
fn set_name(value: &Value) -> Outcome<Option<LogName>> {
    match &value.data {
        Data::Bool(on) => Ok(on.then_some(LogName::Job)),
        Data::Text(text) => match text.as_str() {
            "" | "true" => Ok(Some(LogName::Job)),
            "false" => Ok(None),
            prefix if prefix.contains(char::is_control) => {
                Err(value.bad("the name of a file has no control characters"))
            }
            prefix => Ok(Some(LogName::Prefix(prefix.to_owned()))),
        },
        _ => Err(value.wrong("true or a string")),
    }
}

fn show_name(name: Option<&LogName>) -> Option<String> {
    match name? {
        LogName::Job => Some("true".to_owned()),
        LogName::Prefix(prefix) => Some(quote(prefix)),
    }
}

/// A time whose bare numbers are milliseconds, as fio's are; 0, or at least one millisecond.
fn milliseconds(value: &Value, least: u64) -> Outcome<u64> {
    let text = match &value.data {
        Data::Integer(Some(number)) if *number < 0 => return Err(value.bad("must not be negative")),
        Data::Integer(Some(number)) => number.to_string(),
        Data::Integer(None) => return Err(value.bad("the number is too large")),
        Data::Float(text) | Data::Text(text) => text.clone(),
        _ => return Err(value.wrong("a time")),
    };
    let ns = parse_time_ns(&text, MILLISECOND_NS).map_err(|why| value.bad(why))?;
    if ns > 0 && ns < MILLISECOND_NS {
        return Err(value.bad("the clock of logs counts milliseconds: 1ms is the least"));
    }
    if ns < least {
        return Err(value.bad("an interval of 0 has no rate: 1ms is the least"));
    }
    if ns > MOST_NS {
        return Err(value.bad(format!("{} is above {}", show_time(ns), show_time(MOST_NS))));
    }
    Ok(ns)
}

fn clock(value: &Value) -> Outcome<u32> {
    let id = integer(value, 0, u64::from(u32::MAX))?;
    if CLOCKS.contains(&id) {
        return Ok(u32::try_from(id).unwrap_or(0));
    }
    let why = match id {
        2 | 3 => "this clock counts processor time, which has no epoch".to_owned(),
        8 | 9 => "the clocks of alarms are those without: use 0 or 7".to_owned(),
        _ => format!("there is no clock {id} whose time could be told"),
    };
    let known = "0 CLOCK_REALTIME, 1 CLOCK_MONOTONIC, 4 CLOCK_MONOTONIC_RAW, 5 and 6 the coarse ones, 7 \
                 CLOCK_BOOTTIME, 11 CLOCK_TAI";
    Err(Issue::new(why).at(&value.place).help(known))
}

/// An entry that takes a name.
const fn named(
    name: &'static str,
    set: fn(&mut JobSpec, &Value) -> Outcome<()>,
    show: fn(&JobSpec) -> Option<String>,
    doc: &'static str,
) -> OptionDef {
    let kind = Kind::Special { form: NAME_FORM, words: &["true", "false"], set, show };
    entry(SECTION, name, &[], "false", kind, doc)
}

/// An entry that takes a time in milliseconds.
const fn timed(
    name: &'static str,
    default: &'static str,
    set: fn(&mut JobSpec, &Value) -> Outcome<()>,
    show: fn(&JobSpec) -> Option<String>,
    doc: &'static str,
) -> OptionDef {
    entry(SECTION, name, &[], default, Kind::Special { form: TIME_FORM, words: &[], set, show }, doc)
}

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[
    named(
        "write_bw_log",
        |job, value| {
            job.logs.bandwidth = set_name(value)?;
            Ok(())
        },
        |job| show_name(job.logs.bandwidth.as_ref()),
        "Writes a log of bandwidths, `NAME_bw.N.log`, in fio's format: NAME is this text, or with `true` the \
         job's name, and N counts the workers of the run from 1. A line is `time (ms), value, direction \
         (0 read, 1 write, 2 trim), bytes of the I/O, priority`; `log_offset`, `log_prio` and \
         `log_issue_time` add to it. The value is in KiB/s: of each I/O its bytes by its `clat`, and with \
         `log_avg_msec` that of the window. Times begin with the job, or where `ramp_time` ends: before, \
         nothing is logged. Existing files are overwritten. The device never waits for a log: if what is \
         written on cannot follow, I/Os are left out of the logs (not of the report), the last line of the \
         log and the report say how many, and the exit code is 4.",
    ),
    named(
        "write_lat_log",
        |job, value| {
            job.logs.latency = set_name(value)?;
            Ok(())
        },
        |job| show_name(job.logs.latency.as_ref()),
        "Writes logs of latencies in nanoseconds: `NAME_slat.N.log` (submission; empty for engines that \
         have no doorbell to ring), `NAME_clat.N.log` (completion) and `NAME_lat.N.log` (both). See \
         `write_bw_log`.",
    ),
    named(
        "write_iops_log",
        |job, value| {
            job.logs.iops = set_name(value)?;
            Ok(())
        },
        |job| show_name(job.logs.iops.as_ref()),
        "Writes a log of IOPS, `NAME_iops.N.log`: a 1 for each I/O, or with `log_avg_msec` the IOPS of each \
         window. See `write_bw_log`.",
    ),
    named(
        "write_hist_log",
        |job, value| {
            job.logs.histogram = set_name(value)?;
            Ok(())
        },
        |job| show_name(job.logs.histogram.as_ref()),
        "Writes a log of histograms of completion latencies, `NAME_clat_hist.N.log`, a line each \
         `log_hist_msec` (which it needs) and direction: `time (ms), direction, block size (0 if there are \
         several)`, and how many I/Os of that time fell into each of fio's 1856 bins, so that fio's tools \
         read it. Unlike fio's, the last line has what is left when the job ends: all lines together have \
         every I/O of the report.",
    ),
    timed(
        "log_avg_msec",
        "\"0s\"",
        |job, value| {
            job.logs.window_ns = milliseconds(value, 0)?;
            Ok(())
        },
        |job| Some(show_time(job.logs.window_ns)),
        "Logs one line for each direction and window of this length, instead of each I/O; 0 logs each I/O. \
         Windows end within a millisecond of their time, and rates are by their true length. A window in \
         which nothing completed has no line; the last one ends with the job. Size, offset and issue time \
         are 0 then.",
    ),
    entry(
        SECTION,
        "log_window_value",
        &["log_max_value"],
        "\"avg\"",
        Kind::Choice {
            choices: &[choice("avg", &["0", "false"]), choice("max", &["1", "true"]), choice("both", &[])],
            set: |job, word| {
                job.logs.window_value = match word {
                    "max" => WindowValue::Max,
                    "both" => WindowValue::Both,
                    _ => WindowValue::Average,
                }
            },
            get: |job| match job.logs.window_value {
                WindowValue::Average => "avg",
                WindowValue::Max => "max",
                WindowValue::Both => "both",
            },
        },
        "With `log_avg_msec`, which latency of a window is logged: the mean, the largest, or both in two \
         columns. For bandwidth and IOPS both are the same.",
    ),
    timed(
        "log_hist_msec",
        "\"0s\"",
        |job, value| {
            job.logs.histogram_ns = milliseconds(value, 0)?;
            Ok(())
        },
        |job| Some(show_time(job.logs.histogram_ns)),
        "How long each histogram of `write_hist_log` is.",
    ),
    entry(
        SECTION,
        "log_hist_coarseness",
        &[],
        "0",
        Kind::Integer { min: 0, max: 6, field: Number::U32(|job| &mut job.logs.coarseness) },
        "Halves the number of bins in `write_hist_log` this often: 1856, 928, 464, 232, 116, 58, 29.",
    ),
    entry(
        SECTION,
        "log_offset",
        &[],
        "false",
        Kind::Flag(|job| &mut job.logs.offset),
        "Adds a column behind the size: the offset of the I/O in bytes.",
    ),
    entry(
        SECTION,
        "log_prio",
        &[],
        "false",
        Kind::Flag(|job| &mut job.logs.priority),
        "Shows the I/O's priority as the kernel has it, a hexadecimal number with the class in the highest \
         three bits: its own (`cmdprio_percentage`), or that of `prio`, `prioclass` and `priohint`. Otherwise the \
         column says whether it is of the realtime class (1) or not (0). With `log_avg_msec` it is 0.",
    ),
    entry(
        SECTION,
        "log_issue_time",
        &[],
        "false",
        Kind::Flag(|job| &mut job.logs.issue_time),
        "Adds a last column: when the I/O was handed to the device, in nanoseconds since the job began (in \
         the logs of `slat` and `clat`; 0 in others). It needs `write_lat_log` and `log_offset`.",
    ),
    entry(
        SECTION,
        "log_entries",
        &[],
        "65536",
        Kind::Integer { min: 1024, max: 1 << 20, field: Number::U32(|job| &mut job.logs.entries) },
        "How many I/Os a worker may be ahead of the thread that writes its logs, 40 bytes of memory each, \
         taken before the start. Raise it if I/Os were left out of a log.",
    ),
    entry(
        SECTION,
        "log_alternate_epoch",
        &["log_unix_epoch"],
        "false",
        Kind::Flag(|job| &mut job.logs.alternate_epoch),
        "Times of logs are those of a clock, the one of `log_alternate_epoch_clock_id`, instead of since \
         the job began.",
    ),
    entry(
        SECTION,
        "log_alternate_epoch_clock_id",
        &[],
        "0",
        Kind::Special {
            form: "number of a clock of clock_gettime(2)",
            words: &[],
            set: |job, value| {
                job.logs.clock_id = clock(value)?;
                Ok(())
            },
            show: |job| Some(show_integer(u64::from(job.logs.clock_id))),
        },
        "Which clock `log_alternate_epoch` means: 0 is CLOCK_REALTIME, time since 1970, and 1 \
         CLOCK_MONOTONIC. It is read once, when the job begins.",
    ),
    entry(
        SECTION,
        "log_store_compressed",
        &[],
        "false",
        Kind::Flag(|job| &mut job.logs.compressed),
        "Compresses logs while they are written: `NAME_bw.N.log.gz`, for zcat and its like. fio's own \
         `.fz` holds the memory of one build of fio, and is not written.",
    ),
    entry(
        SECTION,
        "log_compression_cpus",
        &[],
        "those that no worker is pinned to, if there are any",
        Kind::Special {
            form: "CPU numbers such as \"0-3,5\", or array of them",
            words: &[],
            set: |job, value| {
                job.logs.cpus = Some(shapes::cpus(value)?);
                Ok(())
            },
            show: |job| job.logs.cpus.as_deref().map(shapes::show_cpus),
        },
        "CPUs of the thread that writes the job's logs, and compresses them if it is to.",
    ),
    entry(
        SECTION,
        "per_job_logs",
        &[],
        "true",
        Kind::Flag(|job| &mut job.logs.per_job),
        "`false`: the workers with one name of a log share its file, which has no number then \
         (`NAME_bw.log`). As in fio, what it already holds stays, and lines are added behind; those of \
         several workers take turns.",
    ),
    timed(
        "bwavgtime",
        "as long as the windows of its log, or 500ms",
        |job, value| {
            job.logs.bandwidth_interval_ns = Some(milliseconds(value, 1)?);
            Ok(())
        },
        |job| job.logs.bandwidth_interval_ns.map(show_time),
        "Over which intervals the report's smallest, largest and mean bandwidth are taken. With \
         `write_bw_log` and `log_avg_msec`, windows of that log are no longer than this; and where this is \
         not set, the report's intervals are those windows.",
    ),
    timed(
        "iopsavgtime",
        "as long as the windows of its log, or 500ms",
        |job, value| {
            job.logs.iops_interval_ns = Some(milliseconds(value, 1)?);
            Ok(())
        },
        |job| job.logs.iops_interval_ns.map(show_time),
        "The same for the report's IOPS and `write_iops_log`.",
    ),
];

/// Options of fio that are refused, and why.
pub(super) const REFUSED: &[(&str, &str)] = &[(
    "log_compression",
    "logs are written while the job runs and do not gather in memory, so there is nothing to compress there; for \
     compressed files set log_store_compressed = true",
)];
