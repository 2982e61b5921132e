//! `fio-spdk state show`: what a snapshot says was promised.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::base::Op;
use crate::base::host::printable;
use crate::base::units::format_size;
use crate::report::{PremisesReport, atomic_object, calendar};
use crate::run::load_snapshot;
use crate::verify::promises::{Mutated, Promises};
use crate::verify::snapshot::{Cause, JobState, Snapshot, TargetState, WorkerState, WrittenRange};

use super::streams::stderr_line;
use super::{EXIT_USAGE, output};

/// Numbers that are listed; of more, how many there are.
const MOST_LISTED: usize = 16;

/// What to show, and how.
#[derive(Debug)]
pub struct Request {
    pub file: PathBuf,
    pub json: bool,
}

/// Shows a snapshot; the exit code.
pub fn show(request: &Request) -> u8 {
    match load_snapshot(&request.file) {
        Ok(loaded) => {
            if let Some(owner) = loaded.stranger {
                let file = request.file.display();
                stderr_line!("note: {file} belongs to user {owner}, who may have written anything into it");
            }
            let shown = &loaded.snapshot;
            output::print(&if request.json { format!("{:#}\n", object(shown)) } else { text(shown) })
        }
        Err(why) => {
            stderr_line!("error: {why}");
            EXIT_USAGE
        }
    }
}

fn cause(snapshot: &Snapshot) -> &'static str {
    match snapshot.cause {
        Cause::Ended => "when the writing ended",
        Cause::Trigger => "when a trigger fired",
        Cause::Checkpoint => "by a checkpoint, while the job ran",
    }
}

fn text(snapshot: &Snapshot) -> String {
    let mut out = format!(
        "run {}\ntaken {} UTC, {}, by fio-spdk {}\n",
        snapshot.run,
        calendar(snapshot.taken_unix_ns / 1_000_000),
        cause(snapshot),
        printable(&snapshot.tool)
    );
    snapshot.jobs.iter().for_each(|job| job_text(&mut out, job));
    for range in &snapshot.unverified {
        let _ = writeln!(
            out,
            "\nstage {} wrote to bytes {} to {} of the target of identity {:016x}, and did not verify: nothing that \
             earlier stages wrote there is promised",
            u64::from(range.stage) + 1,
            range.start,
            range.start.saturating_add(range.bytes),
            range.identity
        );
    }
    out
}

fn job_text(out: &mut String, job: &JobState) {
    let stage = u64::from(job.stage) + 1;
    let _ = writeln!(out, "\njob {}, stage {stage}, seed {}", printable(&job.name), job.seed);
    for (name, value) in &job.options {
        let _ = writeln!(out, "  {} = {}", printable(name), printable(value));
    }
    if job.writes_are_durable {
        out.push_str("  writes were durable when they completed\n");
    }
    for (number, target) in job.targets.iter().enumerate() {
        let _ = writeln!(out, "  target {number}: {}", target_text(target));
    }
    job.workers.iter().for_each(|worker| worker_text(out, worker));
}

fn target_text(target: &TargetState) -> String {
    let known = if target.known_as.is_empty() {
        String::new()
    } else {
        format!(" ({})", printable(&target.known_as))
    };
    let premises = PremisesReport::of(&target.premises);
    format!(
        "{}{known}, {}, logical block {}, identity {:016x}\n    premises: {}",
        printable(&target.path),
        format_size(target.size_bytes),
        format_size(u64::from(target.lba_bytes)),
        target.identity,
        printable(&premises.line())
    )
}

fn worker_text(out: &mut String, worker: &WorkerState) {
    let promises = &worker.promises;
    let _ = writeln!(out, "  worker {}", worker.number);
    for region in &worker.regions {
        let end = region.start.saturating_add(region.bytes);
        let _ = writeln!(out, "    owns bytes {} to {end} of target {}", region.start, region.target);
    }
    mutated_text(out, "writes", promises, Op::Write);
    if promises.trims.issued > 0 {
        mutated_text(out, "trims", promises, Op::Deallocate);
    }
    let _ = writeln!(out, "    flushes: {} completed", promises.flush_epoch);
    if promises.open_end {
        out.push_str("    open end: more may have been issued afterwards, and may stand\n");
    }
}

fn mutated_text(out: &mut String, what: &str, promises: &Promises, op: Op) {
    let kind = promises.of(op);
    let sums = sums(kind);
    let _ = writeln!(
        out,
        "    {what}: {} issued, {} durable, {} completed but not durable, {} in flight, {} failed",
        kind.issued,
        sums.durable,
        sums.completed,
        kind.in_flight.len(),
        kind.failed.count()
    );
    if !kind.in_flight.is_empty() {
        let _ = writeln!(out, "      in flight: {}", listed(kind.in_flight.iter().map(u64::to_string)));
    }
    if kind.failed.run_count() > 0 {
        let runs: Vec<(u64, u64)> = kind.failed.runs().collect();
        let runs = runs.into_iter().map(|(first, last)| match last - first {
            0 => first.to_string(),
            _ => format!("{first} to {last}"),
        });
        let _ = writeln!(out, "      failed: {}", listed(runs));
    }
    if let Some((first, last)) = kind.failed.coarse() {
        let _ = writeln!(
            out,
            "      coarse: of {first} to {last}, any other may have failed too: more failed than is told apart"
        );
    }
}

fn listed(mut items: impl ExactSizeIterator<Item = String>) -> String {
    let count = items.len();
    let shown: Vec<String> = items.by_ref().take(MOST_LISTED).collect();
    let more = if count > MOST_LISTED { format!(" and {} more", count - MOST_LISTED) } else { String::new() };
    shown.join(", ") + &more
}

