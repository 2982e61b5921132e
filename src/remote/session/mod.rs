//! The process that does one run for a server: it reads jobs as the command line would, holds them against
//! what server.toml allows, and runs them, while the client keeps what counts.
//!
//! File descriptor 0 is a socket to the server: one thread reads it, one writes it (`post`), and the run
//! waits for neither but where it must: for the client's word that a snapshot is safe. When the socket is
//! lost the run ends in order, as nobody will ever ask for it again.

mod fit;
pub mod frames;
mod locks;
mod policy;
mod post;
mod start;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prost::Message;

use crate::base::host::{allocation, memory, output_file, printable};
use crate::remote::MOST_MESSAGE_BYTES;
use crate::remote::wire::bench::{Ended, Failure, FailureKind, client_message, server_message};
use crate::remote::wire::live;
use crate::remote::wire::session::{Begin, ToSession, to_session};
use crate::report::exit::{EXIT_IO, EXIT_UNSAFE, EXIT_USAGE, ended_code};
use crate::report::{FORMATS, Report};
use crate::run::{ErrorKind, Observer, Progress, Requests, RunError};

use post::Post;

/// Longer texts of errors are cut: a job file can have a thousand mistakes.
const MOST_TEXT: usize = 64 << 10;
/// What a message has around what counts.
const AROUND_BYTES: usize = 1024;
/// What a session needs beside the run: messages of 16 MiB that are made and sent, and its own threads.
const SPARE_BYTES: u64 = 256 << 20;
/// The exit code of a session for whose memory there was no room: the number of ENOMEM.
pub const EXIT_OUT_OF_MEMORY: i32 = 12;
/// The name of the last message's file, where it could not be sent.
const REPORT_FILE: &str = "report.pb";

/// Does the run that the server at file descriptor 0 asks for: the exit code.
#[must_use]
pub fn serve(requests: &Requests) -> u8 {
    match socket().and_then(|socket| converse(&socket, requests)) {
        Ok(()) => 0,
        Err(why) => {
            log_line(&printable(&why));
            2
        }
    }
}

/// What a run may need is refused above `max_memory`; this is for what is needed beside it, and for what nobody foresaw.
/// The server tells a process that was out of memory by its exit code.
fn confine(begin: &Begin) {
    allocation::exit_with(EXIT_OUT_OF_MEMORY);
    let most = begin.policy.as_ref().map_or(0, |policy| policy.max_memory_bytes);
    let most = if most == 0 { u64::MAX } else { most.saturating_add(SPARE_BYTES) };
    if let Err(why) = memory::confine(most) {
        log_line(&format!("this run has no limit of memory: {why}"));
    }
}

/// Says something in the server's log, or nowhere where that takes nothing.
fn log_line(text: &str) {
    let _ = io::Write::write_all(&mut io::stderr().lock(), format!("error: {text}\n").as_bytes());
}

fn socket() -> Result<UnixStream, String> {
    let started_by_hand = |_| "this is started by `fio-spdk server`, with a socket for it".to_owned();
    let copy = io::stdin().as_fd().try_clone_to_owned().map_err(started_by_hand)?;
    let socket = UnixStream::from(copy);
    socket.local_addr().map_err(started_by_hand)?;
    Ok(socket)
}

