//! What is told of a server when all is over.

use crate::base::clock::unix_time_ms;
use crate::base::units::format_time_ns;
use crate::report::{MachineReport, Report};

use super::conduct::{Phase, Server};
use super::link::environment;
use super::trigger::{State, Triggers};
use super::{Failure, Outcome, Work};

/// Why a server that is gone is a failure: unless it is behind a trigger.
pub(super) fn why_lost(server: &Server, why: &str) -> Option<Failure> {
    let address = &server.address;
    let run = server.accepted.as_ref().map_or("", |accepted| &accepted.run);
    let sentence = match server.fired.as_ref().map(|fired| (&fired.stored, fired.is_safe())) {
        Some((_, true)) => return None,
        Some((Some(Err(trouble)), _)) => {
            format!(
                "{address} vanished behind the trigger ({why}), and its state could not be stored: {trouble}"
            )
        }
        Some(_) => {
            format!("{address} vanished behind the trigger ({why}), and its state was not stored in time")
        }
        None if server.is_asked_to_fire => {
            format!("{address} vanished ({why}) before its state had come, when the trigger had fired")
        }
        None if matches!(server.work, Work::Attach { .. }) || server.is_detached() => {
            format!(
                "{address} vanished ({why}); if it lives, fio-spdk attach {address} --run={run} comes back"
            )
        }
        None => format!(
            "{address} vanished ({why}); if it lives, it ends the run and keeps its state: \
             fio-spdk attach {address} --run={run} fetches it"
        ),
    };
    Some(environment(sentence))
}

/// What became of a server's run.
pub(super) fn outcome(server: &mut Server, triggers: &Triggers) -> Outcome {
    let is_told = server.report.is_some();
    let (mut report, unread) = match server.newest().transpose() {
        Ok(report) => (report, None),
        Err(why) => (None, Some(why)),
    };
    let command = server.wants.as_deref().and_then(|text| triggers.command(text));
    if let Some(fired) = &server.fired {
        let own = fired.report(command);
        let has_own = server.jobs().first().is_some_and(|job| job.trigger.command.is_some());
        match report.as_mut().filter(|_| is_told).map(|report| &mut report.trigger) {
            // The server knows all but where the file is, and what became of this side's command.
            Some(Some(trigger)) => {
                trigger.snapshot = own.snapshot.or(trigger.snapshot.take());
                trigger.failure = own.failure.or(trigger.failure.take());
                if has_own {
                    (trigger.command, trigger.withheld) = (own.command, own.withheld);
                }
            }
            Some(trigger) => {
                *trigger = Some(own);
                let note = "the server's report has nothing of the trigger that it fired";
                report.as_mut().into_iter().for_each(|report| report.notes.push(note.to_owned()));
            }
            None if fired.is_safe() && server.failure.is_none() => {
                let report = report.get_or_insert_with(|| blank(server));
                let upto = upto(report);
                report.trigger = Some(own);
                report
                    .notes
                    .push(format!("the machine went away after the trigger, as was to be expected; {upto}"));
                let never = "the trigger's command was not run: the machine went away before it asked for it";
                if has_own && command.is_none() {
                    report.notes.push(never.to_owned());
                }
                if let Some(State::Withheld(why)) = command.map(|command| &command.state) {
                    report.notes.push(format!("the trigger's command was {why}"));
                }
            }
            None => {
                if let Some(report) = report.as_mut() {
                    report.trigger = Some(own);
                }
            }
        }
    }
    if let Some(note) = never_fired(server) {
        report.as_mut().into_iter().for_each(|report| report.notes.push(note.clone()));
    }
    if let Some(report) = report.as_mut().filter(|_| !is_told) {
        report.unfinished = true;
        if server.failure.is_some() && server.phase == Phase::Done {
            let upto = upto(report);
            report.notes.push(format!("the run's end is not known; {upto}"));
        }
    }
    match (report.as_mut(), server.failure.as_mut(), unread) {
        (Some(report), _, Some(why)) => report.notes.push(why),
        (None, Some(failure), Some(why)) => failure.message.push_str(&format!("; {why}")),
        _ => {}
    }
    let run = server.accepted.as_ref().map(|accepted| accepted.run.clone());
    Outcome { address: server.address.clone(), run, report, failure: server.failure.clone() }
}

/// That a trigger which this client asked for did not fire before the run ended.
fn never_fired(server: &Server) -> Option<String> {
    let has_command = server.jobs().first().is_some_and(|job| job.trigger.command.is_some());
    let is_missed = server.is_asked_to_fire && server.fired.is_none() && server.report.is_some();
    let command = if has_command { ", and its command was not run for this server" } else { "" };
    is_missed.then(|| format!("the run ended before the trigger that was asked for had fired{command}"))
}

/// How far the numbers of a run that did not end go.
fn upto(report: &Report) -> String {
    if report.jobs.is_empty() {
        return "no numbers had come".to_owned();
    }
    let ms = report.time_unix_ms.saturating_sub(report.started_unix_ms);
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let time = format_time_ns(ms as f64 * 1e6);
    format!("the numbers are those up to {time} after the start")
}

/// The report of a machine that was gone before it had sent one.
fn blank(server: &Server) -> Report {
    let now = unix_time_ms();
    Report {
        time_unix_ms: now,
        started_unix_ms: server.accepted.as_ref().map_or(now, |accepted| accepted.started_unix_ms),
        unfinished: true,
        ended_by_signal: None,
        notes: Vec::new(),
        jobs: Vec::new(),
        reactors: Vec::new(),
        targets: Vec::new(),
        job_toml: None,
        trigger: None,
        machine: MachineReport::default(),
    }
}
