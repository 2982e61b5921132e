//! Servers that mean harm.

use super::*;
use crate::remote::MOST_MESSAGE_BYTES;
use bench::SnapshotCause::{Checkpoint, Trigger};

fn against(attack: Script) -> (Lab, Outcome) {
    let mut lab = Lab::new();
    lab.silence = Duration::from_secs(5);
    lab.serve("evil", attack);
    let outcome = lab.drive(&["evil"]).remove(0);
    (lab, outcome)
}

#[test]
fn a_run_id_is_no_path() {
    for run in [
        "../../../../etc/cron.d/evil",
        "",
        "0123",
        "0123456789ABCDEF0123456789ABCDEF",
        "/0123456789abcdef0123456789abcde",
    ] {
        let (lab, outcome) = against(script(move |mut talk: Talk| async move {
            talk.hear().await;
            talk.say(accepted(run)).await;
            talk.snapshot(1, Checkpoint).await;
            talk.end().await;
        }));
        assert!(message(&outcome).contains("no run's id"), "{outcome:?}");
        assert_eq!(lab.log.count("evil: told stored"), 0);
        assert_eq!(std::fs::read_dir(lab.dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn names_of_files_are_made_of_what_a_job_is_called_and_no_more() {
    for (told, name) in [
        ("powercut.toml", "powercut"),
        ("../../etc/passwd", "passwd"),
        ("a b\u{1b}[2J;rm.toml", "a_b__2J_rm"),
        ("..", "run"),
        ("...toml", "run"),
        ("", "run"),
        ("-", "-"),
    ] {
        assert_eq!(evidence::job_name(told), name, "{told}");
    }
    assert_eq!(evidence::job_name(&"x".repeat(5000)).len(), 100);
}

#[test]
fn no_command_of_a_server_runs_here() {
    let file = std::env::temp_dir().join(format!("fio-spdk-evil-{}", std::process::id()));
    let command = format!("touch {}", file.display());
    let (lab, outcome) = against(script(move |mut talk: Talk| {
        let command = command.clone();
        async move {
            talk.accept().await;
            talk.snapshot(1, Trigger).await;
            talk.say(What::CommandWanted(bench::CommandWanted { command })).await;
            if let Some(Said::CommandRan(report)) = talk.hear().await {
                talk.log(report.success);
            }
            talk.end().await;
        }
    }));
    assert_eq!(outcome.failure, None);
    assert_eq!(lab.log.count("evil: false"), 1, "{:?}", lab.log.all());
    assert!(lab.hear.has("none of this client's"), "{:?}", lab.hear.notes);
    assert!(!file.exists());
}

#[test]
fn a_message_beyond_the_limit_ends_the_run_here() {
    let (_, outcome) = against(script(async |mut talk: Talk| {
        talk.accept().await;
        talk.say(What::Note("x".repeat(MOST_MESSAGE_BYTES + 1))).await;
        talk.hang().await;
    }));
    assert_eq!(outcome.failure.as_ref().unwrap().kind, FailureKind::Environment, "{outcome:?}");
}

#[test]
fn a_flood_of_notes_is_cut() {
    let (lab, outcome) = against(script(async |mut talk: Talk| {
        talk.accept().await;
        for _ in 0..5000 {
            talk.say(What::Note("buy\n".repeat(3000))).await;
        }
        talk.snapshot(1, Checkpoint).await;
        talk.end().await;
    }));
    assert_eq!(outcome.failure, None);
    assert_eq!(lab.hear.notes.len(), 1000);
    assert!(lab.hear.notes.iter().all(|note| note.len() < 5000 && !note.contains('\n')));
    assert!(lab.hear.has("further notes of it are left out"));
}

#[test]
fn what_comes_before_the_run_was_accepted_is_refused() {
    let (lab, outcome) = against(script(async |mut talk: Talk| {
        talk.hear().await;
        talk.snapshot(1, Checkpoint).await;
    }));
    assert!(message(&outcome).contains("before it accepted"), "{outcome:?}");
    assert!(!lab.link("evil").exists());
}

#[test]
fn the_state_of_an_earlier_run_is_not_given_to_who_has_no_use_for_it() {
    let mut lab = Lab::new();
    std::os::unix::fs::symlink("old", lab.link("evil")).unwrap();
    std::fs::write(lab.path("old"), state(3).encode()).unwrap();
    lab.serve(
        "evil",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.say(What::StateWanted(bench::StateWanted {})).await;
            let answer = talk.hear().await;
            talk.log(matches!(
                answer,
                Some(Said::State(bench::State { what: Some(bench::state::What::Missing(_)) }))
            ));
            talk.snapshot(1, Checkpoint).await;
            talk.end().await;
        }),
    );
    well(&lab.drive(&["evil"]));
    assert_eq!(lab.log.count("evil: true"), 1, "{:?}", lab.log.all());
}

#[test]
fn one_that_closes_at_once_or_says_nothing_sensible_is_a_failure_and_no_panic() {
    let (_, outcome) = against(script(async |talk: Talk| drop(talk)));
    assert!(message(&outcome).contains("closed the connection"), "{outcome:?}");
    let (_, outcome) = against(script(async |mut talk: Talk| {
        talk.accept().await;
        let _ = talk.to.send(Ok(ServerMessage { what: None })).await;
        let what = snapshot(u64::MAX, Trigger, Vec::new());
        talk.say(what).await;
        talk.stored().await;
        talk.say(What::SoFar(bench::Report::default())).await;
        talk.say(What::Progress(bench::Progress::default())).await;
        talk.end().await;
    }));
    assert!(message(&outcome).contains("is empty, and the jobs keep state"), "{outcome:?}");
}
