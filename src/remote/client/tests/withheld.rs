//! The client's own command does not run for a server that has not done its part, whatever it says.

use super::triggers::{COMMAND, failing, fires, is_fired, ran, want, with_command};
use super::*;
use bench::SnapshotCause::{Checkpoint, Ended as AtEnd, Trigger};

/// Asks for the command, and does not wait for an answer.
async fn wants_it(talk: &Talk) {
    talk.say(What::CommandWanted(bench::CommandWanted { command: COMMAND.to_owned() })).await;
}

/// One server whose job has the command: nothing may run, and the exit code and a note say why.
#[track_caller]
fn withholds(more: &str, why: &str, attack: Script) -> (Lab, Outcome) {
    let mut lab = Lab::new();
    with_command(&mut lab, more);
    lab.serve("evil", attack);
    let outcome = lab.drive(&["evil"]).remove(0);
    assert_eq!(ran(&lab), "", "{:?}", lab.log.all());
    assert_eq!(outcome.failure.as_ref().map(|it| it.kind), Some(FailureKind::Environment), "{outcome:#?}");
    assert!(message(&outcome).contains(why), "{outcome:#?}");
    assert!(lab.hear.has(why), "{:?}", lab.hear.notes);
    (lab, outcome)
}

#[test]
fn a_server_that_never_fired_gets_no_command() {
    // Neither with the excuse for states that could not be stored.
    for more in ["", "trigger_always=true\n"] {
        let (lab, _) = withholds(
            more,
            "its trigger never fired",
            script(async |mut talk: Talk| {
                talk.accept().await;
                talk.snapshot(1, Checkpoint).await;
                want(&mut talk).await;
                talk.end().await;
            }),
        );
        assert_eq!(lab.log.beginning("evil: not run: "), 1, "{:?}", lab.log.all());
    }
}

#[test]
fn a_server_that_wants_the_command_and_ends_gets_none() {
    withholds(
        "",
        "its trigger never fired",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, AtEnd).await;
            wants_it(&talk).await;
            talk.end().await;
        }),
    );
    // Nor does one that is gone.
    withholds(
        "",
        "its trigger never fired",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, Checkpoint).await;
            wants_it(&talk).await;
            let _ = talk.to.send(Err(Status::unavailable("gone"))).await;
        }),
    );
}

/// Snapshots that look like a trigger's and are none: what is wrong with each.
fn forged() -> Vec<(&'static str, Vec<u8>)> {
    let mut damaged = state(2).encode();
    damaged[40] ^= 1;
    vec![
        ("is empty", Vec::new()),
        ("is none", b"a snapshot".to_vec()),
        ("is none", damaged),
        ("tells of another run", Snapshot { run: RunId(7), ..state(2) }.encode()),
        ("was not taken by a trigger", Snapshot { cause: Cause::Checkpoint, ..state(2) }.encode()),
        ("holds less than", with_writes(5).encode()),
    ]
}

/// A snapshot of a trigger in which so many writes were issued.
fn with_writes(issued: u64) -> Snapshot {
    use crate::verify::promises::Promises;
    use crate::verify::snapshot::WorkerState;
    let mut made = state(2);
    made.jobs[0].workers =
        vec![WorkerState { number: 1, regions: Vec::new(), promises: Promises::finished(issued, 0) }];
    made
}

#[test]
fn a_snapshot_that_is_not_the_triggers_withholds_the_command() {
    for (why, content) in forged() {
        let (lab, _) = withholds(
            "",
            why,
            script(move |mut talk: Talk| {
                let content = content.clone();
                async move {
                    talk.accept().await;
                    talk.say(snapshot(1, Checkpoint, with_writes(9).encode())).await;
                    talk.stored().await;
                    talk.say(snapshot(2, Trigger, content)).await;
                    let stored = talk.stored().await;
                    talk.log(stored.failure.is_empty());
                    // A good one that comes later does not make up for it.
                    talk.say(snapshot(3, Checkpoint, with_writes(10).encode())).await;
                    talk.stored().await;
                    talk.say(snapshot(4, Trigger, with_writes(11).encode())).await;
                    want(&mut talk).await;
                    talk.end().await;
                }
            }),
        );
        assert_eq!(lab.log.count("evil: false"), 1, "{why}: {:?}", lab.log.all());
        assert_eq!(std::fs::read(lab.file("evil")).unwrap(), with_writes(10).encode(), "{why}");
        assert!(lab.hear.has("once more that its trigger fired"), "{:?}", lab.hear.notes);
    }
}

