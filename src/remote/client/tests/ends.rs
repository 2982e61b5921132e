//! Beginnings and ends: servers that are late or refuse, and users who have had enough.

use super::*;
use crate::remote::client::ask;
use bench::SnapshotCause::Checkpoint;

async fn plain(mut talk: Talk) {
    talk.accept().await;
    talk.snapshot(1, Checkpoint).await;
    talk.end().await;
}

#[test]
fn all_wait_for_one_that_is_late() {
    let mut lab = Lab::new();
    lab.serve("dut1", script(plain));
    lab.serve_late("dut2", script(plain), protocol(), Duration::from_millis(700));
    well(&lab.drive(&["dut1", "dut2"]));
    assert!(lab.log.at("dut2: there") < lab.log.at("dut1: asked"), "{:?}", lab.log.all());
    let waits = lab.hear.notes.iter().filter(|note| note.starts_with("1: waiting for it"));
    assert_eq!(waits.count(), 1, "{:?}", lab.hear.notes);
}

#[test]
fn one_that_never_comes_does_not_keep_the_others() {
    let mut lab = Lab::new();
    lab.connect_within = Duration::from_millis(600);
    lab.serve("dut1", script(plain));
    let outcomes = lab.drive(&["dut1", "dut2"]);
    assert_eq!(outcomes[0].failure, None, "{outcomes:#?}");
    let said = message(&outcomes[1]);
    assert!(said.contains("dut2") && said.contains("tried for 600 ms"), "{said}");
    assert_eq!(outcomes[1].run, None);
}

#[test]
fn one_of_another_version_is_named_and_not_asked() {
    let mut lab = Lab::new();
    let mut other = protocol();
    other.minor += 2;
    lab.serve("dut1", script(plain));
    lab.serve_late("dut2", script(plain), other, Duration::from_millis(100));
    let outcomes = lab.drive(&["dut1", "dut2"]);
    assert_eq!(outcomes[0].failure, None);
    assert!(message(&outcomes[1]).contains("dut2 speaks protocol 1.2"), "{outcomes:#?}");
    assert_eq!(lab.log.count("dut2: asked"), 0);
    let mut near = protocol();
    near.minor += 1;
    lab.serve_late("dut3", script(plain), near, Duration::from_millis(100));
    well(&lab.drive(&["dut3"]));
}

#[test]
fn what_a_server_refuses_has_its_kind() {
    use bench::FailureKind as Kind;
    for (kind, expected) in [
        (Kind::BadJob, FailureKind::BadJob),
        (Kind::NotAllowed, FailureKind::BadJob),
        (Kind::Unsafe, FailureKind::Unsafe),
        (Kind::Busy, FailureKind::Unsafe),
    ] {
        let mut lab = Lab::new();
        lab.serve(
            "dut1",
            script(move |mut talk: Talk| async move {
                talk.hear().await;
                let failure = bench::Failure { kind: kind.into(), message: "no,\nnever".to_owned() };
                talk.say(What::Ended(bench::Ended { failure: Some(failure), ..bench::Ended::default() }))
                    .await;
            }),
        );
        let outcomes = lab.drive(&["dut1"]);
        assert_eq!(outcomes[0].failure.as_ref().unwrap().kind, expected);
        assert!(message(&outcomes[0]).ends_with("dut1: no,\nnever"), "{outcomes:#?}");
    }
    let mut lab = Lab::new();
    lab.serve(
        "dut1",
        script(async |talk: Talk| drop(talk.to.send(Err(Status::resource_exhausted("too many"))).await)),
    );
    assert!(message(&lab.drive(&["dut1"])[0]).ends_with("dut1: too many"));
}

/// Ends only when it was asked `times` times.
fn stubborn(requests: Requests, times: usize) -> Script {
    script(move |mut talk: Talk| {
        let requests = requests.clone();
        async move {
            talk.accept().await;
            talk.snapshot(1, Checkpoint).await;
            for _ in 0..times {
                requests.end_signal.store(2, Ordering::Release);
                requests.end_count.fetch_add(1, Ordering::AcqRel);
                match talk.hear().await {
                    Some(Said::End(end)) => talk.log(end),
                    _ => return talk.log("gone"),
                }
            }
            talk.end().await;
        }
    })
}

#[test]
fn the_first_signal_ends_in_order_and_the_second_does_not_wait() {
    let mut lab = Lab::new();
    lab.serve("dut1", stubborn(lab.requests.clone(), 2));
    well(&lab.drive(&["dut1"]));
    assert_eq!(lab.log.count("dut1: End { signal: 2 }"), 2, "{:?}", lab.log.all());
}

#[test]
fn the_third_signal_leaves() {
    let mut lab = Lab::new();
    lab.serve("dut1", stubborn(lab.requests.clone(), 9));
    let outcomes = lab.drive(&["dut1"]);
    assert!(message(&outcomes[0]).contains("left without waiting"), "{outcomes:#?}");
    assert_eq!(lab.log.count("dut1: End { signal: 2 }"), 2, "{:?}", lab.log.all());
}

#[test]
fn a_signal_before_the_start_starts_nothing() {
    let mut lab = Lab::new();
    lab.serve("dut1", script(plain));
    lab.requests.end_count.store(1, Ordering::Release);
    let outcomes = lab.drive(&["dut1", "nobody"]);
    assert!(outcomes.iter().all(|outcome| message(outcome).contains("ended before it began")));
    assert_eq!(lab.log.count("dut1: asked"), 0);
}

