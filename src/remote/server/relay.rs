//! The process that does a run: starting it, talking with it, and what its end means.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::base::host::Sysfs;
use crate::base::host::memory::oom_kills;
use crate::remote::session::{EXIT_OUT_OF_MEMORY, frames};
use crate::remote::wire::bench::{
    ClientMessage, Ended, Failure, FailureKind, client_message, server_message,
};
use crate::remote::wire::session::{
    Begin, DriverBack, DriverGone, FromSession, ToSession, from_session, to_session,
};

use super::known::Outbox;
use super::runs::Run;

/// A process that has said that its run has ended is waited for so long: who is told of the end may then
/// begin the next run on the same device.
const LEAVES_WITHIN: Duration = Duration::from_secs(5);
/// A process that has been killed, or has closed its socket, is waited for so long.
const DIES_WITHIN: Duration = Duration::from_secs(10);

/// Commands of jobs are looked for here; nothing of the server's own environment reaches them.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program that this process is, whatever lies in its place on the disk by now, and what it is to do.
pub const PROGRAM: &[&str] = &["/proc/self/exe", "session"];

/// Starts a process for a run, and gives this side of its socket.
///
/// # Errors
/// Those of the system.
pub fn spawn(program: &[&str]) -> io::Result<(Child, UnixStream)> {
    let [program, arguments @ ..] = program else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = Command::new(program);
    command.arg0("fio-spdk").args(arguments);
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    command.env_clear().env("PATH", PATH);
    if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
        // Without these the program that is running here may not start.
        command.env("LD_LIBRARY_PATH", libraries);
    }
    // Ctrl-C at the server's terminal is for the server, which ends its runs in order.
    command.process_group(0);
    Ok((command.spawn()?, UnixStream::from_std(ours)?))
}

/// Talks with the process until it has ended; gives how the run ended.
pub async fn attend(run: &Arc<Run>, begin: Begin, mut child: Child, socket: UnixStream) -> Ended {
    let kills_before = oom_kills(&Sysfs::default());
    let (read, write) = socket.into_split();
    let writer = tokio::spawn(write_all(Arc::clone(run), begin, write));
    let told = tokio::select! {
        told = read_all(run, read) => told,
        () = run.is_to_be_killed() => Err("it did not end when it was told to, and was killed".to_owned()),
    };
    let limit = match &told {
        Ok(Some(_)) => LEAVES_WITHIN,
        Ok(None) => DIES_WITHIN,
        // Who is told to die or talks nonsense is not waited for.
        Err(_) => {
            let _ = child.start_kill();
            DIES_WITHIN
        }
    };
    let status = timeout(limit, child.wait()).await;
    let by_kernel = oom_kills(&Sysfs::default()) > kills_before;
    writer.abort();
    if matches!(told, Ok(None)) && status.is_err() {
        let _ = child.start_kill();
    }
    match told {
        Ok(Some(ended)) => ended,
        Ok(None) => broken_off(run, &format!("the process that did it {}", how(status.ok(), by_kernel))),
        Err(why) => broken_off(run, &why),
    }
}

/// How a run ended whose process has not said so.
pub fn broken_off(run: &Run, why: &str) -> Ended {
    let report = run.known().so_far();
    let rest = if report.is_some() { "; the report has what it had told by then" } else { "" };
    let kind = FailureKind::Environment.into();
    let message = format!("the run broke off: {why}{rest}");
    Ended { report, failure: Some(Failure { kind, message }), ..Ended::default() }
}

/// How a process has ended. `by_kernel`: the kernel has ended some process meanwhile, because memory ran out.
fn how(status: Option<io::Result<ExitStatus>>, by_kernel: bool) -> String {
    match status {
        None => "does not end, although it has nothing to say any more".to_owned(),
        Some(Err(why)) => format!("cannot be waited for: {why}"),
        Some(Ok(status)) => match (status.signal(), status.code()) {
            (Some(signal), _) => match signal_hook::low_level::signal_name(signal) {
                Some("SIGKILL") if by_kernel => {
                    "was killed by the kernel, because the machine or its control group was out of memory".to_owned()
                }
                Some("SIGKILL") => {
                    "was killed by SIGKILL (the kernel does that too, when memory is short)".to_owned()
                }
                Some(name) => format!("was killed by {name}"),
                None => format!("was killed by signal {signal}"),
            },
            (None, Some(EXIT_OUT_OF_MEMORY)) => {
                "was out of memory: more than max_memory of server.toml and what it has to spare; the server's log says \
                 how much was asked for last"
                    .to_owned()
            }
            (None, code) => format!("ended with exit code {} before the run did", code.unwrap_or(-1)),
        },
    }
}

