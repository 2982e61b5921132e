//! SIGKILL of a client, of a server, of the process that does the run, or of all of them, at any moment: what
//! was acknowledged is on the client, whole and true, and the next run starts as if nothing had been.
//!
//! `FIO_SPDK_KILLS=100 cargo test --test remote_kill` kills more often; a seed that fails is tried again alone
//! with `FIO_SPDK_KILL_SEED=N`.

mod common;
#[path = "common/remote.rs"]
mod remote;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use common::{Done, at, number};
use fio_spdk::base::random;
use fio_spdk::remote::address::Address;
use remote::{Bench, Home, Process, here, judged, wait_until};
use rustix::process::Signal;

const JOB: &str = r#"
[[job]]
name = "j"
ioengine = "psync"
filename = "data"
rw = "randwrite"
bs = "4k"
size = "256k"
time_based = true
runtime = "300ms"
fsync = 8
verify = "crc32c"
state_checkpoint = "5ms"
"#;

/// Runs unless told otherwise.
const KILLS: u64 = 24;
/// The kill comes at most so long after what it waits for.
const WINDOW_US: u64 = 150_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Client,
    Server,
    Session,
    /// Server and session: the machine under test.
    Machine,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trigger {
    None,
    /// Its command runs on the client.
    Local,
    /// Its command runs on the server.
    Remote,
}

/// What is waited for, so that busy machines are killed at all stages too.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// The client has been started.
    Begun,
    /// The server has begun the run.
    Session,
    /// The client has a state of this run: it writes.
    Writing,
    /// The trigger's command has run; as `Writing` without one.
    Fired,
}

/// One kill, all of it from the seed.
#[derive(Clone, Copy, Debug)]
struct Kill {
    victim: Victim,
    stage: Stage,
    after: Duration,
    trigger: Trigger,
    detach: bool,
}

impl Kill {
    fn of(seed: u64) -> Kill {
        let draw = |what: u64, below: u64| random::below(random::at(seed, what), below);
        let victims = [Victim::Client, Victim::Server, Victim::Session, Victim::Machine, Victim::All];
        let triggers = [Trigger::None, Trigger::Local, Trigger::Remote];
        let stages = [Stage::Begun, Stage::Session, Stage::Writing, Stage::Fired];
        let one = |what: u64, of: usize| usize::try_from(draw(what, of as u64)).expect("a small number");
        Kill {
            victim: victims[one(0, victims.len())],
            stage: stages[one(4, stages.len())],
            after: Duration::from_micros(draw(1, 1 + draw(5, WINDOW_US))),
            trigger: triggers[one(2, triggers.len())],
            detach: draw(3, 3) == 0,
        }
    }

    fn options(&self) -> Vec<&'static str> {
        let mut options = match self.trigger {
            Trigger::None => vec![],
            Trigger::Local => vec!["--trigger-timeout=100ms", "--trigger=touch fired"],
            Trigger::Remote => vec!["--trigger-timeout=100ms", "--trigger-remote=touch fired"],
        };
        if self.detach {
            options.push("--detach");
        }
        options
    }
}

struct Field {
    bench: Bench,
    home: Home,
    server: Option<Process>,
    /// Where the client's newest state is.
    link: PathBuf,
    socket: String,
}

/// What rounds add up to.
#[derive(Debug, Default)]
struct Sums {
    checked: u64,
    fired: u64,
    ended: u64,
}

impl Field {
    fn new() -> Field {
        let bench = Bench::new();
        let socket = format!("unix:{}", bench.lab.path("socket").display());
        let lines =
            "commands = [\"touch fired\"]\nkeep_runs = 4\nclient_timeout = \"2s\"\nanswer_within = \"2s\"";
        let home = bench.home("dut", &socket, lines);
        bench.file("j.toml", JOB);
        let address = Address::parse(&socket).expect("an address");
        let link = bench.path(&format!("j.{}.state", address.file_name()));
        Field { bench, home, server: None, link, socket }
    }

    fn client(&self, more: &[&str]) -> Process {
        let server = format!("--client={}", self.socket);
        let limits = ["--server-timeout=2s", "--connect-timeout=2s"];
        let arguments = [&["j.toml", "--output-format=json", &server], &limits[..]].concat();
        self.bench.client(here(), &[&arguments[..], more].concat())
    }

    /// The id of the run that the client's newest state is of, and when in the run it was taken.
    fn newest(&self) -> Option<(String, String)> {
        self.link.exists().then(|| {
            let shown = self.bench.shown(&self.link);
            let text = |name: &str| at(&shown, name).as_str().expect("a text").to_owned();
            (text("/run"), text("/cause"))
        })
    }

