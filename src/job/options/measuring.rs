//! What is measured, when that is enough, and how it is told.

use super::{choice, entry};
use crate::base::steady::{Limit, Measure, Rule};
use crate::base::units::{parse_size, parse_time_ns};
use crate::job::kind::{Kind, Number, percent, text};
use crate::job::spec::{JobSpec, Unified};
use crate::job::table::OptionDef;
use crate::job::value::{Data, Outcome, Value, quote};

const SECTION: &str = "Measuring and reporting";
const STEADY: &str = "Steady state";

/// Most entries of `percentile_list`, as in fio.
const MOST_PERCENTILES: usize = 20;

fn set_steady(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let words = text(value)?;
    let words = words.trim().to_ascii_lowercase();
    let (name, limit) = match words.split_once(':') {
        Some((name, limit)) => (name.trim(), Some(limit.trim())),
        None => (words.as_str(), None),
    };
    let steady = &mut job.measuring.steady;
    if name == "snia" {
        steady.measure = match limit {
            None => Measure::Iops,
            Some(word) => measure_named(word).ok_or_else(|| {
                value.bad(format!(
                    "`{word}` is nothing that SNIA's rule watches: use snia, snia:bw or snia:lat"
                ))
            })?,
        };
        steady.rule = Rule::Snia;
        return Ok(());
    }
    let (measure, is_slope) = match name.strip_suffix("_slope") {
        Some(measure) => (measure, true),
        None => (name, false),
    };
    let measure = measure_named(measure).ok_or_else(|| {
        value.bad(format!(
            "`{name}` is no criterion: use iops, bw or lat, also with _slope behind it, or snia"
        ))
    })?;
    let limit =
        limit.ok_or_else(|| value.bad(format!("the limit is missing: write for example \"{name}:2%\"")))?;
    let limit = limit_of(value, measure, limit)?;
    steady.measure = measure;
    steady.rule = if is_slope { Rule::Slope(limit) } else { Rule::Deviation(limit) };
    Ok(())
}

fn measure_named(word: &str) -> Option<Measure> {
    [Measure::Iops, Measure::Bandwidth, Measure::Latency].into_iter().find(|measure| measure.name() == word)
}

fn limit_of(value: &Value, measure: Measure, limit: &str) -> Outcome<Limit> {
    let no_limit = || value.bad(format!("`{limit}` is no limit above 0"));
    #[expect(clippy::cast_precision_loss, reason = "a limit on rates and latencies")]
    let found = if let Some(share) = limit.strip_suffix('%') {
        percent(share).map(Limit::Percent)
    } else {
        let number = match measure {
            Measure::Iops => limit.parse().ok(),
            Measure::Bandwidth => parse_size(limit).ok().map(|bytes| bytes as f64),
            Measure::Latency => parse_time_ns(limit, 1000).ok().map(|ns| ns as f64),
        };
        number.map(Limit::Absolute)
    };
    match found {
        Some(limit @ (Limit::Absolute(number) | Limit::Percent(number)))
            if number.is_finite() && number > 0.0 =>
        {
            Ok(limit)
        }
        _ => Err(no_limit()),
    }
}

fn show_steady(job: &JobSpec) -> Option<String> {
    let steady = &job.measuring.steady;
    let unit = if steady.measure == Measure::Latency { "ns" } else { "" };
    Some(quote(&match (steady.limit(), steady.measure) {
        (None, Measure::Iops) => "snia".to_owned(),
        (None, measure) => format!("snia:{}", measure.name()),
        (Some(Limit::Percent(limit)), _) => format!("{}:{limit}%", steady.criterion()),
        (Some(Limit::Absolute(limit)), _) => format!("{}:{limit}{unit}", steady.criterion()),
    }))
}

fn set_percentiles(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let words: Vec<String> = match &value.data {
        Data::Text(text) => text.split(':').map(|word| word.trim().to_owned()).collect(),
        Data::Integer(Some(number)) => vec![number.to_string()],
        Data::Float(number) => vec![number.clone()],
        Data::List(items) => items.iter().map(one_percentile).collect::<Outcome<_>>()?,
        _ => return Err(value.wrong("percentiles, such as \"50:99:99.9\" or [50, 99, 99.9]")),
    };
    let mut list = Vec::new();
    for word in &words {
        match percent(word) {
            Some(percent) if percent > 0.0 => list.push(percent),
            _ => return Err(value.bad(format!("`{word}` is no percentile above 0 and up to 100"))),
        }
    }
    list.sort_by(f64::total_cmp);
    list.dedup();
    if list.len() > MOST_PERCENTILES {
        return Err(value.bad(format!("{} percentiles are more than {MOST_PERCENTILES}", list.len())));
    }
    job.measuring.percentiles = Some(list);
    Ok(())
}

