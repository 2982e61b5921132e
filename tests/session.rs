//! The process that does one run for a server, over a socket as a server would have it: what it says and
//! when, what it refuses, and that nothing happens before the client's word.

#![allow(clippy::unwrap_used, reason = "a test that cannot talk to its session has failed")]

mod common;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{BINARY, Lab};
use fio_spdk::base::clock::Clock;
use fio_spdk::remote::session::frames;
use fio_spdk::remote::wire::bench::{
    ClientMessage, CommandReport, End, Ended, FailureKind, File, Fire, Snapshot, SnapshotCause, Start, State,
    Stored, client_message, server_message, state,
};
use fio_spdk::remote::wire::session::{
    Begin, DriverBack, DriverGone, FromSession, Policy, ToSession, Underway, from_session, to_session,
};
use fio_spdk::run::load_snapshot;

const RUN: &str = "00112233445566778899aabbccddeeff";
const LIMIT: Duration = Duration::from_secs(60);

const JOB: &str = r#"
[[job]]
name = "j"
ioengine = "psync"
rw = "randwrite"
bs = "4k"
size = "1m"
fsync = 20
time_based = true
runtime = "50s"
verify = "crc32c"
filename = "data"
"#;

struct Session {
    lab: Lab,
    socket: UnixStream,
    child: Child,
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lab() -> Lab {
    let lab = Lab::new();
    for folder in ["jobs", "runs/1", "locks"] {
        fs::create_dir_all(lab.path(folder)).unwrap();
    }
    lab
}

fn begin(lab: &Lab, job: &str) -> Begin {
    let text = |name: &str| lab.path(name).display().to_string();
    Begin {
        start: Some(Start {
            protocol: Some(fio_spdk::remote::protocol()),
            job_files: vec![File { name: "powercut.toml".to_owned(), text: job.to_owned() }],
            client: "alice".to_owned(),
            progress_interval_ns: 100_000_000,
            ..Start::default()
        }),
        run: RUN.to_owned(),
        run_directory: text("runs/1"),
        policy: Some(Policy {
            directory: text("jobs"),
            devices: Vec::new(),
            commands: vec!["echo cut > cut; cp $FIO_SPDK_STATE copy".to_owned()],
            lock_directory: text("locks"),
            own: Vec::new(),
            max_memory_bytes: 0,
        }),
        answer_within_ns: 20_000_000_000,
    }
}

impl Session {
    fn start(lab: Lab, change: impl FnOnce(&mut Begin), job: &str) -> Session {
        let mut first = begin(&lab, job);
        change(&mut first);
        let mut session = Session::bare(lab);
        session.send(to_session::What::Begin(first));
        session
    }

    fn bare(lab: Lab) -> Session {
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let child = Command::new(BINARY)
            .arg("session")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Session { lab, socket, child }
    }

    fn send(&mut self, what: to_session::What) {
        frames::write(&mut self.socket, &ToSession { what: Some(what) }).unwrap();
    }

    fn say(&mut self, what: client_message::What) {
        self.send(to_session::What::FromClient(ClientMessage { what: Some(what) }));
    }

    fn store(&mut self, number: u64, failure: &str) {
        self.say(client_message::What::Stored(Stored { number, failure: failure.to_owned() }));
    }

    fn next(&mut self) -> Option<from_session::What> {
        frames::read::<FromSession>(&mut self.socket).unwrap().map(|message| message.what.expect("something"))
    }

    /// The next message of a kind; what lies between is of no interest.
    fn until<T>(&mut self, mut wanted: impl FnMut(from_session::What) -> Option<T>) -> T {
        let clock = Clock::get();
        let until_ns = clock.now_ns() + LIMIT.as_nanos() as u64;
        while clock.now_ns() < until_ns {
            let what = self.next().expect("the session is there");
            if let from_session::What::ToClients(message) = &what
                && let Some(server_message::What::Ended(ended)) = &message.what
            {
                let ended = ended.clone();
                return wanted(what).unwrap_or_else(|| panic!("it ended: {:?}", ended.failure));
            }
            if let Some(found) = wanted(what) {
                return found;
            }
        }
        panic!("it never came")
    }

    fn until_said<T>(&mut self, mut wanted: impl FnMut(server_message::What) -> Option<T>) -> T {
        self.until(|what| match what {
            from_session::What::ToClients(message) => wanted(message.what.expect("something")),
            from_session::What::Underway(_) => None,
        })
    }

