//! When I/Os are issued: pauses, rates, and what follows from latencies.

use super::{choice, entry};
use crate::base::PerOp;
use crate::base::units::parse_time_ns;
use crate::job::kind::{Field, Kind, Number, percent, show_time, size, text};
use crate::job::shapes::show_size;
use crate::job::spec::JobSpec;
use crate::job::table::OptionDef;
use crate::job::value::{Data, Outcome, Value, per_op, show_per_op};

const RATES: &str = "Rates and pauses";
const LATENCY: &str = "Demands on latency";

/// fio's unit of most of these times.
const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;

const SIZES: &str = "bytes a second, such as \"100m\"; per direction";
const MICROSECONDS: &str = "time: microseconds, or a string with a unit such as \"2ms\"";

/// A time whose bare numbers count in `unit_ns`.
fn time_in(value: &Value, unit_ns: u64) -> Outcome<u64> {
    let text = match &value.data {
        Data::Integer(Some(number)) => number.to_string(),
        Data::Float(number) => number.clone(),
        Data::Text(text) => text.clone(),
        _ => return Err(value.wrong("a time")),
    };
    parse_time_ns(&text, unit_ns).map_err(|why| value.bad(why))
}

fn some_time(value: &Value, unit_ns: u64) -> Outcome<u64> {
    let ns = time_in(value, unit_ns)?;
    if ns == 0 { Err(value.bad("a time of 0 is none")) } else { Ok(ns) }
}

fn rates(value: &Value, job: &mut JobSpec, field: Field<PerOp<u64>>) -> Outcome<()> {
    per_op(value, field(job), |value| size(value, 0, u64::MAX))
}

fn show_rates(rates: &PerOp<u64>) -> Option<String> {
    (*rates != PerOp::default()).then(|| show_per_op(rates, |&rate| show_size(rate)))
}

fn set_percentile(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let words = match &value.data {
        Data::Integer(Some(number)) => number.to_string(),
        Data::Float(number) => number.clone(),
        _ => text(value)?,
    };
    match percent(words.trim().trim_end_matches('%')).filter(|&share| share > 0.0) {
        Some(share) => job.pace.latency_percentile = share,
        None => return Err(value.bad("expected a percentage above 0, up to 100")),
    }
    Ok(())
}

