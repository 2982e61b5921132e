//! Runs the program in a directory of its own and reads what it says.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod servers;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// No run of a test takes this long, on no machine; one that does has hung.
const LIMIT: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(5);
/// How much of a processor a worker has had that does I/O for sure, and how long one is waited for that
/// takes less: one that pauses, or whose device is slow.
const BUSY: Duration = Duration::from_millis(20);
const BUSY_LIMIT: Duration = Duration::from_secs(2);

pub const BINARY: &str = env!("CARGO_BIN_EXE_fio-spdk");
pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;

/// A directory that goes away, where the program runs.
pub struct Lab {
    directory: TempDir,
}

impl Lab {
    pub fn new() -> Lab {
        Lab { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a file with these contents.
    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> &Lab {
        fs::write(self.path(name), contents).expect("a file in the laboratory");
        self
    }

    /// A file of `bytes` times 0xaa, which no write of the program leaves behind.
    pub fn marked(&self, name: &str, bytes: u64) -> &Lab {
        self.file(name, vec![MARK; bytes as usize])
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
    }

    /// Names of all files, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).expect("the laboratory");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Done {
        self.spawn(arguments).end()
    }

    /// Runs a job that must end well, and gives its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--output-format=json"];
        all.extend(arguments);
        self.run(&all).expect(0).json()
    }

    pub fn spawn(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(BINARY);
        command.args(arguments);
        Running::of(command)
    }
}

pub const MARK: u8 = 0xaa;

/// The program on its way.
pub struct Running {
    child: Child,
    what: String,
    stdout: Stream,
    stderr: Stream,
}

/// What the program has written to a stream so far, and who reads it.
struct Stream {
    read: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn of(from: Option<impl Read + Send + 'static>) -> Stream {
        let read = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&read);
        let reader = from.map(|mut from| {
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    into.lock().expect("no reader panics").extend_from_slice(&buffer[..count]);
                }
            })
        });
        Stream { read, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.read.lock().expect("no reader panics")).into_owned()
    }

    /// All of it, when the program has ended.
    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a reader");
        }
        self.so_far()
    }
}

impl Running {
    pub fn of(command: Command) -> Running {
        let what = format!("{command:?}");
        let mut command = hearing_signals(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = Stream::of(child.stdout.take());
        let stderr = Stream::of(child.stderr.take());
        Running { child, what, stdout, stderr }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        let id = rustix::process::Pid::from_raw(id).expect("a process id");
        rustix::process::kill_process(id, signal).expect("the program is there");
    }

    /// Waits until a worker is at work: signals are listened to long before, and I/O has been done. Where
    /// the processors have others to serve, its thread is there some time before it does anything.
    pub fn wait_for_worker(&mut self, worker: &str) -> &mut Running {
        let task = self.wait_for_thread(worker);
        for _ in 0..BUSY_LIMIT.as_millis() / TICK.as_millis() {
            // A thread that is not there any more has done what it had to do.
            if processor_time(&task).is_none_or(|time| time >= BUSY) {
                break;
            }
            thread::sleep(TICK);
        }
        thread::sleep(Duration::from_millis(100));
        self
    }

    /// Waits until there is a thread of this name, and gives its directory in /proc.
    pub fn wait_for_thread(&mut self, name: &str) -> PathBuf {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut found = None;
        self.wait_until(&format!("a thread called {name}"), || {
            let is_it =
                |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|text| text.trim() == name);
            let Ok(entries) = fs::read_dir(&tasks) else { return false };
            found = entries.flatten().map(|entry| entry.path()).find(is_it);
            found.is_some()
        });
        found.expect("it was waited for")
    }

