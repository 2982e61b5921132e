//! A server of the program, with a socket and a port of this machine, and what is seen of it from outside.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fio_spdk::remote::protocol;
use fio_spdk::remote::wire::bench::bench_client::BenchClient;
use fio_spdk::remote::wire::bench::{StatusReply, StatusRequest};
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Channel, Endpoint, Uri};

use super::common::{BINARY, Done, Lab};

pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Server {
    pub lab: Lab,
    child: Mutex<Child>,
    /// Of 127.0.0.1; 0 if it does not listen there.
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child().kill();
        let _ = self.child().wait();
    }
}

impl Server {
    /// One that listens at a socket, with more lines of server.toml.
    pub fn at_socket(more: &str) -> Server {
        let lab = Lab::new();
        let listen = format!("listen = [\"unix:{}\"]\n{more}", lab.path("s").display());
        Server::of(lab, &listen, None)
    }

    /// One that listens at a port too, with certificates in `etc`.
    pub fn at_port(more: &str) -> Server {
        let lab = Lab::new();
        let made = lab.run(&["server", "--init", "--config=etc/server.toml"]);
        made.expect(0);
        let listen = format!("listen = [\"unix:{}\", \"127.0.0.1:0\"]\n{more}", lab.path("s").display());
        Server::of(lab, &listen, None)
    }

    pub fn of(lab: Lab, settings: &str, stderr: Option<Stdio>) -> Server {
        fs::create_dir_all(lab.path("etc")).expect("a directory");
        let settings = format!("directory = {:?}\nclient_timeout = 5\n{settings}", lab.path("data"));
        lab.file("etc/server.toml", settings);
        let has_log = stderr.is_none();
        let log = File::create(lab.path("log")).expect("a log");
        let child = Command::new(BINARY)
            .args(["server", "--config=etc/server.toml"])
            .current_dir(lab.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.unwrap_or_else(|| Stdio::from(log)))
            .spawn()
            .expect("the program starts");
        let mut server = Server { lab, child: Mutex::new(child), port: 0 };
        server.until("it to listen", |server| UnixStream::connect(server.socket()).is_ok());
        if has_log {
            server.until("its words", |server| server.log().contains("commands that jobs may run"));
            let port = server
                .log()
                .lines()
                .find_map(|line| line.split_once("listens on 127.0.0.1:")?.1.parse().ok());
            server.port = port.unwrap_or(0);
        }
        server
    }

    pub fn socket(&self) -> PathBuf {
        self.lab.path("s")
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("no panic with it")
    }

    pub fn id(&self) -> u32 {
        self.child().id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.lab.path("log")).expect("the log")
    }

    /// Runs a job there, with the program as client.
    pub fn run(&self, job: &str, more: &[&str]) -> Done {
        fs::create_dir_all(self.lab.path("client")).expect("a directory");
        self.lab.file("client/job.toml", job);
        let way = format!("--client=unix:{}", self.socket().display());
        self.lab.run(&[&["client/job.toml", &way], more].concat())
    }

    pub fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("a connection");
        stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a limit");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream
    }

    pub fn client(&self) -> BenchClient<Channel> {
        let socket = self.socket();
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
        });
        BenchClient::new(Endpoint::from_static("http://dut").connect_with_connector_lazy(connect))
    }

    /// What it says of itself; it must say it soon.
    #[track_caller]
    pub fn status(&self) -> StatusReply {
        let asked = async {
            let request = StatusRequest { protocol: Some(protocol()) };
            tokio::time::timeout(LIMIT, self.client().status(request)).await
        };
        wait_for(asked).expect("an answer in time").expect("a status").into_inner()
    }

    /// Waits until this holds.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&Server) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            let ended = self.child().try_wait().expect("it is ours");
            assert!(ended.is_none(), "the server ended, {ended:?}: {}", self.log());
            assert!(begun.elapsed() < LIMIT, "waited too long for {what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).map_or(0, Iterator::count)
    }

    /// The most memory that it had at one time, in MiB.
    pub fn most_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its memory");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") >> 10
    }

    /// Processes that it started and that are there yet.
    pub fn children(&self) -> usize {
        let path = format!("/proc/{0}/task", self.id());
        let tasks = fs::read_dir(path).expect("its threads").flatten();
        tasks.map(|task| read(&task.path().join("children")).split_whitespace().count()).sum()
    }

    /// Ends it in order.
    pub fn end(self) -> String {
        let id = Pid::from_raw(self.id().try_into().expect("a process id")).expect("one");
        kill_process(id, Signal::TERM).expect("it is there");
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child().try_wait().expect("it is ours") {
                break status;
            }
            assert!(begun.elapsed() < LIMIT, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        };
        let log = self.log();
        assert!(status.success() && !log.contains("panicked"), "{status}: {log}");
        log
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// On a runtime of its own.
pub fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}