#[test]
fn the_state_of_a_trigger_is_not_replaced_by_one_that_holds_less() {
    let mut lab = Lab::new();
    with_command(&mut lab, "");
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.say(snapshot(1, Trigger, with_writes(9).encode())).await;
            assert_eq!(talk.stored().await.failure, "");
            for (number, issued) in [(2, 3), (3, 0)] {
                talk.say(snapshot(number, AtEnd, with_writes(issued).encode())).await;
                assert!(talk.stored().await.failure.contains("holds less"), "{issued}");
            }
            want(&mut talk).await;
            talk.end().await;
        }),
    );
    lab.drive(&["dut1"]);
    assert_eq!(ran(&lab), "ran\n", "its own trigger was stored");
    assert_eq!(std::fs::read(lab.file("dut1")).unwrap(), with_writes(9).encode());
}

#[test]
fn a_trigger_that_is_told_twice_counts_once() {
    let mut lab = Lab::new();
    with_command(&mut lab, "");
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, Trigger).await;
            talk.say(snapshot(1, Trigger, state(1).encode())).await;
            talk.say(snapshot(2, Trigger, b"not one".to_vec())).await;
            want(&mut talk).await;
            talk.end().await;
        }),
    );
    well(&lab.drive(&["dut1"]));
    assert_eq!(ran(&lab), "ran\n");
    assert_eq!(std::fs::read(lab.file("dut1")).unwrap(), state(1).encode());
}

#[test]
fn a_trigger_that_nobody_asked_for_fires_no_other_server_and_runs_nothing() {
    let mut lab = Lab::new();
    // The file never appears.
    lab.job = format!("{JOB}trigger='{COMMAND}'\ntrigger_file='{}'\n", lab.path("cut").display());
    lab.serve("evil", script(fires));
    lab.serve(
        "dut2",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, Checkpoint).await;
            while !talk.log.all().iter().any(|line| line.starts_with("evil: not run")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            talk.snapshot(2, AtEnd).await;
            talk.end().await;
        }),
    );
    let outcomes = lab.drive(&["evil", "dut2"]);
    assert_eq!(ran(&lab), "");
    assert!(message(&outcomes[0]).contains("its trigger never fired"), "{outcomes:#?}");
    assert_eq!(outcomes[1].failure, None, "{outcomes:#?}");
    assert!(lab.hear.has("0: it says that its trigger fired, which neither"), "{:?}", lab.hear.notes);
    assert!(!lab.log.all().iter().any(|line| line.starts_with("dut2: fired")), "{:?}", lab.log.all());
}

#[test]
fn one_server_that_lies_withholds_the_command_of_all_that_want_it() {
    let mut lab = Lab::new();
    with_command(&mut lab, "");
    lab.serve("dut1", script(fires));
    // Is fired with the other one, and wants the command without its state.
    lab.serve(
        "evil",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, Checkpoint).await;
            want(&mut talk).await;
            talk.end().await;
        }),
    );
    let outcomes = lab.drive(&["dut1", "evil"]);
    assert_eq!(ran(&lab), "");
    let of_evil = format!("{}: ", lab.address("evil"));
    assert!(message(&outcomes[0]).contains(&of_evil), "{outcomes:#?}");
    assert!(message(&outcomes[1]).contains("its trigger never fired"), "{outcomes:#?}");
}