/// Reads what the process says until the run has ended: `None` if the process falls silent before.
async fn read_all(run: &Run, mut from: OwnedReadHalf) -> Result<Option<Ended>, String> {
    loop {
        let message = match read(&mut from).await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(None),
            Err(why) if why.kind() == io::ErrorKind::InvalidData => {
                return Err(format!("its process sent what is no message: {why}"));
            }
            Err(_) => return Ok(None),
        };
        match message.what {
            Some(from_session::What::Underway(underway)) => run.is_underway(underway),
            Some(from_session::What::ToClients(message)) => match message.what {
                Some(server_message::What::Ended(ended)) => return Ok(Some(ended)),
                Some(what) => run.heard(what),
                None => {}
            },
            None => {}
        }
    }
}

async fn read(from: &mut OwnedReadHalf) -> io::Result<Option<FromSession>> {
    let mut head = [0; frames::HEAD_BYTES];
    match from.read_exact(&mut head).await {
        Ok(_) => {}
        Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(why) => return Err(why),
    }
    let bytes = frames::length(head)?;
    let mut body = Vec::new();
    let read = from.take(bytes as u64).read_to_end(&mut body).await?;
    if read < bytes {
        return Ok(None);
    }
    frames::decode(&body).map(Some)
}

/// Tells the process what it has to know, as long as it listens.
async fn write_all(run: Arc<Run>, begin: Begin, mut to: OwnedWriteHalf) {
    let mut changed = run.changes();
    let mut next = Some(to_session::What::Begin(begin));
    loop {
        changed.borrow_and_update();
        let Some(what) = next.take().or_else(|| next_for(&mut run.known().outbox)) else {
            if changed.changed().await.is_err() {
                return;
            }
            continue;
        };
        // Too long is nothing that a client's message can become: its limit is lower.
        let Ok(frame) = frames::encode(&ToSession { what: Some(what) }) else { continue };
        if to.write_all(&frame).await.is_err() {
            return;
        }
    }
}

fn next_for(outbox: &mut Outbox) -> Option<to_session::What> {
    if outbox.driver_changes_told < outbox.driver_changes {
        // Odd: one has gone; even: there is one again. Pairs that nobody has seen need not be told.
        let there = outbox.driver_changes.is_multiple_of(2);
        if there && outbox.driver_changes_told.is_multiple_of(2) {
            outbox.driver_changes_told = outbox.driver_changes - 1;
            return Some(to_session::What::DriverGone(DriverGone {}));
        }
        let knows = outbox.driver_changes_told.is_multiple_of(2) == there;
        outbox.driver_changes_told = outbox.driver_changes;
        match there {
            true => return Some(to_session::What::DriverBack(DriverBack {})),
            false if !knows => return Some(to_session::What::DriverGone(DriverGone {})),
            false => {}
        }
    }
    let what = if let Some(state) = outbox.state.take() {
        client_message::What::State(state)
    } else if let Some(stored) = outbox.stored.take() {
        client_message::What::Stored(stored)
    } else if let Some(report) = outbox.command.take() {
        client_message::What::CommandRan(report)
    } else if let Some(fire) = outbox.fire.take() {
        client_message::What::Fire(fire)
    } else if outbox.ends_told < outbox.ends {
        outbox.ends_told += 1;
        client_message::What::End(crate::remote::wire::bench::End { signal: outbox.end_signal })
    } else {
        return None;
    };
    Some(to_session::What::FromClient(ClientMessage { what: Some(what) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(outbox: &mut Outbox) -> Vec<&'static str> {
        let mut told = Vec::new();
        while let Some(what) = next_for(outbox) {
            told.push(match what {
                to_session::What::DriverGone(_) => "gone",
                to_session::What::DriverBack(_) => "back",
                to_session::What::FromClient(_) => "client",
                to_session::What::Begin(_) => "begin",
            });
        }
        told
    }

    #[test]
    fn drivers_that_come_and_go_unseen_are_told_as_one_change() {
        let mut outbox = Outbox { driver_changes: 1, ..Outbox::default() };
        assert_eq!(told(&mut outbox), ["gone"]);
        outbox.driver_changes = 4;
        // There is another one than before: what was not answered has to be sent again.
        assert_eq!(told(&mut outbox), ["back"]);
        outbox.driver_changes = 6;
        assert_eq!(told(&mut outbox), ["gone", "back"]);
        outbox.driver_changes = 9;
        outbox.ends = 1;
        assert_eq!(told(&mut outbox), ["gone", "client"]);
        outbox.driver_changes = 11;
        assert_eq!(told(&mut outbox), Vec::<&str>::new());
    }
}
