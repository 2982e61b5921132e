//! An end that says 0 is believed only with a report that shows it.

use super::*;
use crate::verify::promises::Promises;
use crate::verify::snapshot::WorkerState;
use bench::SnapshotCause::Ended as AtEnd;

/// What a client makes of a run of [`JOB`] that ends so.
fn ends(content: Vec<u8>, end: impl Fn(&mut bench::Ended) + Send + Sync + 'static) -> Outcome {
    let mut lab = Lab::new();
    lab.serve(
        "dut1",
        script(move |mut talk: Talk| {
            let content = content.clone();
            let report = Some(report::encode(&report()));
            let mut ended = bench::Ended { report, exit_code: Some(0), ..bench::Ended::default() };
            end(&mut ended);
            async move {
                talk.accept().await;
                if !content.is_empty() {
                    talk.say(snapshot(1, AtEnd, content)).await;
                    talk.stored().await;
                }
                talk.say(What::Ended(ended)).await;
                // A second end changes nothing.
                talk.end().await;
            }
        }),
    );
    lab.drive(&["dut1"]).remove(0)
}

fn ends_with(change: impl Fn(&mut Report) + Send + Sync + 'static) -> Outcome {
    ends(state(1).encode(), move |ended| {
        let mut changed = report();
        change(&mut changed);
        ended.report = Some(report::encode(&changed));
    })
}

#[track_caller]
fn is(outcome: &Outcome, kind: FailureKind, why: &str) {
    assert_eq!(outcome.failure.as_ref().map(|it| it.kind), Some(kind), "{outcome:#?}");
    assert!(message(outcome).contains(why), "{}", message(outcome));
}

#[test]
fn a_run_that_shows_what_it_did_is_believed() {
    assert_eq!(ends_with(|_| ()).failure, None);
}

#[test]
fn an_end_without_a_report_or_with_an_empty_one_is_an_error() {
    let unknown = FailureKind::Environment;
    is(&ends(state(1).encode(), |ended| *ended = bench::Ended::default()), unknown, "neither a report nor");
    let empty = |ended: &mut bench::Ended| ended.report = Some(bench::Report::default());
    is(&ends(state(1).encode(), empty), unknown, "job `j` is not in it");
    is(&ends_with(|report| report.jobs.clear()), unknown, "job `j` is not in it");
    is(&ends_with(|report| report.jobs[0].name = "k\u{1b}".to_owned()), unknown, "has no job `k\\u001b`");
    is(&ends_with(|report| report.jobs[0].workers = 0), unknown, "of 0 workers, and the jobs have 1");
}

#[test]
fn a_job_that_verifies_and_was_not_verified_is_inconclusive() {
    let outcome = ends_with(|report| report.jobs[0].verify = None);
    is(&outcome, FailureKind::Inconclusive, "job `j` verifies");
    // What says itself that nothing was demanded is the report's own doubt.
    let outcome = ends_with(|report| report.jobs[0].verify = Some(VerifyTally::default()));
    assert_eq!(outcome.failure, None);
    assert!(outcome.report.unwrap().inconclusive());
}

#[test]
fn a_report_that_contradicts_the_state_that_came_is_an_error() {
    let unknown = FailureKind::Environment;
    is(&ends(Vec::new(), |_| ()), unknown, "the state that its jobs keep never came");
    let of_middle = Snapshot { cause: Cause::Checkpoint, ..state(1) };
    is(&ends(of_middle.encode(), |_| ()), unknown, "at the end never came");
    is(&ends_with(|report| report.jobs[0].stats.ops.write.ios = 3), unknown, "has 3 writes and trims");
    let mut written = state(1);
    written.jobs[0].workers =
        vec![WorkerState { number: 1, regions: Vec::new(), promises: Promises::finished(8, 0) }];
    is(&ends(written.encode(), |_| ()), unknown, "no writes, and the state that came has 8");
}

#[test]
fn an_exit_code_or_a_trigger_that_nothing_shows_is_an_error() {
    let unknown = FailureKind::Environment;
    is(&ends(state(1).encode(), |ended| ended.exit_code = Some(1)), unknown, "ended with exit code 1");
    let fired = |report: &mut Report| report.trigger = Some(crate::report::TriggerReport::default());
    is(&ends_with(fired), unknown, "no snapshot of that came");
}

#[test]
fn a_run_that_is_attached_to_has_a_report_too() {
    let mut lab = Lab::new();
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.say(What::Ended(bench::Ended::default())).await;
        }),
    );
    let work = Work::Attach { run: String::new(), watch: false, state_dir: lab.dir.path().to_owned() };
    let outcomes = lab.drive_all(vec![Target { address: lab.address("dut1"), work }]);
    is(&outcomes[0], FailureKind::Environment, "neither a report nor");
}
