//! Logs of I/Os: written, and replayed.

use std::path::PathBuf;

use super::entry;
use crate::base::replay::ReplaySkip;
use crate::job::kind::{Kind, Number, show_texts, text, texts, with_nearest};
use crate::job::setters::split_filenames;
use crate::job::spec::JobSpec;
use crate::job::table::OptionDef;
use crate::job::value::{Data, Outcome, Value, quote};

const SECTION: &str = "Logs of I/Os";

/// Names in `replay_skip`.
const SKIPS: [&str; 4] = ["read", "write", "trim", "sync"];
/// Percent, and rounds of a trace.
const MOST_PERCENT: u64 = 1_000_000;

fn set_path(value: &Value) -> Outcome<PathBuf> {
    let path = text(value)?;
    if path.is_empty() || path.contains('\0') {
        return Err(value.bad("this cannot be a path"));
    }
    if path == "-" {
        return Err(value.bad("standard output is for reports").help("name a file"));
    }
    Ok(path.into())
}

fn set_read(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let names = texts(value, split_filenames)?;
    if names.iter().any(|name| name == "-") {
        let why = "a log is read twice, which standard input cannot be";
        return Err(value.bad(why).help("put the log into a file"));
    }
    job.replay.read = names;
    Ok(())
}

fn set_redirect(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    job.replay.rules.redirect = Some(set_path(value)?.to_string_lossy().into_owned());
    Ok(())
}

fn set_skip(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let words = texts(value, |text| text.split(',').map(|word| word.trim().to_ascii_lowercase()).collect())?;
    let mut skip = ReplaySkip::default();
    for word in &words {
        match word.as_str() {
            "read" => skip.read = true,
            "write" => skip.write = true,
            "trim" => skip.trim = true,
            "sync" => skip.sync = true,
            other => {
                let issue = value.bad(format!("`{other}` is none of {}", SKIPS.join(", ")));
                return Err(with_nearest(issue, other, SKIPS.into_iter()));
            }
        }
    }
    job.replay.rules.skip = skip;
    Ok(())
}

fn show_skip(job: &JobSpec) -> Option<String> {
    let ReplaySkip { read, write, trim, sync } = job.replay.rules.skip;
    let words = SKIPS.into_iter().zip([read, write, trim, sync]);
    let words: Vec<&str> = words.filter(|(_, set)| *set).map(|(word, _)| word).collect();
    (!words.is_empty()).then(|| quote(&words.join(",")))
}

/// Numbers as fio lists them, with `:` between them, or as an array.
fn numbers(value: &Value) -> Outcome<Vec<f64>> {
    let one = |text: &str| -> Outcome<f64> {
        let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| value.bad(format!("`{text}` is no number")))
    };
    match &value.data {
        Data::Integer(Some(number)) => Ok(vec![one(&number.to_string())?]),
        Data::Float(text) => Ok(vec![one(text)?]),
        Data::Text(text) => text.split(':').map(one).collect(),
        Data::List(items) => {
            let lists = items.iter().map(numbers).collect::<Outcome<Vec<Vec<f64>>>>()?;
            Ok(lists.concat())
        }
        _ => Err(value.wrong("numbers with `:` between them")),
    }
}

