//! What a trigger did, in text and JSON.

use serde_json::{Value, json};

use crate::base::units::format_size;

use super::text::{counted, printable, span, wrapped};

/// A trigger that fired, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TriggerReport {
    /// What fired it.
    pub why: String,
    /// When, after the run began, in nanoseconds.
    pub at_ns: u64,
    /// The load went on (`trigger_mode = "continue"`).
    pub continues: bool,
    /// Ledgers that were gathered.
    pub ledgers: u64,
    /// Workers that did not answer in time, as they are stuck in their device: their ledgers were
    /// read as they stood.
    pub stuck: Vec<String>,
    /// I/Os that had failed before.
    pub errors_before: u64,
    /// From the trigger until no ledger changed any more, in nanoseconds.
    pub freeze_ns: u64,
    /// From the trigger until the snapshot was on stable storage, in nanoseconds.
    pub stored_ns: u64,
    /// Where the snapshot lies; `None` if no job promised anything.
    pub snapshot: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// Why it could not be stored.
    pub failure: Option<String>,
    /// The command that was not run for that.
    pub withheld: Option<String>,
    /// The command that was.
    pub command: Option<CommandReport>,
}

/// A command that was run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandReport {
    /// As it was given to `sh -c`.
    pub text: String,
    /// Its exit status, in words.
    pub status: String,
    /// It ended with 0.
    pub success: bool,
    /// The beginning of what it printed.
    pub output: String,
    /// How long it took, in nanoseconds.
    pub took_ns: u64,
}

impl TriggerReport {
    /// Whether the snapshot was stored and the command ran well.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.failure.is_none() && self.command.as_ref().is_none_or(|command| command.success)
    }
}

/// For people.
pub(super) fn text(trigger: &TriggerReport, width: usize) -> String {
    const INDENT: &str = "         ";
    let mut out = String::from("\n");
    let load = if trigger.continues { ", the load went on" } else { "" };
    let ledgers = counted(trigger.ledgers, "ledger", "ledgers");
    let first = format!(
        "fired after {} by {}{load}; {ledgers} gathered in {}",
        span(trigger.at_ns),
        printable(&trigger.why),
        span(trigger.freeze_ns)
    );
    out.push_str(&wrapped("trigger: ", &first, width));
    if !trigger.stuck.is_empty() {
        let text = format!("stuck in their device: {}", printable(&trigger.stuck.join(", ")));
        out.push_str(&wrapped(INDENT, &text, width));
    }
    match (&trigger.snapshot, &trigger.failure) {
        (_, Some(why)) => out.push_str(&wrapped(INDENT, &format!("FAILED: {}", printable(why)), width)),
        (Some(path), None) => {
            let size = format_size(trigger.bytes);
            let text =
                format!("snapshot {} ({size}) on disk after {}", printable(path), span(trigger.stored_ns));
            out.push_str(&wrapped(INDENT, &text, width));
        }
        (None, None) => out.push_str(&wrapped(INDENT, "no job promised anything: no snapshot", width)),
    }
    if let Some(command) = &trigger.withheld {
        let text = format!(
            "command NOT run, as nothing could be judged after the cut (trigger_always runs it): {}",
            printable(command)
        );
        out.push_str(&wrapped(INDENT, &text, width));
    }
    if let Some(command) = &trigger.command {
        let text = format!(
            "command `{}`: {} after {}",
            printable(&command.text),
            command.status,
            span(command.took_ns)
        );
        out.push_str(&wrapped(INDENT, &text, width));
        for line in command.output.lines() {
            out.push_str(&wrapped("         | ", &printable(line), width));
        }
    }
    out
}

/// For programs.
pub(super) fn object(trigger: &TriggerReport) -> Value {
    let command = trigger.command.as_ref().map(|command| {
        json!({
            "command": command.text,
            "status": command.status,
            "success": command.success,
            "output": command.output,
            "took_ns": command.took_ns,
        })
    });
    json!({
        "fired_by": trigger.why,
        "at_ns": trigger.at_ns,
        "mode": if trigger.continues { "continue" } else { "stop" },
        "ledgers": trigger.ledgers,
        "stuck": trigger.stuck,
        "errors_before": trigger.errors_before,
        "freeze_ns": trigger.freeze_ns,
        "stored_ns": trigger.stored_ns,
        "snapshot": trigger.snapshot,
        "snapshot_bytes": trigger.bytes,
        "failure": trigger.failure,
        "withheld": trigger.withheld,
        "command": command,
    })
}
