//! Servers and clients in a laboratory: each server has a directory, each client another, where its job file
//! and the states of its runs are.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::{BINARY, Done, Lab, Running, number};

/// Waited for what takes no time on an idle machine.
const PATIENCE: u32 = 6000;
const TICK: Duration = Duration::from_millis(5);

/// Waits until it holds.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..PATIENCE {
        if holds() {
            return;
        }
        thread::sleep(TICK);
    }
    panic!("waited too long: {what}");
}

/// A program that does not outlive its test, however that ends.
pub struct Process {
    running: Option<Running>,
    what: String,
}

impl Process {
    pub fn of(command: Command) -> Process {
        let what = format!("{command:?}");
        Process { running: Some(Running::of(command)), what }
    }

    pub fn id(&self) -> u32 {
        self.running.as_ref().expect("it runs").id()
    }

    pub fn signal(&mut self, signal: Signal) {
        let running = self.running.as_mut().expect("it runs");
        if !running.has_ended() {
            running.signal(signal);
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(Running::has_ended)
    }

    /// Its last words; it must end by itself.
    pub fn end(mut self) -> Done {
        self.running.take().unwrap_or_else(|| panic!("{} has ended", self.what)).end()
    }

    /// As a power cut would: nothing is asked.
    pub fn kill(mut self) -> Done {
        self.signal(Signal::KILL);
        self.end()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            if !running.has_ended() {
                running.signal(Signal::KILL);
            }
            let done = running.end();
            if thread::panicking() {
                println!("---- {}\n{}{}", self.what, done.stdout, done.stderr);
            }
        }
    }
}

/// A directory of servers and clients.
pub struct Bench {
    pub lab: Lab,
}

impl Bench {
    pub fn new() -> Bench {
        let lab = Lab::new();
        fs::create_dir(lab.path("client")).expect("a directory");
        Bench { lab }
    }

    /// Certificates for one client and for servers of these names.
    pub fn keys(&self, names: &[&str]) {
        fs::create_dir(self.lab.path("keys")).expect("a directory");
        let names: Vec<String> = names.iter().map(|name| format!("--name={name}")).collect();
        let mut arguments = vec!["server", "--init", "--config=keys/server.toml"];
        arguments.extend(names.iter().map(String::as_str));
        self.lab.run(&arguments).expect(0);
    }

    /// What a server is to be; `more` are lines of its `server.toml`.
    pub fn home(&self, name: &str, listen: &str, more: &str) -> Home {
        let directory = self.lab.path(name);
        fs::create_dir(&directory).expect("a directory");
        let keys = self.lab.path("keys");
        let config = self.lab.path(&format!("{name}.toml"));
        let (shown, tls) = (directory.display(), keys.display());
        let text = format!("listen = [\"{listen}\"]\ndirectory = \"{shown}\"\ntls = \"{tls}\"\n{more}\n");
        fs::write(&config, text).expect("a file");
        let socket = listen.strip_prefix("unix:").map(PathBuf::from);
        Home { directory, config, socket }
    }

    /// A file of the client.
    pub fn path(&self, name: &str) -> PathBuf {
        self.lab.path("client").join(name)
    }

    pub fn file(&self, name: &str, contents: &str) {
        fs::write(self.path(name), contents).expect("a file");
    }

    /// The client, where its files are; `command` is the program, wherever it is to run.
    pub fn client(&self, mut command: Command, arguments: &[&str]) -> Process {
        command.current_dir(self.lab.path("client")).args(arguments);
        Process::of(command)
    }

    /// The states that the client has, but for links.
    pub fn states(&self) -> Vec<PathBuf> {
        files(&self.lab.path("client")).into_iter().filter(|path| has_end(path, "state")).collect()
    }

    /// What a snapshot says of itself, as JSON.
    #[track_caller]
    pub fn shown(&self, state: &Path) -> Value {
        self.lab.run(&["state", "show", "--json", &state.to_string_lossy()]).expect(0).json()
    }
}

fn has_end(path: &Path, end: &str) -> bool {
    path.extension().is_some_and(|extension| extension == end)
}

/// Files of a directory, and no links.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let is_file = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file());
    entries.flatten().map(|entry| entry.path()).filter(is_file).collect()
}

/// The program, to run here.
pub fn here() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", BINARY]);
    command
}

/// What a server has, running or not.
pub struct Home {
    /// Where its files and its runs are.
    pub directory: PathBuf,
    config: PathBuf,
    socket: Option<PathBuf>,
}

impl Home {
    /// Starts the server; `command` is the program.
    pub fn serve(&self, mut command: Command) -> Process {
        command.arg("server").arg(format!("--config={}", self.config.display())).current_dir("/");
        Process::of(command)
    }

    /// Starts the server on this machine's socket, and waits until it answers.
    pub fn serve_here(&self) -> Process {
        let mut server = self.serve(here());
        let socket = self.socket.as_ref().expect("a unix socket");
        wait_until("the server listens", || {
            assert!(!server.has_ended(), "the server has ended");
            std::os::unix::net::UnixStream::connect(socket).is_ok()
        });
        server
    }

    /// What it says about its runs.
    #[track_caller]
    pub fn status(&self, mut command: Command, more: &[&str]) -> Value {
        command
            .args(["server", "--status", "--json"])
            .args(more)
            .arg(format!("--config={}", self.config.display()));
        Process::of(command).end().expect(0).json()
    }

    /// The directories of its runs.
    pub fn runs(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.directory.join("runs")) else { return Vec::new() };
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }

    /// The processes that do its runs: they work in its directory.
    pub fn sessions(&self) -> Vec<u32> {
        let here = fs::canonicalize(&self.directory).expect("its directory");
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let works_here = |id: &u32| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd == here);
        let is_ours = |id: &u32| {
            let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            arguments.split(|&byte| byte == 0).any(|argument| argument == b"session")
        };
        names.filter(|id| works_here(id) && is_ours(id)).collect()
    }

    /// Waits until no run goes on.
    #[track_caller]
    pub fn wait_for_quiet(&self) {
        wait_until("a session ends", || self.sessions().is_empty());
    }
}

/// Kills a process that may be gone.
pub fn kill(id: u32) {
    let id = i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process id");
    let _ = kill_process(id, Signal::KILL);
}

/// What a report says of its first job's blocks: how many were promised, checked, and in violation.
#[track_caller]
pub fn judged(report: &Value) -> (u64, u64, u64) {
    let count = |name: &str| number(report, &format!("/jobs/0/verify/{name}"));
    (count("promised"), count("checked"), count("violations"))
}