fn set_submit_mode(_: &mut JobSpec, value: &Value) -> Outcome<()> {
    match text(value)?.trim() {
        "inline" => Ok(()),
        "offload" => Err(value.bad("submission is never handed to other threads here").help(
            "leave it out: with `rate` or `rate_iops` each I/O is due at its time whatever the device does, \
             and the response times count from there, which is what `offload` is for",
        )),
        _ => Err(value.bad("expected \"inline\"")),
    }
}

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[
    entry(
        RATES,
        "rate",
        &[],
        "no limit",
        Kind::Special {
            form: SIZES,
            words: &[],
            set: |job, value| rates(value, job, |job| &mut job.pace.rate),
            show: |job| show_rates(&job.pace.rate),
        },
        "Bytes a second that each worker issues at most: `\"1m,500k\"` for reads and writes, `\",500k\"` for \
         writes alone. Each I/O has a moment at which it is due, counted from the start and whatever the \
         device does; a worker that is late catches up. The report tells the *response time*, from that \
         moment to completion, beside the latencies: only there does it show that I/Os had to wait for a \
         device that stalled. In a mix of reads and writes each goes by its own rate, whatever \
         `rwmixread` says, unless the job verifies: then the mix stays, and the slower one holds the other \
         back. Reads that verify are not held back.",
    )
    .refused_beside_log("its times are those of the log; replay_time_scale changes them"),
    entry(
        RATES,
        "rate_iops",
        &[],
        "no limit",
        Kind::Special {
            form: "I/Os a second; per direction",
            words: &[],
            set: |job, value| {
                Kind::Integer {
                    min: 0,
                    max: u64::from(u32::MAX),
                    field: Number::PerOp(|job| &mut job.pace.rate_iops),
                }
                .set(job, value)
            },
            show: |job| show_counts(&job.pace.rate_iops),
        },
        "The same in I/Os a second. Where block sizes vary, it counts in bytes and takes the smallest \
         block for an I/O, as in fio.",
    )
    .refused_beside_log("its times are those of the log; replay_time_scale changes them"),
    entry(
        RATES,
        "rate_process",
        &[],
        "\"linear\"",
        Kind::Choice {
            choices: &[choice("linear", &[]), choice("poisson", &[])],
            set: |job, word| job.pace.poisson = word == "poisson",
            get: |job| if job.pace.poisson { "poisson" } else { "linear" },
        },
        "How I/Os fall due: `linear` at even distances, `poisson` at random as many independent users would \
         make them, with exponentially distributed gaps. The gaps come from the job's seed.",
    )
    .refused_beside_log("its times are those of the log; replay_time_scale changes them"),
    entry(
        RATES,
        "rate_min",
        &["ratemin"],
        "none",
        Kind::Special {
            form: SIZES,
            words: &[],
            set: |job, value| rates(value, job, |job| &mut job.pace.rate_min),
            show: |job| show_rates(&job.pace.rate_min),
        },
        "Bytes a second that each worker must reach. After 2 s to settle, a `rate_cycle` that stays below \
         ends the job, and the exit code is 3.",
    ),
    entry(
        RATES,
        "rate_iops_min",
        &[],
        "none",
        Kind::Special {
            form: "I/Os a second; per direction",
            words: &[],
            set: |job, value| {
                let field = Number::PerOp(|job| &mut job.pace.rate_iops_min);
                Kind::Integer { min: 0, max: u64::from(u32::MAX), field }.set(job, value)
            },
            show: |job| show_counts(&job.pace.rate_iops_min),
        },
        "The same in I/Os a second.",
    ),
    entry(
        RATES,
        "rate_cycle",
        &["ratecycle"],
        "\"1s\"",
        Kind::Special {
            form: "time: milliseconds, or a string with a unit such as \"2s\"",
            words: &[],
            set: |job, value| {
                job.pace.rate_cycle_ns = some_time(value, MILLISECOND)?;
                Ok(())
            },
            show: |job| Some(show_time(job.pace.rate_cycle_ns)),
        },
        "Over how long `rate_min` and `rate_iops_min` take the average.",
    ),
    entry(
        RATES,
        "rate_ignore_thinktime",
        &[],
        "false",
        Kind::Flag(|job| &mut job.pace.rate_ignore_thinktime),
        "What a rate would have issued in a `thinktime` is left out, instead of caught up.",
    ),
    entry(
        RATES,
        "thinktime",
        &[],
        "0",
        Kind::Special {
            form: MICROSECONDS,
            words: &[],
            set: |job, value| {
                job.pace.thinktime_ns = time_in(value, MICROSECOND)?;
                Ok(())
            },
            show: |job| Some(show_time(job.pace.thinktime_ns)),
        },
        "Pauses so long after each I/O, or after as many as `thinktime_blocks` says. A bare number is \
         microseconds.",
    ),
    entry(
        RATES,
        "thinktime_blocks",
        &[],
        "one, unless there is `thinktime_iotime`",
        Kind::Special {
            form: "integer, at least 1",
            words: &[],
            set: |job, value| {
                let field = Number::MaybeU32(|job| &mut job.pace.thinktime_blocks);
                Kind::Integer { min: 1, max: u64::from(u32::MAX), field }.set(job, value)
            },
            show: |job| job.pace.thinktime_blocks.map(|blocks| blocks.to_string()),
        },
        "How many I/Os are issued between two pauses; no more than these are in flight then. With \
         `thinktime_iotime` there is no such number unless this says one.",
    ),
    entry(
        RATES,
        "thinktime_blocks_type",
        &[],
        "\"complete\"",
        Kind::Choice {
            choices: &[choice("complete", &[]), choice("issue", &[])],
            set: |job, word| job.pace.thinktime_at_issue = word == "issue",
            get: |job| if job.pace.thinktime_at_issue { "issue" } else { "complete" },
        },
        "Whether a pause begins when all of the I/Os before it have completed, or as soon as they are issued.",
    ),
    entry(
        RATES,
        "thinktime_iotime",
        &[],
        "none",
        Kind::Time(Number::NonZeroU64(maybe_iotime)),
        "A pause comes each time that I/O has gone on for so long: 9 s with a `thinktime` of 1 s rests one \
         second in ten. A bare number is seconds. With `thinktime_blocks` whichever is first counts.",
    ),
    entry(
        RATES,
        "thinktime_spin",
        &[],
        "0",
        Kind::Special {
            form: MICROSECONDS,
            words: &[],
            set: |job, value| {
                job.pace.thinktime_spin_ns = time_in(value, MICROSECOND)?;
                Ok(())
            },
            show: |job| Some(show_time(job.pace.thinktime_spin_ns)),
        },
        "For so long of each pause, from its beginning, the processor is kept busy instead of left to others. \
         A bare number is microseconds.",
    ),
    entry(
        RATES,
        "thinkcycles",
        &[],
        "0",
        Kind::Integer { min: 0, max: u64::MAX, field: Number::U64(|job| &mut job.pace.thinkcycles) },
        "Keeps the processor busy for so many ticks of its time stamp counter before each I/O (nanoseconds \
         where it has none).",
    ),
    entry(
        RATES,
        "flow",
        &[],
        "0",
        Kind::Integer { min: 0, max: 1_000_000, field: Number::U32(|job| &mut job.pace.flow) },
        "The weight of each worker of the job among all that have the same `flow_id` and run together: with \
         weights 3, 2 and 1 they issue I/Os as 3:2:1. Who is ahead waits. 0 takes no part.",
    ),
    entry(
        RATES,
        "flow_id",
        &[],
        "0",
        Kind::Integer { min: 0, max: 0xffff_ffff, field: Number::U32(|job| &mut job.pace.flow_id) },
        "Which jobs share by their `flow`.",
    ),
    entry(
        RATES,
        "flow_sleep",
        &[],
        "\"0s\"",
        Kind::Special {
            form: MICROSECONDS,
            words: &[],
            set: |job, value| {
                job.pace.flow_sleep_ns = time_in(value, MICROSECOND)?;
                Ok(())
            },
            show: |job| Some(show_time(job.pace.flow_sleep_ns)),
        },
        "How long a worker rests that is ahead of its share. A bare number is microseconds; with 0 it looks \
         again right away.",
    ),
    entry(
        RATES,
        "io_submit_mode",
        &[],
        "\"inline\"",
        Kind::Special {
            form: "\"inline\"",
            words: &["inline"],
            set: set_submit_mode,
            show: |_| Some("\"inline\"".to_owned()),
        },
        "A worker submits its I/Os itself; there is no other way here. What fio has `offload` for, response \
         times that a slow device cannot hide, comes with `rate` and `rate_iops`.",
    ),
    entry(
        LATENCY,
        "max_latency",
        &[],
        "no limit",
        Kind::Special {
            form: "time: microseconds, or a string with a unit such as \"2ms\"; per direction",
            words: &[],
            set: |job, value| {
                per_op(value, &mut job.pace.max_latency_ns, |value| time_in(value, MICROSECOND))
            },
            show: |job| {
                let times = &job.pace.max_latency_ns;
                (*times != PerOp::default()).then(|| show_per_op(times, |&ns| show_time(ns)))
            },
        },
        "An I/O that takes longer ends the job with `ETIMEDOUT`, and the report says which it was; the exit \
         code is 3. It counts from submission, not from when a rate made it due. A bare number is microseconds.",
    ),
    entry(
        LATENCY,
        "latency_target",
        &[],
        "none",
        Kind::Special {
            form: MICROSECONDS,
            words: &[],
            set: |job, value| {
                job.pace.latency_target_ns = time_in(value, MICROSECOND)?;
                Ok(())
            },
            show: |job| (job.pace.latency_target_ns > 0).then(|| show_time(job.pace.latency_target_ns)),
        },
        "Looks for the largest queue depth, up to `iodepth`, at which I/Os take no longer than this: from \
         depth 1 on it doubles until a window fails, then bisects. What is reported is a last window at the \
         depth found, which ends the job. If even depth 1 takes longer, the exit code is 3. A bare number is \
         microseconds.",
    ),
    entry(
        LATENCY,
        "latency_window",
        &[],
        "\"1s\"",
        Kind::Special {
            form: MICROSECONDS,
            words: &[],
            set: |job, value| {
                job.pace.latency_window_ns = some_time(value, MICROSECOND)?;
                Ok(())
            },
            show: |job| Some(show_time(job.pace.latency_window_ns)),
        },
        "How long each depth is tried. All that a window issues is waited for and counts. A bare number is \
         microseconds.",
    ),
    entry(
        LATENCY,
        "latency_percentile",
        &[],
        "100",
        Kind::Special {
            form: "percentage above 0, up to 100",
            words: &[],
            set: set_percentile,
            show: |job| Some(job.pace.latency_percentile.to_string()),
        },
        "How many percent of the I/Os must keep to `latency_target`. With 100 the first slow one ends a window.",
    ),
    entry(
        LATENCY,
        "latency_run",
        &[],
        "false",
        Kind::Flag(|job| &mut job.pace.latency_run),
        "Goes on for as long as the job has to do, and keeps to `latency_target` by changing the depth.",
    ),
];

fn maybe_iotime(job: &mut JobSpec) -> &mut Option<u64> {
    &mut job.pace.thinktime_iotime_ns
}

fn show_counts(counts: &PerOp<u32>) -> Option<String> {
    (*counts != PerOp::default()).then(|| show_per_op(counts, u32::to_string))
}

/// Options of fio that are refused, and why.
pub(super) const REFUSED: &[(&str, &str)] = &[(
    "flow_watermark",
    "jobs share by the weights that `flow` gives them, as in fio since 3.22: there is no counter to set a mark for",
)];