    /// Waits until a thread of it waits for its device and for nothing else, for so long that it hangs. Not
    /// every kernel shows that: some seconds at most.
    pub fn wait_until_it_hangs(&mut self) {
        let tasks = format!("/proc/{}/task", self.child.id());
        let waits = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('D'))
        };
        let mut looks = 0;
        for _ in 0..1000 {
            let hangs = fs::read_dir(&tasks).is_ok_and(|tasks| tasks.flatten().any(waits));
            looks = if hangs { looks + 1 } else { 0 };
            if looks == 40 {
                break;
            }
            thread::sleep(TICK);
        }
    }

    /// Waits until the program has made a file.
    pub fn wait_for_file(&mut self, path: &Path) {
        self.wait_until("a file", || path.exists());
    }

    /// Waits until what it has written to standard output holds.
    pub fn wait_for_stdout(&mut self, what: &str, holds: impl Fn(&str) -> bool) -> &mut Running {
        let read = Arc::clone(&self.stdout.read);
        self.wait_for_text(what, &read, holds);
        self
    }

    /// Waits until what it has written to standard error holds.
    pub fn wait_for_stderr(&mut self, what: &str, holds: impl Fn(&str) -> bool) -> &mut Running {
        let read = Arc::clone(&self.stderr.read);
        self.wait_for_text(what, &read, holds);
        self
    }

    /// What it has written to standard error so far.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.so_far()
    }

    fn wait_for_text(&mut self, what: &str, read: &Mutex<Vec<u8>>, holds: impl Fn(&str) -> bool) {
        self.wait_until(what, || holds(&String::from_utf8_lossy(&read.lock().expect("no reader panics"))));
    }

    /// Waits until one of its reports so far, which come by `--status-interval` and `--output-format=json`,
    /// holds: something has been done, on a machine of any speed.
    pub fn wait_for_report(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> &mut Running {
        self.wait_for_stdout(what, |text| {
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().filter_map(|line| serde_json::from_str(line).ok()).any(|json| holds(&json))
        })
    }

    /// How many whole lines it has written to standard output: reports so far.
    pub fn reports_so_far(&self) -> usize {
        self.stdout.so_far().matches('\n').count()
    }

    /// Waits until it has written so many reports so far.
    pub fn wait_for_reports(&mut self, count: usize) {
        self.wait_for_stdout("reports so far", |text| text.matches('\n').count() >= count);
    }

    pub fn wait_until(&mut self, what: &str, holds: impl FnMut() -> bool) {
        if in_time(holds) {
            return;
        }
        let _ = self.child.kill();
        panic!("{}: waited too long for {what}", self.what);
    }

    /// Whether it has ended by now.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_some()
    }

    /// Waits for the end, and ends it itself if there is none.
    pub fn end(mut self) -> Done {
        for _ in 0..LIMIT.as_millis() / TICK.as_millis() {
            if self.has_ended() {
                let status = self.child.wait().expect("the child is ours");
                let (stdout, stderr) = (self.stdout.whole(), self.stderr.whole());
                return Done { what: self.what, code: status.code(), stdout, stderr };
            }
            thread::sleep(TICK);
        }
        let _ = self.child.kill();
        panic!("{}: does not end", self.what);
    }
}

/// A command that hears SIGINT and SIGHUP, although a shell in the background or `nohup` has these tests ignore them.
fn hearing_signals(command: Command) -> Command {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    if mask & 0b11 == 0 {
        return command;
    }
    let mut env = Command::new("env");
    env.arg("--default-signal=INT,HUP").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => env.env(name, value),
            None => env.env_remove(name),
        };
    }
    command.get_current_dir().map(|directory| env.current_dir(directory));
    env
}

/// Waits until something holds: whether it did before it was waited for too long.
pub fn in_time(mut holds: impl FnMut() -> bool) -> bool {
    (0..LIMIT.as_millis() / TICK.as_millis()).any(|_| {
        let held = holds();
        if !held {
            thread::sleep(TICK);
        }
        held
    })
}

/// How long a thread, told by its directory in /proc, has had a processor.
fn processor_time(task: &Path) -> Option<Duration> {
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / second))
}

/// What the program left.
#[derive(Debug)]
pub struct Done {
    pub what: String,
    /// `None` if a signal killed it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The exit code must be this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Done {
        assert!(self.code == Some(code), "exit code {:?} instead of {code}: {self:#?}", self.code);
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }

    /// Standard error must say this.
    #[track_caller]
    pub fn says(self, text: &str) -> Done {
        assert!(self.stderr.contains(text), "stderr does not say {text:?}: {self:#?}");
        self
    }

    /// Standard output as a JSON document a line: reports so far, and the last one.
    #[track_caller]
    pub fn reports(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|why| panic!("no JSON: {why}: {self:#?}"))
    }
}

/// A number of the JSON, by its pointer.
#[track_caller]
pub fn number(json: &Value, pointer: &str) -> u64 {
    at(json, pointer).as_u64().unwrap_or_else(|| panic!("{pointer} is no whole number: {json:#}"))
}

#[track_caller]
pub fn float(json: &Value, pointer: &str) -> f64 {
    at(json, pointer).as_f64().unwrap_or_else(|| panic!("{pointer} is no number: {json:#}"))
}

#[track_caller]
pub fn at<'a>(json: &'a Value, pointer: &str) -> &'a Value {
    json.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {json:#}"))
}

/// The entries of `jobs`.
#[track_caller]
pub fn jobs(json: &Value) -> &[Value] {
    at(json, "/jobs").as_array().expect("jobs are an array")
}

/// A number of the first job.
#[track_caller]
pub fn first(json: &Value, pointer: &str) -> u64 {
    number(json, &format!("/jobs/0{pointer}"))
}

pub const ENGINES: [&str; 3] = ["--ioengine=psync", "--ioengine=io_uring", "--ioengine=null"];
pub const FILE_ENGINES: [&str; 2] = ["--ioengine=psync", "--ioengine=io_uring"];

pub fn with<'a>(job: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [job, more].concat()
}

/// Which blocks of a file that was marked have been written.
pub fn changed(bytes: &[u8], block: u64) -> Vec<bool> {
    bytes.chunks(block as usize).map(|chunk| chunk.iter().any(|&byte| byte != MARK)).collect()
}

pub fn near(value: f64, expected: f64, tolerance: f64) -> bool {
    (value - expected).abs() <= tolerance
}