fn set_scalars(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let all = numbers(value)?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    if let Some(bad) = all.iter().find(|&&number| !(0.01..=MOST_PERCENT as f64).contains(&number)) {
        return Err(value.bad(format!("{bad} is no percentage from 0.01 to {MOST_PERCENT}")));
    }
    job.replay.merge_scalars = all;
    Ok(())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be small and whole")]
fn set_iterations(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let all = numbers(value)?;
    if let Some(bad) = all.iter().find(|&&number| number.fract() != 0.0 || !(1.0..=1e6).contains(&number)) {
        return Err(value.bad(format!("{bad} is no whole number from 1 to 1000000")));
    }
    job.replay.merge_iterations = all.into_iter().map(|number| number as u32).collect();
    Ok(())
}

fn show_numbers<T: ToString>(all: &[T]) -> Option<String> {
    let texts: Vec<String> = all.iter().map(T::to_string).collect();
    (!texts.is_empty()).then(|| quote(&texts.join(":")))
}

fn show_path(path: Option<&PathBuf>) -> Option<String> {
    path.map(|path| quote(&path.to_string_lossy()))
}

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[
    entry(
        SECTION,
        "write_iolog",
        &[],
        "",
        Kind::Special {
            form: "path of a file",
            words: &[],
            set: |job, value| {
                job.replay.write = Some(set_path(value)?);
                Ok(())
            },
            show: |job| show_path(job.replay.write.as_ref()),
        },
        "Writes down every I/O that the job issues, when it was issued and where, in fio's format \
         version 3, which fio and `read_iolog` replay. Of several clones the k-th (from 0) writes to \
         this name with `.k` behind it. The file begins anew: fio appends. What `verify` reads back is \
         not written down. Where the disk of the log is slower than the job, the job waits: a log has \
         no holes, and the report says so.",
    ),
    entry(
        SECTION,
        "read_iolog",
        &[],
        "",
        Kind::Special {
            form: "path, several with `:` between them, or an array",
            words: &[],
            set: set_read,
            show: |job| show_texts(&job.replay.read),
        },
        "Replays a log instead of generating a workload: one of fio (version 2 or 3), one of blktrace \
         (what `blkparse -d` wrote, or `NAME` for the files `NAME.blktrace.0` and so on, merged by \
         time; only the arrival of I/Os counts; either byte order). Of several logs the clones take one \
         each, in turn. What is read, written, trimmed and flushed where is up to the log: \
         options that shape a generated workload (`rw`, `bs`, `size` and so on) are refused beside it. \
         Its files are found under the names in the log (below `directory`, if they are relative), \
         devices of blktrace under their numbers, or see `replay_redirect`. All are open all the time: \
         `open` and `close` do nothing. The log is looked through once before the start, so that every \
         mistake in it is told with its line, every target goes through the checks against overwriting, \
         and `readonly` refuses a log that writes; then it is read bit by bit, in bounded memory. \
         An I/O is due when its time has come, counted from the first line, whatever became of those \
         before it, as far as `iodepth` goes; the report says if many were late. Version 2 has `wait` \
         for that: microseconds from the `wait` before. With `verify` the writes of the log \
         hold blocks that are judged at the end: offsets and lengths must be multiples of the block, \
         two writes to the same bytes are never in flight together, and knowing what came last takes eight \
         bytes for each block of the bytes written to, at most 32 for each block written; the log is read once more for it.",
    )
    .shapes_data(),
    entry(
        SECTION,
        "read_iolog_chunked",
        &[],
        "true",
        Kind::Ignored,
        "Accepted for fio's sake: logs are always read bit by bit.",
    ),
    entry(
        SECTION,
        "replay_no_stall",
        &[],
        "false",
        Kind::Flag(|job| &mut job.replay.rules.no_stall),
        "Replays the I/Os as fast as they go, in their order: the times in the log do not count.",
    ),
    entry(
        SECTION,
        "replay_time_scale",
        &[],
        "100",
        Kind::Integer {
            min: 1,
            max: MOST_PERCENT,
            field: Number::U32(|job| &mut job.replay.rules.time_scale),
        },
        "The speed of the replay in percent of that in the log: 50 takes twice the time, 200 half of it.",
    ),
    entry(
        SECTION,
        "replay_redirect",
        &[],
        "",
        Kind::Special {
            form: "path of a file or device",
            words: &[],
            set: set_redirect,
            show: |job| job.replay.rules.redirect.as_deref().map(quote),
        },
        "Replays all I/Os on this one target, whatever the log says. With engine `spdk` that is what \
         `filename` does.",
    )
    .shapes_data(),
    entry(
        SECTION,
        "replay_align",
        &[],
        "0",
        Kind::Size { min: 0, max: 1 << 30, field: Number::U32(|job| &mut job.replay.rules.align) },
        "Rounds offsets down to a multiple of this power of two, after `replay_scale`; 0 leaves them as they are. Of logs of \
         blktrace it rounds lengths up too.",
    )
    .shapes_data(),
    entry(
        SECTION,
        "replay_scale",
        &[],
        "1",
        Kind::Integer { min: 1, max: u32::MAX as u64, field: Number::U32(|job| &mut job.replay.rules.scale) },
        "Divides offsets by this, for a target that is smaller; see `replay_align`.",
    )
    .shapes_data(),
    entry(
        SECTION,
        "replay_skip",
        &[],
        "",
        Kind::Special {
            form: "list of read, write, trim and sync",
            words: &SKIPS,
            set: set_skip,
            show: show_skip,
        },
        "Leaves these commands of the log out; the times of the others stay. `sync` is every kind of \
         flush.",
    )
    .shapes_data(),
    entry(
        SECTION,
        "merge_blktrace_file",
        &[],
        "",
        Kind::Special {
            form: "path of a file",
            words: &[],
            set: |job, value| {
                job.replay.merge_into = Some(set_path(value)?);
                Ok(())
            },
            show: |job| show_path(job.replay.merge_into.as_ref()),
        },
        "Makes one log of all those of `read_iolog`, which must be of blktrace, by time, puts it here and \
         replays that.",
    ),
    entry(
        SECTION,
        "merge_blktrace_scalars",
        &[],
        "all 100",
        Kind::Special {
            form: "percentages with `:` between them, or an array; one for each log",
            words: &[],
            set: set_scalars,
            show: |job| show_numbers(&job.replay.merge_scalars),
        },
        "Percent of the times of each log when they are merged: 50 makes it twice as fast.",
    )
    .shapes_data(),
    entry(
        SECTION,
        "merge_blktrace_iters",
        &[],
        "all 1",
        Kind::Special {
            form: "whole numbers with `:` between them, or an array; one for each log",
            words: &[],
            set: set_iterations,
            show: |job| show_numbers(&job.replay.merge_iterations),
        },
        "How often each log comes when they are merged, one round after the other.",
    )
    .shapes_data(),
];

/// Options of fio that are refused, and why.
pub(super) const REFUSED: &[(&str, &str)] = &[];
