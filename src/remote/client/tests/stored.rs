//! What is said to be stored is stored.

use super::*;
use bench::SnapshotCause::{Checkpoint, Ended as AtEnd, Trigger};

fn slow(log: Log, name: &str, millis: u64, fails_from: u32) -> Box<dyn Shelf> {
    let takes = Duration::from_millis(millis);
    Box::new(Slow { log, name: name.to_owned(), takes, fails_from, times: AtomicU32::new(0) })
}

#[test]
fn the_state_of_a_run_lies_under_its_name_and_a_link_leads_to_the_newest() {
    let mut lab = Lab::new();
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            let Some(Said::Start(start)) = talk.accept().await else { panic!("no start") };
            assert_eq!(start.job_files[0].text, JOB);
            assert_eq!(start.overrides[0].name, "runtime");
            talk.snapshot(1, Checkpoint).await;
            talk.say(What::Note("a note\u{1b}[2J".to_owned())).await;
            talk.say(What::Finding("{}".to_owned())).await;
            let progress = bench::Progress { workers_running: 3, ..bench::Progress::default() };
            talk.say(What::Progress(progress)).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            talk.snapshot(2, AtEnd).await;
            talk.end().await;
        }),
    );
    let outcomes = lab.drive(&["dut1"]);
    well(&outcomes);
    assert_eq!(outcomes[0].run.as_deref(), Some(RUN));
    assert_eq!(std::fs::read(lab.file("dut1")).unwrap(), state(2).encode());
    let target = std::fs::read_link(lab.link("dut1")).unwrap();
    assert_eq!(target.as_os_str(), lab.file("dut1").file_name().unwrap());
    assert!(lab.hear.has("0: a note\\u001b[2J"), "{:?}", lab.hear.notes);
    assert_eq!(lab.hear.findings, ["{}"]);
    assert_eq!(lab.hear.most_running, 3);
    assert_eq!(lab.log.count("dut1: told stored"), 2);
    let left: Vec<_> = std::fs::read_dir(lab.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_snapshot_is_acknowledged_only_when_the_disk_has_it() {
    let mut lab = Lab::new();
    lab.store_by(|log, _| slow(log, "disk", 300, u32::MAX));
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(1, Checkpoint).await;
            talk.end().await;
        }),
    );
    // The file is the trial's own, so nothing but the link is there.
    well(&lab.drive(&["dut1"]));
    assert!(lab.log.at("disk holds") < lab.log.at("dut1: told stored"), "{:?}", lab.log.all());
}

#[test]
fn a_disk_that_fails_is_told_to_the_server_and_to_the_user() {
    let mut lab = Lab::new();
    lab.store_by(|log, _| slow(log, "disk", 0, 1));
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            let stored = talk.snapshot(1, Checkpoint).await;
            assert!(stored.failure.contains("no space"), "{stored:?}");
            talk.end().await;
        }),
    );
    lab.drive(&["dut1"]);
    assert_eq!(lab.log.count("dut1: told not stored"), 1);
    assert!(
        lab.hear.has("its state could not be stored") && lab.hear.has("no space"),
        "{:?}",
        lab.hear.notes
    );
    assert!(!lab.link("dut1").exists());
}

#[test]
fn checkpoints_that_come_faster_than_the_disk_are_answered_by_the_last() {
    let mut lab = Lab::new();
    lab.store_by(|log, _| slow(log, "disk", 200, u32::MAX));
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            for number in 1..=20 {
                talk.say(snapshot(number, Checkpoint, state(number).encode())).await;
            }
            while talk.stored().await.number < 20 {}
            talk.end().await;
        }),
    );
    well(&lab.drive(&["dut1"]));
    let times = lab.log.count("disk holds");
    assert!((1..20).contains(&times), "stored {times} times");
}

/// Loses its first client behind snapshot 5; the run ends, and who comes back is given a copy of it, as
/// its first snapshot.
fn ends_alone(taken: u64) -> Script {
    let conversations = Arc::new(AtomicU32::new(0));
    script(move |mut talk: Talk| {
        let conversations = Arc::clone(&conversations);
        async move {
            talk.accept().await;
            if conversations.fetch_add(1, Ordering::AcqRel) == 0 {
                talk.snapshot(5, Checkpoint).await;
                let _ = talk.to.send(Err(Status::unavailable("the network broke"))).await;
                return;
            }
            talk.say(snapshot(1, AtEnd, state(taken).encode())).await;
            talk.end().await;
        }
    })
}

