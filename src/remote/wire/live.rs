//! Progress, and what triggers and commands did.

use super::bench;
use crate::base::PerOp;
use crate::base::host::printable;
use crate::report::{CommandReport, TriggerReport};
use crate::run::Progress;

/// Most bytes of a text that is shown in one line.
const MOST_LINE: usize = 4096;
/// Most bytes of what a command printed.
const MOST_OUTPUT: usize = 64 << 10;
/// Most workers that are named as stuck.
const MOST_STUCK: usize = 4096;

/// In the terms of the wire.
#[must_use]
pub fn progress_to(progress: &Progress) -> bench::Progress {
    bench::Progress {
        workers_running: progress.workers_running,
        workers_total: progress.workers_total,
        fraction_done: progress.fraction_done,
        eta_s: progress.eta_s,
        iops: Some(rates_to(&progress.iops)),
        bytes_per_s: Some(rates_to(&progress.bandwidth)),
        p99_ns: progress.p99_ns,
        errors: progress.errors,
        ramping: progress.ramping,
    }
}

/// In our own. What is no rate and no share becomes 0 or unknown: a live line is not worth an error.
#[must_use]
pub fn progress_from(progress: &bench::Progress) -> Progress {
    Progress {
        workers_running: progress.workers_running,
        workers_total: progress.workers_total,
        fraction_done: progress.fraction_done.filter(|share| (0.0..=1.0).contains(share)),
        eta_s: progress.eta_s,
        iops: rates_from(progress.iops.as_ref()),
        bandwidth: rates_from(progress.bytes_per_s.as_ref()),
        p99_ns: progress.p99_ns,
        errors: progress.errors,
        ramping: progress.ramping,
    }
}

fn rates_to(rates: &PerOp<f64>) -> bench::PerOpRate {
    bench::PerOpRate { read: rates.read, write: rates.write, trim: rates.trim }
}

fn rates_from(rates: Option<&bench::PerOpRate>) -> PerOp<f64> {
    let sane = |rate: f64| if rate.is_finite() && rate > 0.0 { rate } else { 0.0 };
    rates.map_or_else(PerOp::default, |rates| PerOp {
        read: sane(rates.read),
        write: sane(rates.write),
        trim: sane(rates.trim),
    })
}

/// In the terms of the wire.
#[must_use]
pub fn trigger_to(trigger: &TriggerReport) -> bench::TriggerReport {
    bench::TriggerReport {
        why: trigger.why.clone(),
        at_ns: trigger.at_ns,
        continues: trigger.continues,
        ledgers: trigger.ledgers,
        stuck: trigger.stuck.clone(),
        errors_before: trigger.errors_before,
        freeze_ns: trigger.freeze_ns,
        stored_ns: trigger.stored_ns,
        snapshot: trigger.snapshot.clone(),
        bytes: trigger.bytes,
        failure: trigger.failure.clone(),
        withheld: trigger.withheld.clone(),
        command: trigger.command.as_ref().map(command_to),
    }
}

/// In our own. Texts are cut where they are longer than any of ours.
#[must_use]
pub fn trigger_from(trigger: bench::TriggerReport) -> TriggerReport {
    let line = |text: Option<String>| text.map(|text| cut(text, MOST_LINE));
    // On a terminal an escape that JSON lets pass (U+009B) is one.
    let shown = |text: String| printable(&cut(text, MOST_LINE));
    TriggerReport {
        why: shown(trigger.why),
        at_ns: trigger.at_ns,
        continues: trigger.continues,
        ledgers: trigger.ledgers,
        stuck: trigger.stuck.into_iter().take(MOST_STUCK).map(shown).collect(),
        errors_before: trigger.errors_before,
        freeze_ns: trigger.freeze_ns,
        stored_ns: trigger.stored_ns,
        snapshot: trigger.snapshot.map(shown),
        bytes: trigger.bytes,
        failure: trigger.failure.map(shown),
        withheld: line(trigger.withheld),
        command: trigger.command.map(command_from),
    }
}

/// In the terms of the wire.
#[must_use]
pub fn command_to(command: &CommandReport) -> bench::CommandReport {
    bench::CommandReport {
        text: command.text.clone(),
        status: command.status.clone(),
        success: command.success,
        output: command.output.clone(),
        took_ns: command.took_ns,
    }
}

/// In our own: the status in one line that can be shown, and no more output than ours has.
#[must_use]
pub fn command_from(command: bench::CommandReport) -> CommandReport {
    CommandReport {
        text: cut(command.text, MOST_OUTPUT),
        status: printable(&cut(command.status, MOST_LINE)),
        success: command.success,
        output: cut(command.output, MOST_OUTPUT),
        took_ns: command.took_ns,
    }
}

/// No more than the first `most` bytes, in whole characters.
fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_arrives_as_it_was_sent() {
        let rates = |read| PerOp { read, write: 2.5, trim: 0.0 };
        let progress = Progress {
            workers_running: 3,
            workers_total: 4,
            fraction_done: Some(0.25),
            eta_s: Some(9),
            iops: rates(1e6),
            bandwidth: rates(4096e6),
            p99_ns: 88_000,
            errors: 2,
            ramping: true,
        };
        assert_eq!(progress_from(&progress_to(&progress)), progress);
        assert_eq!(progress_from(&bench::Progress::default()), Progress::default());
    }

    #[test]
    fn what_is_no_number_is_not_shown_as_one() {
        let rates = bench::PerOpRate { read: f64::NAN, write: -1.0, trim: f64::INFINITY };
        let sent = bench::Progress {
            fraction_done: Some(f64::NAN),
            iops: Some(rates),
            ..bench::Progress::default()
        };
        assert_eq!(progress_from(&sent), Progress::default());
    }

    #[test]
    fn a_trigger_arrives_as_it_was_sent_unless_it_is_longer_than_any_of_ours() {
        let mut trigger = TriggerReport {
            why: "file cut".to_owned(),
            at_ns: 1,
            continues: true,
            ledgers: 2,
            stuck: vec!["w.0".to_owned(), "w.1".to_owned()],
            errors_before: 3,
            freeze_ns: 4,
            stored_ns: 5,
            snapshot: Some("run.state".to_owned()),
            bytes: 6,
            failure: Some("no space".to_owned()),
            withheld: Some("pdu off 3".to_owned()),
            command: Some(CommandReport {
                text: "pdu off 3".to_owned(),
                status: "exit status 0".to_owned(),
                success: true,
                output: "one\ntwo\n".to_owned(),
                took_ns: 7,
            }),
        };
        assert_eq!(trigger_from(trigger_to(&trigger)), trigger);
        assert_eq!(trigger_from(bench::TriggerReport::default()), TriggerReport::default());
        trigger.why = "ü".repeat(MOST_LINE);
        trigger.command.as_mut().unwrap().output = "x".repeat(1 << 20);
        trigger.command.as_mut().unwrap().status = "\x1b[2J".to_owned();
        let read = trigger_from(trigger_to(&trigger));
        assert_eq!(read.why, "ü".repeat(MOST_LINE / 2));
        assert_eq!(read.command.as_ref().map(|command| command.output.len()), Some(MOST_OUTPUT));
        assert_eq!(read.command.map(|command| command.status), Some("\\u001b[2J".to_owned()));
    }
}