fn attach(lab: &Lab, watch: bool) -> Target {
    let work = Work::Attach { run: "0123".to_owned(), watch, state_dir: lab.dir.path().to_owned() };
    Target { address: lab.address("dut1"), work }
}

#[test]
fn who_attaches_gets_the_state_and_the_end() {
    let mut lab = Lab::new();
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            let Some(Said::Attach(attach)) = talk.hear().await else { panic!() };
            talk.log(attach.run);
            talk.say(accepted(RUN)).await;
            talk.snapshot(9, Checkpoint).await;
            talk.end().await;
        }),
    );
    let outcomes = lab.drive_all(vec![attach(&lab, false)]);
    well(&outcomes);
    assert_eq!(lab.log.count("dut1: 0123"), 1);
    assert_eq!(std::fs::read(lab.link("dut1")).unwrap(), state(9).encode());
    // An older one does not take the link back.
    let newer = Snapshot { taken_unix_ns: 99, ..state(1) };
    let file = lab.path("newer");
    std::fs::write(&file, newer.encode()).unwrap();
    std::fs::remove_file(lab.link("dut1")).unwrap();
    std::os::unix::fs::symlink("newer", lab.link("dut1")).unwrap();
    well(&lab.drive_all(vec![attach(&lab, false)]));
    assert_eq!(std::fs::read(lab.link("dut1")).unwrap(), newer.encode());
}

#[test]
fn who_watches_stores_nothing_and_ends_nothing() {
    let mut lab = Lab::new();
    let requests = lab.requests.clone();
    lab.serve(
        "dut1",
        script(move |mut talk: Talk| {
            let requests = requests.clone();
            async move {
                talk.hear().await;
                let What::Accepted(all) = accepted(RUN) else { unreachable!() };
                talk.say(What::Accepted(bench::Accepted { drives: false, ..all })).await;
                talk.say(snapshot(1, Checkpoint, state(1).encode())).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                requests.end_count.store(1, Ordering::Release);
                let next = talk.hear().await;
                talk.log(next);
            }
        }),
    );
    let outcomes = lab.drive_all(vec![attach(&lab, true)]);
    well(&outcomes);
    assert!(!lab.link("dut1").exists());
    for _ in 0..6000 {
        if lab.log.count("dut1: None") == 1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?}", lab.log.all());
}

#[test]
fn a_server_is_asked_what_runs_there_and_told_to_stop() {
    let lab = Lab::new();
    lab.serve("dut1", script(plain));
    let (way, address, within) =
        (way::connector(&Trust::default()), lab.address("dut1"), Duration::from_secs(20));
    let reply = ask::status_by(&way, &address, within).unwrap();
    assert_eq!(reply.host, "dut\\u001b[2J");
    assert_eq!(ask::stop_by(&way, &address, "", within).unwrap().run, RUN);
    let failure = ask::stop_by(&way, &address, "77", within).unwrap_err();
    assert_eq!(failure.kind, FailureKind::BadJob);
    assert!(failure.message.ends_with("dut1: no run begins with 77"), "{failure:?}");
    let failure = ask::status_by(&way, &lab.address("nobody"), within).unwrap_err();
    assert!(failure.kind == FailureKind::Environment && failure.message.contains("nobody"), "{failure:?}");
}

/// Loses its first client, and waits for the next.
fn comes_back() -> Script {
    let conversations = Arc::new(AtomicU32::new(0));
    script(move |mut talk: Talk| {
        let conversations = Arc::clone(&conversations);
        async move {
            let first = talk.accept().await;
            if conversations.fetch_add(1, Ordering::AcqRel) == 0 {
                talk.snapshot(1, Checkpoint).await;
                let _ = talk.to.send(Err(Status::unavailable("the network broke"))).await;
                return;
            }
            let Some(Said::Attach(attach)) = first else { panic!("{first:?}") };
            talk.log((attach.run.as_str(), attach.watch));
            talk.snapshot(2, Checkpoint).await;
            talk.end().await;
        }
    })
}

#[test]
fn a_run_that_is_detached_is_come_back_to_when_the_network_broke() {
    let mut lab = Lab::new();
    lab.detach = true;
    lab.serve("dut1", comes_back());
    well(&lab.drive(&["dut1"]));
    assert_eq!(lab.log.count(&format!("dut1: ({RUN}, false)")), 1, "{:?}", lab.log.all());
    assert!(lab.hear.has("the network broke") && lab.hear.has("connected again"), "{:?}", lab.hear.notes);
    assert_eq!(std::fs::read(lab.file("dut1")).unwrap(), state(2).encode());
    // One that is not detached is ended by its server.
    let mut lab = Lab::new();
    lab.serve("dut1", comes_back());
    let outcomes = lab.drive(&["dut1"]);
    let said = message(&outcomes[0]);
    assert!(said.contains("vanished (the network broke); if it lives, it ends the run"), "{said}");
}

#[test]
fn the_first_signal_leaves_a_detached_run_and_says_how_to_come_back() {
    let mut lab = Lab::new();
    lab.detach = true;
    lab.serve("dut1", stubborn(lab.requests.clone(), 1));
    well(&lab.drive(&["dut1"]));
    assert_eq!(lab.log.count("dut1: End { signal: 2 }"), 0, "{:?}", lab.log.all());
    assert!(lab.hear.has(&format!("the run goes on: fio-spdk attach {}", lab.address("dut1"))));
}