fn one_percentile(value: &Value) -> Outcome<String> {
    match &value.data {
        Data::Text(text) => Ok(text.trim().to_owned()),
        Data::Integer(Some(number)) => Ok(number.to_string()),
        Data::Float(number) => Ok(number.clone()),
        _ => Err(value.wrong("a percentile")),
    }
}

fn show_percentiles(job: &JobSpec) -> Option<String> {
    let list = job.measuring.percentiles.as_ref()?;
    Some(quote(&list.iter().map(f64::to_string).collect::<Vec<_>>().join(":")))
}

fn set_kb_base(_: &mut JobSpec, value: &Value) -> Outcome<()> {
    match &value.data {
        Data::Integer(Some(1024)) => Ok(()),
        Data::Text(text) if text.trim() == "1024" => Ok(()),
        _ => Err(value.bad(
            "a k is 1024 here, always: write sizes that are powers of 1000 in bytes; rates are reported in both",
        )),
    }
}

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[
    entry(
        STEADY,
        "steadystate",
        &["ss"],
        "\"iops_slope:0.01%\"",
        Kind::Special {
            form: "iops, bw or lat, also with _slope behind it, then a colon and a limit: \"iops:2%\", \
                   \"lat_slope:10us\"; or \"snia\", \"snia:bw\", \"snia:lat\"",
            words: &["iops", "iops_slope", "bw", "bw_slope", "lat", "lat_slope", "snia"],
            set: set_steady,
            show: show_steady,
        },
        "Ends the job when it is steady. `iops`, `bw` and `lat` are steady when no round of the window is as far \
         from the mean of the window as the limit; with `_slope`, when the least squares line through its rounds \
         rises or falls less than the limit from round to round. A limit is a percentage of the mean, or I/Os a \
         second, bytes a second, or a time (bare: microseconds). They need `ss_dur`. `snia` is the rule of SNIA's \
         performance test specification: over five rounds of `ss_interval`, highest less lowest is no more than \
         20 % of the mean, and the fitted line rises or falls no more than 10 % of it from the first round to the \
         last; `snia:bw` and `snia:lat` watch something else than IOPS. All commands count together; \
         `lat` is completion latency. With `group_reporting` the jobs of a group are judged, and ended, together. \
         Rounds count while all workers run, after `ramp_time` and `ss_ramp`; where no I/O completes, nothing is \
         steady. Jobs that end before that say so in the report; it is no failure.",
    ),
    entry(
        STEADY,
        "steadystate_duration",
        &["ss_dur"],
        "\"0s\"",
        Kind::Time(Number::U64(|job| &mut job.measuring.steady.window_ns)),
        "The rolling window that is judged: at least two rounds, and whole ones. 0 looks for no steady state.",
    ),
    entry(
        STEADY,
        "steadystate_ramp_time",
        &["ss_ramp"],
        "0",
        Kind::Time(Number::U64(|job| &mut job.measuring.steady.ramp_ns)),
        "How long no round is measured, after `ramp_time`.",
    ),
    entry(
        STEADY,
        "steadystate_check_interval",
        &["ss_interval"],
        "one second, with snia a minute",
        Kind::Time(Number::MaybeU64(|job| &mut job.measuring.steady.round_ns)),
        "Length of a round: at least 100 ms.",
    ),
    entry(
        SECTION,
        "percentile_list",
        &[],
        "",
        Kind::Special {
            form: "up to 20 numbers above 0 and up to 100: \"50:99:99.9\" or [50, 99, 99.9]",
            words: &[],
            set: set_percentiles,
            show: show_percentiles,
        },
        "Which percentiles of latencies are reported. Without it, JSON has the 17 of fio, from 1 to 99.99, and the \
         report for people 50, 90, 99, 99.9 and 99.99. They are never interpolated: each is right to one part in 128.",
    ),
    entry(
        SECTION,
        "clat_percentiles",
        &[],
        "true",
        Kind::Flag(|job| &mut job.measuring.clat_percentiles),
        "Reports percentiles of completion latencies (with json+ also their buckets).",
    ),
    entry(
        SECTION,
        "lat_percentiles",
        &[],
        "true",
        Kind::Flag(|job| &mut job.measuring.lat_percentiles),
        "Reports percentiles of total latencies. fio's default is false: here they cost nothing more.",
    ),
    entry(
        SECTION,
        "slat_percentiles",
        &[],
        "true",
        Kind::Flag(|job| &mut job.measuring.slat_percentiles),
        "Reports percentiles of submission latencies. fio's default is false: here they cost nothing more.",
    ),
    entry(
        SECTION,
        "disable_lat",
        &[],
        "false",
        Kind::Flag(|job| &mut job.measuring.disable_lat),
        "Does not measure total latencies. Clocks are read once a turn of the loop here, not once an I/O, so that \
         this saves no more than an entry in a histogram, a few instructions a batch.",
    ),
    entry(
        SECTION,
        "disable_clat",
        &[],
        "false",
        Kind::Flag(|job| &mut job.measuring.disable_clat),
        "Does not measure completion latencies, nor report how long flushes took.",
    ),
    entry(
        SECTION,
        "disable_slat",
        &[],
        "false",
        Kind::Flag(|job| &mut job.measuring.disable_slat),
        "Does not measure submission latencies.",
    ),
    entry(
        SECTION,
        "disable_bw_measurement",
        &["disable_bw"],
        "false",
        Kind::Flag(|job| &mut job.measuring.disable_bw),
        "Leaves the bandwidth of intervals out (`bw_min` and the like in JSON). That of the whole run stays, and \
         so does the IOPS of intervals.",
    ),
    entry(
        SECTION,
        "gtod_reduce",
        &[],
        "false",
        Kind::Flag(|job| &mut job.measuring.gtod_reduce),
        "The same as `disable_lat`, `disable_clat`, `disable_slat` and `disable_bw_measurement` together: counts \
         and rates only.",
    ),
    entry(
        SECTION,
        "unified_rw_reporting",
        &[],
        "\"none\"",
        Kind::Choice {
            choices: &[
                choice("none", &["0", "false"]),
                choice("mixed", &["1", "true"]),
                choice("both", &["2"]),
            ],
            set: |job, word| {
                job.measuring.unified = match word {
                    "mixed" => Unified::Mixed,
                    "both" => Unified::Both,
                    _ => Unified::None,
                }
            },
            get: |job| match job.measuring.unified {
                Unified::None => "none",
                Unified::Mixed => "mixed",
                Unified::Both => "both",
            },
        },
        "`mixed` reports reads, writes and trims as one, `both` apart and then as one.",
    ),
    entry(
        SECTION,
        "stats",
        &[],
        "true",
        Kind::Flag(|job| &mut job.measuring.stats),
        "Whether the job is in the report. One that is not is named in a note, and is told all the same where it \
         failed, or verified with another result than that all is well.",
    ),
    entry(
        SECTION,
        "disk_util",
        &[],
        "true",
        Kind::Flag(|job| &mut job.measuring.disk_util),
        "Reports what the kernel counted for the block devices below the targets while jobs on them ran: I/Os, \
         sectors, merges, time, utilization, also those of other programs. Where a device is made of others, these \
         too, and their average. Engines that go round the kernel have none.",
    ),
    entry(
        SECTION,
        "significant_figures",
        &[],
        "4",
        Kind::Integer { min: 1, max: 10, field: Number::U8(|job| &mut job.measuring.figures) },
        "How many figures rates have in the report for people. JSON has all.",
    ),
    entry(
        SECTION,
        "unit_base",
        &[],
        "\"0\"",
        Kind::Choice {
            choices: &[choice("0", &[]), choice("8", &[]), choice("1", &[])],
            set: |job, word| job.measuring.bits = word == "1",
            get: |job| if job.measuring.bits { "1" } else { "0" },
        },
        "Bandwidth in the report for people: 8 in bytes, 1 in bits a second; 0 is 8.",
    ),
    entry(
        SECTION,
        "kb_base",
        &[],
        "\"1024\"",
        Kind::Special { form: "1024", words: &["1024"], set: set_kb_base, show: |_| Some(quote("1024")) },
        "What a `k` is in sizes: 1024, and nothing else; fio's 1000 is refused rather than misread. Reports show \
         bandwidth in powers of 1024 and of 1000 side by side.",
    ),
];

/// Options of fio that are refused, and why.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("minimal", "the terse formats of fio have no room for what is known here: use --output-format=json"),
    ("append-terse", "use --output-format=normal,json"),
    ("terse-version", "there is no terse format: use --output-format=json"),
];
