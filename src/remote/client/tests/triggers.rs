//! Triggers, and servers that go away behind them.

use super::*;
use bench::SnapshotCause::{Checkpoint, Trigger};

pub(super) const COMMAND: &str = "echo ran >> $(dirname $FIO_SPDK_STATE)/ran; echo $FIO_SPDK_STATES; exit 3";

pub(super) fn with_command(lab: &mut Lab, more: &str) {
    lab.job = format!("{JOB}trigger='{COMMAND}'\ntrigger_ios=5\n{more}");
}

pub(super) fn ran(lab: &Lab) -> String {
    std::fs::read_to_string(lab.path("ran")).unwrap_or_default()
}

/// Fires by itself, wants the command, and tells what came.
pub(super) async fn fires(mut talk: Talk) {
    talk.accept().await;
    talk.snapshot(1, Checkpoint).await;
    talk.log("fires");
    talk.snapshot(2, Trigger).await;
    want(&mut talk).await;
    talk.end().await;
}

pub(super) async fn want(talk: &mut Talk) {
    talk.say(What::CommandWanted(bench::CommandWanted { command: COMMAND.to_owned() })).await;
    loop {
        match talk.hear().await {
            Some(Said::CommandRan(report)) => {
                talk.log(&report.status);
                talk.log(report.output.trim());
                return;
            }
            Some(other) => talk.log(other),
            None => return talk.log("gone"),
        }
    }
}

/// Waits to be fired.
pub(super) async fn is_fired(mut talk: Talk) {
    talk.accept().await;
    talk.snapshot(1, Checkpoint).await;
    while talk.fired.is_none() {
        match talk.hear().await {
            Some(Said::Fire(fire)) => talk.fired = Some(fire.why),
            Some(_) => {}
            None => return talk.log("gone"),
        }
    }
    talk.log(format!("fired by {}", talk.fired.as_deref().unwrap_or_default()));
    talk.snapshot(2, Trigger).await;
    want(&mut talk).await;
    talk.end().await;
}

#[test]
fn one_that_fires_fires_all_and_the_command_runs_once_when_all_are_stored() {
    let mut lab = Lab::new();
    with_command(&mut lab, "");
    lab.serve("dut1", script(fires));
    lab.serve("dut2", script(is_fired));
    let outcomes = lab.drive(&["dut1", "dut2"]);
    well(&outcomes);
    assert_eq!(ran(&lab), "ran\n");
    let fired = format!("dut2: fired by trigger on {}", lab.address("dut1"));
    assert!(lab.log.at("dut1: fires") < lab.log.at(&fired));
    let both = format!("{}:{}", lab.link("dut1").display(), lab.link("dut2").display());
    for name in ["dut1", "dut2"] {
        assert_eq!(lab.log.count(&format!("{name}: exit status: 3")), 1, "{:?}", lab.log.all());
        assert_eq!(lab.log.count(&format!("{name}: {both}")), 1, "{:?}", lab.log.all());
    }
}

pub(super) fn failing(log: Log, path: &str, of: &str) -> Box<dyn Shelf> {
    let fails_from = if path.contains(of) { 2 } else { u32::MAX };
    let takes = Duration::from_millis(if path.contains(of) { 300 } else { 0 });
    Box::new(Slow { log, name: of.to_owned(), takes, fails_from, times: AtomicU32::new(0) })
}

#[test]
fn the_command_is_withheld_if_one_state_could_not_be_stored() {
    let mut lab = Lab::new();
    with_command(&mut lab, "");
    lab.store_by(|log, path| failing(log, path, "dut2"));
    lab.serve("dut1", script(fires));
    lab.serve("dut2", script(is_fired));
    let outcomes = lab.drive(&["dut1", "dut2"]);
    assert_eq!(ran(&lab), "");
    let why = format!("not run: {}: its state could not be stored", lab.address("dut2"));
    assert_eq!(lab.log.beginning(&format!("dut1: {why}")), 1, "{:?}", lab.log.all());
    assert!(outcomes.iter().all(|outcome| message(outcome).contains(&why)), "{outcomes:#?}");
    assert!(lab.hear.has(&format!("the trigger's command was {why}")), "{:?}", lab.hear.notes);
}

#[test]
fn the_command_runs_all_the_same_with_trigger_always() {
    let mut lab = Lab::new();
    with_command(&mut lab, "trigger_always=true\n");
    lab.store_by(|log, path| failing(log, path, "dut2"));
    lab.serve("dut1", script(fires));
    lab.serve("dut2", script(is_fired));
    lab.drive(&["dut1", "dut2"]);
    assert_eq!(ran(&lab), "ran\n");
    assert!(lab.log.at("dut2 fails") < lab.log.at("dut1: exit status: 3"));
}

