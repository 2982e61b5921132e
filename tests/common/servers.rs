//! Servers on this machine, and clients that drive them: over sockets, or over TCP with certificates.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::{BINARY, Done, Lab, Running, at};

const LIMIT: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(10);

/// Writes and promises for longer than any test takes. Flushes follow each other soon, and one ends it, so that
/// something is promised whenever something was written.
pub const LONG: &str = r#"
[global]
rw = "randwrite"
bs = "4k"
size = "2m"
iodepth = 8
time_based = true
runtime = "10m"
fsync = 10
end_fsync = true
verify = "crc32c"
[[job]]
name = "j"
filename = "data"
"#;

/// A laboratory with servers, which end with it.
pub struct Bench {
    pub lab: Lab,
    servers: Vec<Server>,
}

struct Server {
    address: String,
    program: Option<Child>,
}

impl Bench {
    /// So many servers, each on a socket of its own.
    pub fn new(servers: usize) -> Bench {
        Bench::with(servers, "")
    }

    /// The same, with more lines of `server.toml`.
    pub fn with(servers: usize, settings: &str) -> Bench {
        let mut bench = Bench { lab: Lab::new(), servers: Vec::new() };
        bench.lab.file("j.toml", LONG);
        for at in 0..servers {
            bench.add(settings);
            bench.start(at);
        }
        bench
    }

    /// One more server, which does not run yet.
    pub fn add(&mut self, settings: &str) {
        let at = self.servers.len();
        let (directory, socket) = (self.lab.path(&format!("dut{at}")), self.lab.path(&format!("s{at}")));
        fs::create_dir(&directory).expect("a directory");
        let listen = format!("unix:{}", socket.display());
        let text = format!("directory = {directory:?}\nlisten = [{listen:?}]\n{settings}\n");
        self.lab.file(&format!("server{at}.toml"), text);
        self.servers.push(Server { address: format!("unix:s{at}"), program: None });
    }

    /// One server on TCP, with certificates that it has made in `keys`.
    pub fn over_tcp() -> Bench {
        let mut bench = Bench { lab: Lab::new(), servers: Vec::new() };
        bench.lab.file("j.toml", LONG);
        fs::create_dir(bench.lab.path("keys")).expect("a directory");
        bench.lab.run(&["server", "--init", "--config=keys/server.toml"]).expect(0);
        let directory = bench.lab.path("dut0");
        fs::create_dir(&directory).expect("a directory");
        let text = String::from_utf8(bench.lab.bytes("keys/server.toml")).expect("text");
        let set = |line: &str| match line.split(' ').next() {
            Some("listen") => "listen = [\"127.0.0.1:0\"]".to_owned(),
            Some("directory") => format!("directory = {directory:?}"),
            _ => line.to_owned(),
        };
        let text: Vec<String> = text.lines().map(set).collect();
        bench.lab.file("server0.toml", text.join("\n"));
        bench.servers.push(Server { address: String::new(), program: None });
        bench.start(0);
        bench
    }