struct Sums {
    durable: u64,
    completed: u64,
}

/// How many are durable, and how many have completed without being that. Of the rest nobody knows.
fn sums(kind: &Mutated) -> Sums {
    // How many numbers from `first` to before `end` failed, or may have.
    let failed = |end: u64| -> u64 {
        let runs = kind.failed.runs().filter(|run| run.0 < end);
        runs.map(|(first, last)| last.min(end - 1) - first + 1).sum()
    };
    let unknown = |end: u64| -> u64 {
        let range = kind.failed.coarse().filter(|range| range.0 < end);
        range.map_or(0, |(first, last)| {
            let end = end.min(last + 1);
            end - first - (failed(end) - failed(first))
        })
    };
    let is_lost = |number: &&u64| kind.failed.contains(**number) || kind.failed.is_unknown(**number);
    let flying = kind.in_flight.iter().filter(|number| !is_lost(number)).count() as u64;
    let settled = kind.issued.saturating_sub(flying + failed(kind.issued) + unknown(kind.issued));
    let below = kind.durable.mark;
    // A hole may have failed since: it counts once.
    let holes = kind.durable.holes.iter().filter(|number| !is_lost(number)).count() as u64;
    let durable = below.saturating_sub(holes + failed(below) + unknown(below));
    Sums { durable, completed: settled.saturating_sub(durable) }
}

fn object(snapshot: &Snapshot) -> Value {
    json!({
        "run": snapshot.run.to_string(),
        "taken_unix_ns": snapshot.taken_unix_ns,
        "cause": match snapshot.cause {
            Cause::Ended => "ended",
            Cause::Trigger => "trigger",
            Cause::Checkpoint => "checkpoint",
        },
        "tool": snapshot.tool,
        "jobs": snapshot.jobs.iter().map(job_object).collect::<Vec<_>>(),
        "unverified": snapshot.unverified.iter().map(range_object).collect::<Vec<_>>(),
    })
}

fn range_object(range: &WrittenRange) -> Value {
    json!({
        "identity": format!("{:016x}", range.identity),
        "stage": range.stage,
        "start": range.start,
        "bytes": range.bytes,
    })
}

fn job_object(job: &JobState) -> Value {
    let options: serde_json::Map<String, Value> =
        job.options.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    let targets = job.targets.iter().map(|target| {
        json!({
            "path": target.path,
            "identity": format!("{:016x}", target.identity),
            "known_as": target.known_as,
            "size_bytes": target.size_bytes,
            "lba_bytes": target.lba_bytes,
            "atomic": atomic_object(&target.premises.atomic),
            "volatile_cache": target.premises.volatile_cache,
            "premises": PremisesReport::of(&target.premises).object(),
        })
    });
    let workers = job.workers.iter().map(|worker| {
        let regions = worker
            .regions
            .iter()
            .map(|region| json!({ "target": region.target, "start": region.start, "bytes": region.bytes }));
        json!({
            "number": worker.number,
            "regions": regions.collect::<Vec<_>>(),
            "writes": mutated_object(&worker.promises.writes),
            "trims": mutated_object(&worker.promises.trims),
            "flush_epoch": worker.promises.flush_epoch,
            "open_end": worker.promises.open_end,
        })
    });
    json!({
        "name": job.name,
        "stage": job.stage,
        "options": options,
        "seed": job.seed,
        "writes_are_durable": job.writes_are_durable,
        "targets": targets.collect::<Vec<_>>(),
        "workers": workers.collect::<Vec<_>>(),
    })
}

fn mutated_object(kind: &Mutated) -> Value {
    let sums = sums(kind);
    json!({
        "issued": kind.issued,
        "durable": sums.durable,
        "completed_not_durable": sums.completed,
        "in_flight": kind.in_flight,
        "failed": kind.failed.runs().collect::<Vec<_>>(),
        "coarse": kind.failed.coarse(),
        "durable_below": kind.durable.mark,
        "durable_holes": kind.durable.holes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::failures::Failures;
    use crate::verify::ledger::Ledger;
    use crate::verify::promises::State;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_the_states(
            events in proptest::collection::vec(0_u8..8, 0..120), coarse in proptest::option::of((0_u64..20, 20_u64..40)),
        ) {
            let mut ledger = Ledger::new(128);
            let (mut next, mut flying) = (0, Vec::new());
            for event in events {
                match event {
                    0..4 => {
                        ledger.issue(Op::Write, next);
                        flying.push(next);
                        next += 1;
                    }
                    4 | 5 if !flying.is_empty() => ledger.complete(Op::Write, flying.remove(flying.len() / 2)),
                    6 if !flying.is_empty() => ledger.fail(Op::Write, flying.remove(0)),
                    7 => {
                        let ticket = ledger.flush();
                        ledger.flushed(ticket, true);
                    }
                    _ => {}
                }
            }
            let mut promises = ledger.promises();
            let runs: Vec<_> = promises.writes.failed.runs().collect();
            let coarse = coarse.filter(|range| range.1 < next);
            promises.writes.failed = Failures::from_runs(&runs, coarse).unwrap_or_default();
            let count = |state| (0..next).filter(|&n| promises.state(Op::Write, n) == state).count() as u64;
            let sums = sums(&promises.writes);
            prop_assert_eq!((sums.durable, sums.completed), (count(State::Durable), count(State::Completed)));
        }
    }
}