#[test]
fn a_file_fires_and_is_taken_away() {
    let mut lab = Lab::new();
    let file = lab.path("cut");
    let more = format!("trigger_file='{}'\n", file.display());
    with_command(&mut lab, &more);
    std::fs::write(&file, "").unwrap();
    lab.serve("dut1", script(is_fired));
    well(&lab.drive(&["dut1"]));
    assert!(!file.exists());
    assert_eq!(lab.log.count(&format!("dut1: fired by file {}", file.display())), 1, "{:?}", lab.log.all());
    assert_eq!(ran(&lab), "ran\n");
}

#[test]
fn a_signal_fires() {
    let mut lab = Lab::new();
    with_command(&mut lab, "");
    lab.requests.trigger.store(1, Ordering::Release);
    lab.serve("dut1", script(is_fired));
    well(&lab.drive(&["dut1"]));
    assert_eq!(lab.log.count("dut1: fired by SIGUSR2"), 1, "{:?}", lab.log.all());
}

#[test]
fn a_machine_that_vanishes_behind_its_trigger_is_what_was_wanted() {
    let mut lab = Lab::new();
    lab.job = format!("{JOB}trigger_ios=5\n");
    lab.silence = Duration::from_secs(2);
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, Checkpoint).await;
            talk.snapshot(2, Trigger).await;
            talk.hang().await;
        }),
    );
    let outcomes = lab.drive(&["dut1"]);
    well(&outcomes);
    let report = outcomes[0].report.as_ref().unwrap();
    let trigger = report.trigger.as_ref().unwrap();
    assert_eq!(trigger.why, "trigger_ios, 5 I/Os");
    assert_eq!(trigger.snapshot.as_ref(), Some(&lab.file("dut1").display().to_string()));
    assert_eq!(trigger.bytes, state(2).encode().len() as u64);
    assert!(report.unfinished && trigger.is_well() && trigger.stored_ns > trigger.freeze_ns, "{trigger:?}");
    assert!(report.notes[0].contains("as was to be expected"), "{:?}", report.notes);
    assert_eq!(std::fs::read(lab.file("dut1")).unwrap(), state(2).encode());
}

#[test]
fn a_machine_that_is_gone_while_its_state_is_being_stored_is_safe_all_the_same() {
    let mut lab = Lab::new();
    lab.job = format!("{JOB}trigger_ios=5\n");
    lab.store_by(|log, _| {
        let takes = Duration::from_millis(500);
        Box::new(Slow { log, name: "disk".to_owned(), takes, fails_from: 9, times: AtomicU32::new(0) })
    });
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.say(snapshot(1, Trigger, state(1).encode())).await;
            let _ = talk.to.send(Err(Status::unavailable("pulled"))).await;
        }),
    );
    let outcomes = lab.drive(&["dut1"]);
    well(&outcomes);
    assert_eq!(lab.log.count("disk holds"), 1);
    assert!(outcomes[0].report.as_ref().unwrap().trigger.as_ref().unwrap().is_well());
}

#[test]
fn a_machine_that_vanishes_before_is_a_failure() {
    let mut lab = Lab::new();
    lab.silence = Duration::from_secs(2);
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, Checkpoint).await;
            talk.hang().await;
        }),
    );
    lab.serve(
        "dut2",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, Checkpoint).await;
            talk.end().await;
        }),
    );
    let outcomes = lab.drive(&["dut1", "dut2"]);
    let failure = outcomes[0].failure.as_ref().unwrap();
    assert_eq!(failure.kind, FailureKind::Environment);
    assert!(failure.message.contains("dut1 vanished (silent for 2 s)"), "{failure:?}");
    assert!(failure.message.contains(RUN));
    assert_eq!(outcomes[1].failure, None);
    // What had come is there.
    assert_eq!(std::fs::read(lab.file("dut1")).unwrap(), state(1).encode());
}

#[test]
fn a_machine_whose_state_could_not_be_stored_is_a_failure_behind_the_trigger_too() {
    let mut lab = Lab::new();
    lab.job = format!("{JOB}trigger_ios=5\n");
    lab.store_by(|log, path| failing(log, path, "dut1"));
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, Checkpoint).await;
            talk.snapshot(2, Trigger).await;
        }),
    );
    let outcomes = lab.drive(&["dut1"]);
    let said = message(&outcomes[0]);
    assert!(said.contains("vanished behind the trigger") && said.contains("no space"), "{said}");
}
