//! The command that a trigger runs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::MemfdFlags;

use crate::base::clock::Clock;
use crate::report::CommandReport;

/// What is kept of a command's output.
const MOST_OUTPUT: usize = 64 << 10;

/// Runs `text` by `sh -c`, and waits for it; it finds the snapshot in `FIO_SPDK_STATE`.
pub fn run(text: String, snapshot: Option<&Path>) -> CommandReport {
    let clock = Clock::get();
    let begun_ns = clock.now_ns();
    let mut command = Command::new("sh");
    command.arg("-c").arg(&text).stdin(Stdio::null());
    if let Some(path) = snapshot {
        command.env("FIO_SPDK_STATE", path);
    }
    // Not a pipe: whoever the command leaves behind would keep it open.
    let file = rustix::fs::memfd_create("trigger", MemfdFlags::CLOEXEC).map(File::from);
    let copies = file.as_ref().ok().and_then(|file| file.try_clone().ok().zip(file.try_clone().ok()));
    if let Some((out, err)) = copies {
        command.stdout(out).stderr(err);
    }
    let (status, success) = match command.status() {
        Ok(status) => (status.to_string(), status.success()),
        Err(error) => (format!("sh could not be started: {error}"), false),
    };
    let mut output = vec![0; MOST_OUTPUT];
    let read = file.ok().and_then(|file| file.read_at(&mut output, 0).ok());
    output.truncate(read.unwrap_or(0));
    let output = String::from_utf8_lossy(&output).into_owned();
    CommandReport { text, status, success, output, took_ns: clock.now_ns() - begun_ns }
}