    /// Judges by a state, on this machine, without server and client.
    fn judge(&self, state: &Path) -> u64 {
        let place = self.bench.lab.path("judge");
        let _ = fs::create_dir(&place);
        fs::copy(state, place.join("j.state")).expect("a copy of the state");
        let mut command = here();
        command.current_dir(&self.home.directory).arg(self.bench.path("j.toml"));
        command.arg(format!("--state_dir={}", place.display()));
        command.args(["--verify_state_load", "--output-format=json"]);
        kept(Process::of(command).end())
    }

    fn has_come(&self, kill: Kill, before: Option<&(String, String)>, fired: &[PathBuf]) -> bool {
        match (kill.stage, kill.trigger) {
            (Stage::Begun, _) => true,
            (Stage::Session, _) => !self.home.sessions().is_empty(),
            (Stage::Fired, Trigger::Local | Trigger::Remote) => fired.iter().any(|fired| fired.exists()),
            (Stage::Writing | Stage::Fired, _) => fs::read_link(&self.link).is_ok_and(|newest| {
                before.is_none_or(|(run, _)| !newest.to_string_lossy().contains(run.as_str()))
            }),
        }
    }

    fn round(&mut self, kill: Kill, sums: &mut Sums) {
        let mut server = self.server.take().unwrap_or_else(|| self.home.serve_here());
        let fired = [self.bench.path("fired"), self.home.directory.join("fired")];
        fired.iter().for_each(|fired| drop(fs::remove_file(fired)));
        let before = self.newest();
        let mut client = self.client(&kill.options());
        wait_until("the stage of the kill", || {
            client.has_ended() || self.has_come(kill, before.as_ref(), &fired)
        });
        thread::sleep(kill.after);
        let (victim, all) = (kill.victim, kill.victim == Victim::All);
        if all || victim == Victim::Client {
            client.signal(Signal::KILL);
        }
        if all || matches!(victim, Victim::Server | Victim::Machine) {
            server.signal(Signal::KILL);
        }
        if all || matches!(victim, Victim::Session | Victim::Machine) {
            self.home.sessions().into_iter().for_each(remote::kill);
        }
        let done = client.end();
        let code = done.code;
        assert!(!done.stderr.contains("panicked"), "{done:#?}");
        assert!(all || victim == Victim::Client || matches!(code, Some(0 | 4)), "{done:#?}");
        sums.ended += u64::from(code == Some(0));
        self.home.wait_for_quiet();

        // A command that ran had been waiting for the client to have the trigger's state.
        let newest = self.newest();
        if fired.iter().any(|fired| fired.exists()) {
            sums.fired += 1;
            let (run, cause) = newest.clone().expect("a state, for the command has run");
            assert!(
                before.is_none_or(|(before, _)| before != run),
                "the command ran, and there is no new state"
            );
            assert!(cause == "trigger" || cause == "ended", "the command ran, and the state is of a {cause}");
        }
        for state in self.bench.states() {
            self.bench.shown(&state);
        }
        if newest.is_some() {
            sums.checked += self.judge(&self.link);
        }
        self.judge_on_server();

        if server.has_ended() {
            server.end();
            server = self.home.serve_here();
        }
        if newest.is_some() {
            kept(self.client(&["--verify_state_load"]).end());
        }
        self.server = Some(server);
    }

    /// What the server has of its newest run is true too.
    fn judge_on_server(&self) {
        let begun = |run: &PathBuf| fs::metadata(run).and_then(|meta| meta.created()).ok();
        let newest = self.home.runs().into_iter().max_by_key(begun).map(|run| run.join("run.state"));
        if let Some(state) = newest.filter(|state| state.exists()) {
            self.judge(&state);
        }
    }
}

/// Judging must have found every promise kept, and all of them looked at: how many there were.
fn kept(done: Done) -> u64 {
    assert!(matches!(done.code, Some(0 | 5)), "{done:#?}");
    let json = done.json();
    let (promised, checked, violations) = judged(&json);
    assert!(promised == checked && violations == 0, "{done:#?}");
    // A state from before the first flush promises blocks in any state they ever had: nothing is demanded.
    let demanded = number(&json, "/jobs/0/verify/demanded");
    assert_eq!(done.code == Some(5), demanded == 0, "{done:#?}");
    checked
}

#[expect(clippy::disallowed_methods, reason = "not what the program does")]
fn wanted(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn whoever_is_killed_nothing_that_was_acknowledged_is_lost() {
    let mut field = Field::new();
    let mut sums = Sums::default();
    let seeds = match wanted("FIO_SPDK_KILL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..wanted("FIO_SPDK_KILLS").unwrap_or(KILLS),
    };
    let rounds = seeds.end - seeds.start;
    for seed in seeds {
        let kill = Kill::of(seed);
        println!("replay: FIO_SPDK_KILL_SEED={seed} cargo test --test remote_kill: {kill:?}");
        field.round(kill, &mut sums);
    }
    println!("{rounds} kills: {sums:?}");
    if rounds >= KILLS {
        assert!(sums.checked > 0 && sums.fired > 0, "{sums:?}");
    }
}
