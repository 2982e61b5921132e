//! A server of a test's own: its files in the laboratory, its log beside them.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use super::common::{BINARY, Lab};

/// It is there when this is there, and goes with it.
pub struct Served {
    child: Child,
    log: PathBuf,
    /// Where it listens, as a client says it.
    pub address: String,
}

impl Served {
    /// Starts one with the settings in this file of the laboratory, and waits until it listens.
    pub fn start(lab: &Lab, config: &str, more: &[&str]) -> Served {
        let log = lab.path(&format!("{}.log", config.replace('/', "_")));
        let mut command = lab.command(BINARY);
        command.args(["server", &format!("--config={config}")]).args(more);
        let file = File::create(&log).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().expect("the server starts");
        let mut served = Served { child, log, address: String::new() };
        for _ in 0..4000 {
            if let Some((_, rest)) = served.said().split_once("listens on ") {
                // The whole line is there.
                if let Some((address, _)) = rest.split_once('\n') {
                    served.address = address.to_owned();
                    return served;
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not listen: {}", served.said());
    }

    /// What it has logged.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        for _ in 0..1000 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Certificates and settings in `etc`, made by the program; the server's files in `data`.
pub fn init(lab: &Lab, more: &[&str]) {
    lab.run(&[&["server", "--init", "--config=etc/server.toml"], more].concat()).expect(0);
    keep_at_home(lab);
}

/// Has the server of `etc/server.toml` keep its files in the laboratory.
pub fn keep_at_home(lab: &Lab) {
    let text = String::from_utf8(lab.bytes("etc/server.toml")).expect("text");
    let home = format!("directory = {:?}", lab.path("data"));
    let own = |line: &str| if line.starts_with("directory = ") { home.clone() } else { line.to_owned() };
    lab.file("etc/server.toml", text.lines().map(own).collect::<Vec<_>>().join("\n"));
}