#[test]
fn the_end_of_a_run_that_ended_alone_is_stored_whatever_its_number() {
    let mut lab = Lab::new();
    lab.detach = true;
    lab.serve("dut1", ends_alone(9));
    well(&lab.drive(&["dut1"]));
    assert_eq!(std::fs::read(lab.file("dut1")).unwrap(), state(9).encode());
}

#[test]
fn a_servers_copy_that_is_older_than_what_had_come_does_not_take_its_place() {
    let mut lab = Lab::new();
    lab.detach = true;
    lab.serve("dut1", ends_alone(4));
    well(&lab.drive(&["dut1"]));
    assert_eq!(std::fs::read(lab.file("dut1")).unwrap(), state(5).encode());
    // Nor for another process, which knows only the file.
    let work = Work::Attach { run: String::new(), watch: false, state_dir: lab.dir.path().to_owned() };
    let address = lab.address("dut1");
    well(&lab.drive_all(vec![Target { address, work }]));
    assert_eq!(std::fs::read(lab.file("dut1")).unwrap(), state(5).encode());
}

#[test]
fn what_was_fetched_of_an_ended_run_and_could_not_be_stored_is_a_failure() {
    for (millis, fails_from) in [(500, 1), (500, u32::MAX)] {
        let mut lab = Lab::new();
        lab.store_by(move |log, _| slow(log, "disk", millis, fails_from));
        lab.serve(
            "dut1",
            script(async |mut talk: Talk| {
                talk.accept().await;
                // Nobody waits for the answer.
                talk.say(snapshot(1, AtEnd, state(1).encode())).await;
                talk.end().await;
            }),
        );
        let work = Work::Attach { run: String::new(), watch: false, state_dir: lab.dir.path().to_owned() };
        let outcomes = lab.drive_all(vec![Target { address: lab.address("dut1"), work }]);
        match fails_from {
            1 => assert!(message(&outcomes[0]).contains("no space"), "{outcomes:#?}"),
            _ => {
                well(&outcomes);
                assert_eq!(lab.log.count("disk holds"), 1);
            }
        }
    }
}

#[test]
fn a_damaged_or_foreign_snapshot_leaves_the_good_one() {
    let mut lab = Lab::new();
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.snapshot(5, Checkpoint).await;
            let mut damaged = state(6).encode();
            damaged[40] ^= 1;
            let foreign = Snapshot { run: RunId(7), ..state(7) };
            for (number, content) in
                [(6, damaged), (7, foreign.encode()), (8, b"nothing".to_vec()), (4, state(4).encode())]
            {
                talk.say(snapshot(number, Checkpoint, content)).await;
                let stored = talk.stored().await;
                assert!(stored.number == number && !stored.failure.is_empty(), "{stored:?}");
            }
            talk.end().await;
        }),
    );
    lab.drive(&["dut1"]);
    assert_eq!(lab.log.count("dut1: told not stored"), 4, "{:?}", lab.log.all());
    assert_eq!(std::fs::read(lab.file("dut1")).unwrap(), state(5).encode());
}

#[test]
fn nothing_is_contacted_if_the_state_cannot_be_kept() {
    let mut lab = Lab::new();
    for name in ["dut1", "dut2"] {
        lab.serve(name, script(async |mut talk: Talk| drop(talk.accept().await)));
    }
    std::fs::write(lab.link("dut2"), "a file of mine").unwrap();
    let outcomes = lab.drive(&["dut1", "dut2"]);
    assert!(message(&outcomes[0]).contains("not started: the state of unix:"), "{outcomes:#?}");
    assert!(message(&outcomes[1]).contains("move it away"), "{outcomes:#?}");
    assert_eq!(lab.log.all(), Vec::<String>::new());
    lab.job = format!("{JOB}state_dir='{}'\n", lab.path("nowhere").display());
    let outcomes = lab.drive(&["dut1"]);
    assert!(message(&outcomes[0]).contains("nowhere"), "{outcomes:#?}");
    assert_eq!(lab.log.all(), Vec::<String>::new());
}