    fn underway(&mut self) -> Underway {
        self.until(|what| match what {
            from_session::What::Underway(underway) => Some(underway),
            from_session::What::ToClients(_) => None,
        })
    }

    fn snapshot(&mut self, cause: SnapshotCause) -> Snapshot {
        self.until_said(|what| match what {
            server_message::What::Snapshot(snapshot) if snapshot.cause() == cause => Some(snapshot),
            _ => None,
        })
    }

    /// The first snapshot, before anything is written, is stored.
    fn let_begin(&mut self) {
        let first = self.snapshot(SnapshotCause::Checkpoint);
        assert!(first.awaited, "nothing is written before the client has the first one");
        self.store(first.number, "");
    }

    fn await_progress(&mut self) {
        self.until_said(|what| matches!(what, server_message::What::Progress(_)).then_some(()));
    }

    /// Answers snapshots until the end.
    fn end(&mut self) -> Ended {
        loop {
            let what = self.until_said(Some);
            match what {
                server_message::What::Snapshot(snapshot) => self.store(snapshot.number, ""),
                server_message::What::Ended(ended) => {
                    assert_eq!(self.next(), None, "nothing comes behind the end");
                    self.child.wait().unwrap();
                    return ended;
                }
                _ => {}
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.lab.path(name)
    }
}

fn refusal(ended: &Ended) -> (FailureKind, String) {
    let failure = ended.failure.as_ref().expect("a failure");
    (failure.kind(), failure.message.clone())
}

#[test]
fn a_run_is_accepted_then_told_of_then_ended() {
    let job = JOB.replace("time_based = true\nruntime = \"50s\"\n", "");
    let mut session = Session::start(lab(), |_| {}, &job);
    let underway = session.underway();
    assert_eq!(
        (underway.job_file.as_str(), underway.targets.as_slice()),
        ("powercut.toml", &["data".to_owned()][..])
    );
    let accepted = session.until_said(|what| match what {
        server_message::What::Accepted(accepted) => Some(accepted),
        _ => None,
    });
    assert_eq!((accepted.run.as_str(), accepted.drives), (RUN, true));
    session.let_begin();
    let last = session.snapshot(SnapshotCause::Ended);
    assert!(last.awaited && !last.content.is_empty());
    session.store(last.number, "");
    let ended = session.end();
    assert_eq!(ended.failure, None);
    assert!(ended.report.is_some());
    assert_eq!(fs::read(session.path("runs/1/run.state")).unwrap(), last.content, "the server has a copy");
    assert_eq!(load_snapshot(&session.path("runs/1/run.state")).unwrap().snapshot.run.to_string(), RUN);
}

#[test]
fn the_servers_command_waits_until_the_client_has_stored_the_snapshot() {
    let job = format!("{JOB}trigger_remote = \"echo cut > cut; cp $FIO_SPDK_STATE copy\"\n");
    let mut session = Session::start(lab(), |_| {}, &job);
    session.let_begin();
    session.await_progress();
    session.say(client_message::What::Fire(Fire { why: "file cut".to_owned() }));
    let snapshot = session.snapshot(SnapshotCause::Trigger);
    assert!(snapshot.awaited && snapshot.trigger.is_some());
    // An older answer is not that one's.
    session.store(snapshot.number - 1, "");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!session.path("jobs/cut").exists(), "the command ran before the client's word");
    session.store(snapshot.number, "");
    let ended = session.end();
    assert_eq!(ended.failure, None);
    assert_eq!(
        fs::read(session.path("jobs/copy")).unwrap(),
        snapshot.content,
        "it ran, behind the same snapshot"
    );
}

#[test]
fn without_the_clients_word_no_command_runs() {
    let job = format!("{JOB}trigger_remote = \"echo cut > cut; cp $FIO_SPDK_STATE copy\"\n");
    // It says that it could not; it says nothing; it is gone.
    for what in ["disk full", "", "gone"] {
        let silent = |begin: &mut Begin| {
            if what.is_empty() {
                begin.answer_within_ns = 1_500_000_000;
            }
        };
        let mut session = Session::start(lab(), silent, &job);
        session.let_begin();
        session.await_progress();
        session.say(client_message::What::Fire(Fire::default()));
        let snapshot = session.snapshot(SnapshotCause::Trigger);
        match what {
            "gone" => session.send(to_session::What::DriverGone(DriverGone {})),
            "" => {}
            why => session.store(snapshot.number, why),
        }
        let ended = session.until_said(|what| match what {
            server_message::What::Ended(ended) => Some(ended),
            _ => None,
        });
        assert!(ended.report.is_some());
        assert!(!session.path("jobs/cut").exists(), "{what}");
    }
}

#[test]
fn the_clients_own_command_is_asked_for_behind_the_snapshot() {
    let job = format!("{JOB}trigger = \"pdu off 3\"\ntrigger_ios = 100\n");
    let mut session = Session::start(lab(), |_| {}, &job);
    session.let_begin();
    let snapshot = session.snapshot(SnapshotCause::Trigger);
    session.store(snapshot.number, "");
    let wanted = session.until_said(|what| match what {
        server_message::What::CommandWanted(wanted) => Some(wanted.command),
        _ => None,
    });
    assert_eq!(wanted, "pdu off 3");
    let report = CommandReport {
        text: wanted,
        status: "exit status: 0".to_owned(),
        success: true,
        ..Default::default()
    };
    session.say(client_message::What::CommandRan(report));
    assert_eq!(session.end().failure, None);
}

#[test]
fn checkpoints_stream_without_being_answered() {
    let job = format!("{JOB}state_checkpoint = \"20ms\"\n");
    let mut session = Session::start(lab(), |_| {}, &job);
    session.let_begin();
    let mut last = 0;
    for _ in 0..5 {
        let snapshot = session.snapshot(SnapshotCause::Checkpoint);
        assert!(!snapshot.awaited && snapshot.number > last);
        last = snapshot.number;
    }
    session.say(client_message::What::End(End { signal: 2 }));
    assert_eq!(session.end().failure, None);
}

#[test]
fn the_state_to_judge_by_is_the_clients() {
    let job = JOB.replace("time_based = true\nruntime = \"50s\"\n", "");
    let mut session = Session::start(lab(), |_| {}, &job);
    session.let_begin();
    let snapshot = session.snapshot(SnapshotCause::Ended);
    session.store(snapshot.number, "");
    assert_eq!(session.end().failure, None);

    let judging = format!("{job}verify_state_load = true\n");
    let data = fs::read(session.path("jobs/data")).unwrap();
    let damaged = snapshot.content[..snapshot.content.len() / 2].to_vec();
    for (answer, word) in [
        (state::What::Snapshot(damaged.into()), Some("snapshot")),
        (state::What::Missing("no such file".to_owned()), Some("no such file")),
    ] {
        let other = lab();
        fs::write(other.path("jobs/data"), &data).unwrap();
        let mut session = Session::start(other, |_| {}, &judging);
        session.until_said(|what| matches!(what, server_message::What::StateWanted(_)).then_some(()));
        session.say(client_message::What::State(State { what: Some(answer) }));
        let ended = session.end();
        let (_, why) = refusal(&ended);
        assert!(word.is_some_and(|word| why.contains(word)) && ended.report.is_none(), "{why}");
    }
    // The same file in the same place.
    let same = std::mem::replace(&mut session.lab, lab());
    fs::remove_file(same.path("runs/1/run.state")).unwrap();
    let mut session = Session::start(same, |_| {}, &judging);
    session.until_said(|what| matches!(what, server_message::What::StateWanted(_)).then_some(()));
    session.say(client_message::What::State(State { what: Some(state::What::Snapshot(snapshot.content)) }));
    let ended = session.end();
    assert_eq!(ended.failure, None);
    assert!(ended.report.is_some());
}

#[test]
fn without_its_driver_a_run_ends_unless_it_is_detached() {
    let mut session = Session::start(lab(), |_| {}, JOB);
    session.let_begin();
    session.send(to_session::What::DriverGone(DriverGone {}));
    let ended = session.end();
    assert!(ended.report.is_some());
    assert!(load_snapshot(&session.path("runs/1/run.state")).is_ok(), "the server keeps its copy");

    let mut session = Session::start(lab(), |_| {}, &format!("{JOB}detach = true\n"));
    assert!(session.underway().detach);
    session.let_begin();
    session.send(to_session::What::DriverGone(DriverGone {}));
    session.await_progress();
    session.await_progress();
    session.send(to_session::What::DriverBack(DriverBack {}));
    // What a new client must have is sent again.
    let again = session.snapshot(SnapshotCause::Checkpoint);
    assert!(again.awaited);
    session.store(again.number, "");
    session.say(client_message::What::End(End { signal: 15 }));
    assert_eq!(session.end().failure, None);
}

#[test]
fn what_the_server_does_not_allow_is_refused_by_name() {
    for (line, word) in [
        ("filename = \"/etc/passwd\"", "directory"),
        ("filename = \"/dev/zero\"", "devices = [\"/dev/zero\"]"),
        ("exec_prerun = \"touch ran\"", "commands = [\"touch ran\"]"),
        ("trigger_remote = \"touch ran\"", "commands = [\"touch ran\"]"),
        ("write_bw_log = \"../x\"", "write_bw_log"),
        ("verify_pattern = \"'/etc/passwd'\"", "verify_pattern"),
        ("cgroup = \"x\"", "cgroup"),
    ] {
        let job = JOB.replace("filename = \"data\"\n", "").replace("verify = \"crc32c\"\n", "") + line + "\n";
        let ended = Session::start(lab(), |_| {}, &job).end();
        let (kind, why) = refusal(&ended);
        assert_eq!(kind, FailureKind::NotAllowed, "{line}: {why}");
        assert!(why.contains(word) && !why.contains("root:"), "{line}: {why}");
    }
}

#[test]
fn two_runs_do_not_share_a_target() {
    let mut first = Session::start(lab(), |_| {}, JOB);
    first.let_begin();
    let place = (first.path("jobs"), first.path("locks"));
    let shared = |begin: &mut Begin| {
        let policy = begin.policy.as_mut().unwrap();
        policy.directory = place.0.display().to_string();
        policy.lock_directory = place.1.display().to_string();
    };
    let (kind, why) = refusal(&Session::start(lab(), shared, JOB).end());
    assert_eq!(kind, FailureKind::Busy);
    assert!(why.contains(RUN) && why.contains("alice"), "{why}");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    // The lock went with it.
    let mut third = Session::start(lab(), shared, JOB);
    third.let_begin();
}

#[test]
fn mistakes_in_jobs_come_back_with_their_place() {
    let ended = Session::start(lab(), |_| {}, "[[job]]\niodpeth = 3\n").end();
    let (kind, why) = refusal(&ended);
    assert_eq!(kind, FailureKind::BadJob);
    assert!(why.contains("powercut.toml") && why.contains("iodepth"), "{why}");
}

#[test]
fn garbage_ends_it_and_nothing_else_happens() {
    for seed in 0..8_u8 {
        let mut session = Session::bare(lab());
        let noise: Vec<u8> = (0..64_u8).map(|at| at.wrapping_mul(seed.wrapping_mul(31) | 1) ^ seed).collect();
        let mut framed = 64_u32.to_le_bytes().to_vec();
        framed.extend(noise);
        use std::io::Write;
        let _ = session.socket.write_all(&framed);
        let _ = session.socket.shutdown(std::net::Shutdown::Write);
        assert!(!session.child.wait().unwrap().success());
    }
    // In the middle of a run: it ends in order, and keeps what it knows.
    let mut session = Session::start(lab(), |_| {}, JOB);
    session.let_begin();
    session.await_progress();
    use std::io::Write;
    session.socket.write_all(&[0xff; 64]).unwrap();
    session.child.wait().unwrap();
    assert!(load_snapshot(&session.path("runs/1/run.state")).is_ok());
    assert!(session.path("runs/1/report.pb").exists());
}

#[test]
fn a_session_whose_server_is_killed_ends_and_keeps_its_snapshot_even_detached() {
    let mut session = Session::start(lab(), |_| {}, &format!("{JOB}detach = true\n"));
    session.let_begin();
    session.await_progress();
    session.socket.shutdown(std::net::Shutdown::Both).unwrap();
    session.child.wait().unwrap();
    assert!(load_snapshot(&session.path("runs/1/run.state")).is_ok());
    assert!(session.path("runs/1/report.pb").exists());
}

#[test]
fn what_only_servers_do_is_refused_without_one() {
    let lab = lab();
    lab.file("j.toml", JOB);
    for option in ["--trigger_remote=x", "--detach"] {
        let done = lab.run(&["j.toml", option]);
        let said = done.expect(2).stderr.clone();
        assert!(said.contains("--client=HOST"), "{said}");
    }
    assert!(
        lab.run(&["j.toml", "--trigger_remote=x", "--trigger=y"])
            .expect(2)
            .stderr
            .contains("do not go together")
    );
}