fn converse(socket: &UnixStream, requests: &Requests) -> Result<(), String> {
    let first: Option<ToSession> = frames::read(&mut &*socket).map_err(|error| error.to_string())?;
    let Some(to_session::What::Begin(begin)) = first.and_then(|first| first.what) else {
        return Err("the server did not begin".to_owned());
    };
    confine(&begin);
    let post = Post::new(Duration::from_nanos(begin.answer_within_ns), requests);
    let failed = |error: io::Error| format!("cannot start: {error}");
    let (to, from) = (socket.try_clone().map_err(failed)?, socket.try_clone().map_err(failed)?);
    let writer = Arc::clone(&post);
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    thread("to server").spawn(move || writer.write_to(&to)).map_err(failed)?;
    let (reader, own) = (Arc::clone(&post), requests.clone());
    thread("from server").spawn(move || listen(&from, &reader, &own)).map_err(failed)?;

    let directory = PathBuf::from(&begin.run_directory);
    let ended = catch_unwind(AssertUnwindSafe(|| run(begin, &post, requests)));
    let ended =
        ended.unwrap_or_else(|panic| refused(failure(FailureKind::Unknown, &our_bug(panic.as_ref()))));
    // For who asks later.
    let copy = ended.encode_to_vec();
    if !post.finish(ended) {
        output_file::write(&directory.join(REPORT_FILE), &copy).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn our_bug(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why");
    format!("the run ended by a bug of fio-spdk's own: {text}")
}

fn failure(kind: FailureKind, message: &str) -> Failure {
    let mut message = message.to_owned();
    if message.len() > MOST_TEXT {
        let end = (0..=MOST_TEXT).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(end);
        message.push_str("\n(and more)");
    }
    Failure { kind: kind.into(), message }
}

/// Prepares and executes the run.
fn run(begin: Begin, post: &Arc<Post>, requests: &Requests) -> Ended {
    let prepared = match start::prepare(begin, post) {
        Ok(prepared) => prepared,
        Err(failure) => return refused(failure),
    };
    let findings = prepared.findings;
    let teller = Arc::clone(post);
    // It ends with the run, which has the other end.
    let telling = findings.map(|findings| {
        std::thread::Builder::new().name("findings".to_owned()).spawn(move || {
            findings.iter().for_each(|line: String| teller.tell(server_message::What::Finding(line)));
        })
    });
    let telling = match telling.transpose() {
        Ok(telling) => telling,
        Err(why) => {
            return refused(failure(FailureKind::Environment, &format!("cannot start a thread: {why}")));
        }
    };
    let mut observer = Teller(post);
    let done = crate::run::execute(prepared.jobs, &prepared.options, requests, &mut observer);
    drop(prepared.options);
    if let Some(telling) = telling {
        let _ = telling.join();
    }
    let left = post.left();
    match done {
        Ok(crate::run::Ended { mut report, failure }) => {
            report.notes.extend(left.map(|why| format!("the run was ended: {why}")));
            whole(&report, failure.map(|error| of_run(&error)))
        }
        Err(error) => refused(prepared.gate.refusal().unwrap_or_else(|| of_run(&error))),
    }
}

/// Nothing was measured.
fn refused(failure: Failure) -> Ended {
    let exit_code = Some(code_of(&failure).into());
    Ended { failure: Some(failure), exit_code, ..Ended::default() }
}

/// All that was measured, also as JSON if there is room for it.
fn whole(report: &Report, failure: Option<Failure>) -> Ended {
    let code = ended_code(report, failure.as_ref().map(code_of));
    let mut ended = Ended {
        report: Some(fit::encode(report)),
        failure,
        exit_code: Some(code.into()),
        ..Ended::default()
    };
    let json = FORMATS.iter().find(|format| format.name == "json");
    let json = json.map(|format| crate::report::render(format, report)).unwrap_or_default();
    if ended.encoded_len() + json.len() + AROUND_BYTES <= MOST_MESSAGE_BYTES {
        ended.report_json = json;
    }
    ended
}

/// The exit code of what the command line would not have run, or not to its end.
fn code_of(failure: &Failure) -> u8 {
    match failure.kind() {
        FailureKind::BadJob | FailureKind::NotAllowed => EXIT_USAGE,
        FailureKind::Unsafe | FailureKind::Busy => EXIT_UNSAFE,
        FailureKind::Environment | FailureKind::Unknown => EXIT_IO,
    }
}

fn of_run(error: &RunError) -> Failure {
    let kind = match error.kind {
        ErrorKind::BadJob => FailureKind::BadJob,
        ErrorKind::Environment => FailureKind::Environment,
        ErrorKind::Unsafe => FailureKind::Unsafe,
    };
    failure(kind, &error.message)
}

/// Tells clients what happens.
struct Teller<'a>(&'a Post);

impl Observer for Teller<'_> {
    fn note(&mut self, text: &str) {
        self.0.tell(server_message::What::Note(text.to_owned()));
    }

    fn progress(&mut self, progress: &Progress) {
        self.0.progress(live::progress_to(progress));
    }

    fn so_far(&mut self, report: &Report) {
        self.0.so_far(fit::encode(report));
    }
}

/// Asks for the end in order, as a signal of this number would; again: without waiting for devices.
fn ask_to_end(requests: &Requests, signal: usize) {
    requests.end_signal.store(signal, Ordering::Release);
    requests.end_count.fetch_add(1, Ordering::AcqRel);
}

/// Whether the user was asked to wait, and did not.
fn does_not_wait(requests: &Requests) -> bool {
    requests.end_count.load(Ordering::Acquire) > 1
}

/// Reads what the server says, until there is no server any more.
fn listen(mut socket: &UnixStream, post: &Post, requests: &Requests) {
    loop {
        let what = match frames::read::<ToSession>(&mut socket) {
            Ok(Some(message)) => message.what,
            Ok(None) => return post.cut_off("the server is gone"),
            Err(error) => return post.cut_off(&format!("what the server says cannot be read: {error}")),
        };
        match what {
            Some(to_session::What::FromClient(message)) => obey(message.what, post, requests),
            Some(to_session::What::DriverGone(_)) => post.driver_gone(),
            Some(to_session::What::DriverBack(_)) => post.driver_back(),
            // Only the first may begin; of others, a newer server may know.
            Some(to_session::What::Begin(_)) | None => {}
        }
    }
}

fn obey(what: Option<client_message::What>, post: &Post, requests: &Requests) {
    use client_message::What;
    match what {
        Some(What::State(state)) => post.state_came(state),
        Some(What::Stored(stored)) => post.stored(stored),
        Some(What::CommandRan(report)) => post.command_ran(report),
        Some(What::Fire(fire)) => {
            const MOST_WHY: usize = 200;
            let why: String = printable(&fire.why).chars().take(MOST_WHY).collect();
            if !why.is_empty() {
                // The first one counts: it is what fires.
                let _ = requests.trigger_why.set(why);
            }
            requests.trigger.store(1, Ordering::Release);
        }
        Some(What::End(end)) => {
            const SIGTERM: usize = 15;
            ask_to_end(requests, if end.signal == 2 { 2 } else { SIGTERM });
        }
        Some(What::Start(_) | What::Attach(_) | What::Alive(_)) | None => {}
    }
}