#[test]
fn the_state_of_an_earlier_run_is_given_to_who_judges_by_it() {
    let mut lab = Lab::new();
    lab.job = format!("{JOB}verify_state_load=true\n");
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.say(What::StateWanted(bench::StateWanted {})).await;
            let Some(Said::State(bench::State { what: Some(what) })) = talk.hear().await else { panic!() };
            match what {
                bench::state::What::Snapshot(bytes) => talk.log(bytes == state(3).encode()),
                bench::state::What::Missing(why) => talk.log(why),
            }
            talk.end().await;
        }),
    );
    well(&lab.drive(&["dut1"]));
    assert!(lab.log.all()[1].contains(&lab.link("dut1").display().to_string()), "{:?}", lab.log.all());
    std::fs::write(lab.path("old"), state(3).encode()).unwrap();
    std::os::unix::fs::symlink("old", lab.link("dut1")).unwrap();
    well(&lab.drive(&["dut1"]));
    assert_eq!(lab.log.count("dut1: true"), 1, "{:?}", lab.log.all());
    std::fs::write(lab.path("old"), &state(3).encode()[..60]).unwrap();
    well(&lab.drive(&["dut1"]));
    assert!(lab.log.all().last().unwrap().contains("damaged"), "{:?}", lab.log.all());
}

/// Runs alone too; under strace it shows in which order the kernel was asked.
#[test]
fn a_state_of_number_one_million() {
    let mut lab = Lab::new();
    lab.serve(
        "dut1",
        script(async |mut talk: Talk| {
            talk.accept().await;
            talk.say(snapshot(1_000_000, Trigger, state(1).encode())).await;
            assert_eq!(talk.stored().await, bench::Stored { number: 1_000_000, failure: String::new() });
            talk.end().await;
        }),
    );
    well(&lab.drive(&["dut1"]));
}

#[test]
fn the_kernel_is_asked_to_store_before_the_server_is_told() {
    let own = std::env::current_exe().unwrap();
    let lab = tempfile::tempdir().unwrap();
    let trace = lab.path().join("trace");
    let traced = std::process::Command::new("strace")
        .args(["-f", "-y", "-xx", "-s", "200", "-o"])
        .arg(&trace)
        .args([
            "-e",
            "trace=fsync,pwrite64,rename,renameat,renameat2,symlink,symlinkat,sendto,sendmsg,write,writev",
        ])
        .arg(own)
        .args(["--exact", "remote::client::tests::stored::a_state_of_number_one_million"])
        .output();
    let Ok(traced) = traced.inspect_err(|why| println!("skipped: no strace: {why}")) else { return };
    if !traced.status.success() {
        println!("skipped: strace cannot trace here: {}", String::from_utf8_lossy(&traced.stderr));
        return;
    }
    let text = std::fs::read_to_string(&trace).unwrap();
    let hex = |text: &str| text.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let lines: Vec<&str> = text.lines().collect();
    // The line in which a call that is like this came back.
    let find = |what: &str, from: usize, is: &dyn Fn(&str) -> bool| {
        let at = lines[from..].iter().position(|line| is(line));
        let at = from + at.unwrap_or_else(|| panic!("no {what} behind line {from} of\n{text}"));
        let thread = lines[at].split(' ').next().unwrap();
        let resumed = |line: &&str| line.starts_with(thread) && line.contains("resumed>");
        if lines[at].contains("<unfinished") {
            at + lines[at..].iter().position(resumed).unwrap()
        } else {
            at
        }
    };
    let has = |line: &str, text: &str| line.contains(text) || line.contains(&hex(text));
    // 1,000,000 as protobuf writes it: field 1, then seven bits a byte.
    let told = lines.iter().position(|line| line.contains("\\x22\\x04\\x08\\xc0\\x84\\x3d"));
    let told = told.unwrap_or_else(|| panic!("no answer in\n{text}"));
    let content = find("content", 0, &|line| line.contains("pwrite") && has(line, "job 1"));
    let synced =
        find("fsync of the file", content, &|line| line.contains("fsync(") && has(line, ".state.new"));
    let renamed = find("rename", synced, &|line| line.contains("rename") && has(line, ".state.new"));
    let dir = find("fsync of the directory", renamed, &|line| line.contains("fsync("));
    let linked = find("link", dir, &|line| line.contains("rename") && has(line, ".link"));
    let last = find("fsync of the link's directory", linked, &|line| line.contains("fsync("));
    assert!(last < told, "told at line {told}, safe at {last}:\n{text}");
}