    /// Starts a server, and waits until it listens.
    pub fn start(&mut self, at: usize) {
        let log = File::create(self.log_path(at)).expect("a log");
        let mut command = self.lab.command(BINARY);
        command.args(["server", &format!("--config=server{at}.toml")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.servers[at].program = Some(command.spawn().expect("the server starts"));
        for _ in 0..LIMIT.as_millis() / TICK.as_millis() {
            if let Some((_, listens)) = self.log(at).split_once("listens on ") {
                let address = listens.lines().next().unwrap_or_default();
                if !address.starts_with("unix:") {
                    self.servers[at].address = address.to_owned();
                } else if UnixStream::connect(self.lab.path(&format!("s{at}"))).is_err() {
                    thread::sleep(TICK);
                    continue;
                }
                return;
            }
            thread::sleep(TICK);
        }
        panic!("server {at} does not listen: {}", self.log(at));
    }

    fn log_path(&self, at: usize) -> PathBuf {
        self.lab.path(&format!("server{at}.log"))
    }

    /// What a server has logged since it was started.
    pub fn log(&self, at: usize) -> String {
        fs::read_to_string(self.log_path(at)).unwrap_or_default()
    }

    /// Its address, as a client says it.
    pub fn address(&self, at: usize) -> &str {
        &self.servers[at].address
    }

    /// The process of a server.
    pub fn process(&self, at: usize) -> u32 {
        self.servers[at].program.as_ref().expect("it runs").id()
    }

    /// Ends a server by a signal, and waits until it has ended.
    pub fn end(&mut self, at: usize, signal: Signal) {
        let mut program = self.servers[at].program.take().expect("it runs");
        send(program.id(), signal);
        wait_until("the server's end", || program.try_wait().expect("it is ours").is_some());
    }

    /// The file of a server's directory.
    pub fn file_of(&self, at: usize, name: &str) -> PathBuf {
        self.lab.path(&format!("dut{at}")).join(name)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = more.iter().map(|&argument| argument.to_owned()).collect();
        if self.servers.iter().any(|server| !server.address.starts_with("unix:")) {
            all.push("--keys=keys".to_owned());
        }
        all
    }

    /// Starts a client, with arguments that name its servers.
    pub fn begin(&self, arguments: &[&str]) -> Running {
        let all = self.arguments(arguments);
        self.lab.spawn(&all.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts a client of all servers.
    pub fn begin_all(&self, arguments: &[&str]) -> Running {
        let clients: Vec<String> =
            self.servers.iter().map(|server| format!("--client={}", server.address)).collect();
        let clients: Vec<&str> = clients.iter().map(String::as_str).collect();
        self.begin(&[arguments, clients.as_slice()].concat())
    }

    /// Runs a client of all servers to its end.
    pub fn run(&self, arguments: &[&str]) -> Done {
        self.begin_all(arguments).end()
    }

    /// Runs jobs on all servers that must end well, and gives the JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[&["--output-format=json"], arguments].concat()).expect(0).json()
    }

    /// What a server says of its runs.
    pub fn runs(&self, at: usize) -> Vec<Value> {
        let client = format!("--client={}", self.servers[at].address);
        let status = self.begin(&["server", "--status", "--json", &client]).end().expect(0).json();
        super::at(&status, "/runs").as_array().expect("runs").clone()
    }

    /// Waits until something holds of a server's runs.
    pub fn wait_for_runs(&self, at: usize, what: &str, holds: impl Fn(&[Value]) -> bool) {
        let mut last = Vec::new();
        for _ in 0..LIMIT.as_millis() / 100 {
            last = self.runs(at);
            if holds(&last) {
                return;
            }
            thread::sleep(TICK * 5);
        }
        panic!("waited too long for {what}: {last:#?}; {}", self.log(at));
    }

    /// Waits until a run of a server writes, and has flushed: between two looks at its progress it has issued
    /// more flushes than fit in its queue. Gives its id.
    pub fn wait_for_writes(&self, at: usize) -> String {
        let writes = |run: &Value| run.pointer("/progress/iops/write").and_then(Value::as_f64) > Some(200.0);
        self.wait_for_runs(at, "writes", |runs| runs.first().is_some_and(writes));
        super::at(&self.runs(at)[0], "/run").as_str().expect("an id").to_owned()
    }

    /// Waits until all runs of a server have ended.
    pub fn wait_for_end(&self, at: usize) {
        self.wait_for_runs(at, "the end", |runs| runs.iter().all(|run| run["running"] == false));
    }

    /// The process of a server's only run.
    pub fn session(&self, at: usize) -> u32 {
        let run = self.file_of(at, "runs").join(self.runs(at)[0]["run"].as_str().expect("an id"));
        let facts = fs::read_to_string(run.join("run.toml")).expect("its facts");
        let process = facts.lines().find_map(|line| line.strip_prefix("process = "));
        process.and_then(|process| process.parse().ok()).expect("its process")
    }

    /// Where the client keeps the newest state of a server on a socket, for the jobs `j.toml`.
    pub fn link(&self, at: usize) -> PathBuf {
        self.lab.path(&format!("j.unix_._s{at}.state"))
    }

    /// Names of the files with states at the client, without the links to them.
    pub fn states(&self) -> Vec<String> {
        let is_file = |name: &String| self.lab.path(name).symlink_metadata().is_ok_and(|meta| meta.is_file());
        self.lab.names().into_iter().filter(|name| name.ends_with(".state") && is_file(name)).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let Some(mut program) = server.program.take() else { continue };
            // Its runs end by themselves when it is gone.
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

/// Sends a signal to a process.
pub fn send(process: u32, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(process).expect("a process id")).expect("a process id");
    rustix::process::kill_process(id, signal).expect("the process is there");
}

/// Waits for something, not for ever.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..LIMIT.as_millis() / TICK.as_millis() {
        if holds() {
            return;
        }
        thread::sleep(TICK);
    }
    panic!("waited too long for {what}");
}

/// All that was promised must be there, and something was.
#[track_caller]
pub fn all_checked(json: &Value, job: &str) {
    let verify = at(json, &format!("{job}/verify"));
    let (promised, checked) = (super::number(verify, "/promised"), super::number(verify, "/checked"));
    assert!(promised > 0 && promised == checked, "{verify:#}");
}

/// A command of the shell, in the laboratory.
pub fn shell(lab: &Lab, text: &str) -> Command {
    let mut command = lab.command("sh");
    command.args(["-c", text]);
    command
}