#[test]
fn a_server_that_was_to_fire_and_is_gone_withholds_the_command() {
    let mut lab = Lab::new();
    with_command(&mut lab, "");
    lab.serve("dut1", script(fires));
    lab.serve(
        "dut2",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, Checkpoint).await;
            while let Some(said) = talk.hear().await {
                if matches!(said, Said::Fire(_)) {
                    let _ = talk.to.send(Err(Status::unavailable("gone"))).await;
                    return;
                }
            }
        }),
    );
    let outcomes = lab.drive(&["dut1", "dut2"]);
    assert_eq!(ran(&lab), "");
    let why = format!("{}: its trigger was to fire, and it is disconnected", lab.address("dut2"));
    assert!(message(&outcomes[0]).contains(&why), "{outcomes:#?}");
}

#[test]
fn a_server_whose_last_state_could_not_be_stored_withholds_the_command() {
    let mut lab = Lab::new();
    with_command(&mut lab, "");
    lab.store_by(|log, path| failing(log, path, "dut2"));
    lab.serve(
        "dut1",
        script(async |talk: Talk| {
            while !talk.log.all().iter().any(|line| line == "dut2: ends") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            fires(talk).await;
        }),
    );
    lab.serve(
        "dut2",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, Checkpoint).await;
            talk.snapshot(2, AtEnd).await;
            talk.end().await;
            talk.log("ends");
        }),
    );
    let outcomes = lab.drive(&["dut1", "dut2"]);
    assert_eq!(ran(&lab), "");
    let why = format!("{}: its state could not be stored", lab.address("dut2"));
    assert!(message(&outcomes[0]).contains(&why), "{outcomes:#?}");
    // One that ended well, and whose state is here, withholds nothing.
    let mut lab = Lab::new();
    with_command(&mut lab, "");
    lab.serve("dut1", script(fires));
    lab.serve(
        "dut2",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, AtEnd).await;
            talk.end().await;
        }),
    );
    lab.drive(&["dut1", "dut2"]);
    assert_eq!(ran(&lab), "ran\n");
}

#[test]
fn the_report_names_the_command_that_was_withheld() {
    let mut lab = Lab::new();
    with_command(&mut lab, "");
    lab.store_by(|log, path| failing(log, path, "dut1"));
    // The server says that all went well.
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, Checkpoint).await;
            talk.snapshot(2, Trigger).await;
            want(&mut talk).await;
            let trigger = crate::report::TriggerReport {
                command: Some(crate::report::CommandReport { success: true, ..Default::default() }),
                ..Default::default()
            };
            talk.end_with(Report { trigger: Some(trigger), ..report() }).await;
        }),
    );
    let outcome = lab.drive(&["dut1"]).remove(0);
    assert_eq!(ran(&lab), "");
    let trigger = outcome.report.as_ref().and_then(|report| report.trigger.as_ref()).unwrap();
    assert_eq!((trigger.withheld.as_deref(), &trigger.command), (Some(COMMAND), &None));
    assert!(trigger.failure.as_ref().is_some_and(|why| why.contains("no space")), "{trigger:#?}");
    assert!(message(&outcome).contains("no space"), "{outcome:#?}");
}

#[test]
fn a_trigger_that_was_asked_for_and_did_not_fire_is_in_the_report() {
    let mut lab = Lab::new();
    with_command(&mut lab, "");
    lab.requests.trigger.store(1, Ordering::Release);
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, AtEnd).await;
            while talk.fired.is_none() {
                match talk.hear().await {
                    Some(Said::Fire(fire)) => talk.fired = Some(fire.why),
                    Some(_) => {}
                    None => return,
                }
            }
            talk.end().await;
        }),
    );
    let outcome = lab.drive(&["dut1"]).remove(0);
    let notes = &outcome.report.as_ref().unwrap().notes;
    assert!(
        notes.iter().any(|note| note.contains("before the trigger that was asked for had fired")),
        "{notes:?}"
    );
    assert_eq!(ran(&lab), "");
    // As one that does fire shows.
    let mut lab = Lab::new();
    with_command(&mut lab, "");
    lab.requests.trigger.store(1, Ordering::Release);
    lab.serve("dut1", script(is_fired));
    well(&lab.drive(&["dut1"]));
    assert_eq!(ran(&lab), "ran\n");
}
