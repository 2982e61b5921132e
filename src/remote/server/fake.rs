//! A process that plays a run's as a test tells it to: this test's own program, started once more.
//!
//! The text of the job file is the script, a line an act.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::remote::session::frames;
use crate::remote::wire::bench::server_message::What;
use crate::remote::wire::bench::{
    Accepted, CommandWanted, Ended, Failure, Progress, Report, ServerMessage, Snapshot, StateWanted,
    client_message,
};
use crate::remote::wire::session::{FromSession, ToSession, Underway, from_session, to_session};

/// Starts it: only the test of this name, which does nothing when it is not a run's process.
pub const PROGRAM: &[&str] =
    &["/proc/self/exe", "--exact", "remote::server::fake::plays_the_process_of_a_run", "--nocapture"];

#[test]
fn plays_the_process_of_a_run() {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return;
    }
    let Ok(fd) = stdin.as_fd().try_clone_to_owned() else { return };
    let socket = UnixStream::from(fd);
    if socket.peer_addr().is_err() {
        return;
    }
    Play { socket }.run();
    // Not to report anything to anybody.
    std::process::exit(0);
}

struct Play {
    socket: UnixStream,
}

impl Play {
    fn say(&mut self, what: What) {
        let message = ServerMessage { what: Some(what) };
        let what = Some(from_session::What::ToClients(message));
        let _ = frames::write(&mut self.socket, &FromSession { what });
    }

    fn hear(&mut self) -> Option<to_session::What> {
        frames::read::<ToSession>(&mut self.socket).ok().flatten().and_then(|message| message.what)
    }

    fn run(mut self) {
        let Some(to_session::What::Begin(begin)) = self.hear() else { return };
        let start = begin.start.unwrap_or_default();
        let script = start.job_files.first().map(|file| file.text.clone()).unwrap_or_default();
        for line in script.lines() {
            let (act, rest) = line.split_once(' ').unwrap_or((line, ""));
            self.act(act, rest, &begin.run_directory);
        }
    }

    fn act(&mut self, act: &str, rest: &str, directory: &str) {
        match act {
            "accept" => {
                let detach = rest == "detach";
                let underway =
                    Underway { job_file: "a.toml".to_owned(), targets: vec!["data".to_owned()], detach };
                let what = Some(from_session::What::Underway(underway));
                let _ = frames::write(&mut self.socket, &FromSession { what });
                self.say(What::Accepted(Accepted { job_file: "a.toml".to_owned(), ..Accepted::default() }));
            }
            "note" => self.say(What::Note(rest.to_owned())),
            "notes" => {
                (0..rest.parse().unwrap()).for_each(|n| self.say(What::Note(format!("note {n:1000}"))))
            }
            "reports" => (0..rest.parse().unwrap()).for_each(|_| {
                self.say(What::Progress(Progress::default()));
                self.say(What::SoFar(Report::default()));
            }),
            "want_state" => self.say(What::StateWanted(StateWanted {})),
            "want_command" => self.say(What::CommandWanted(CommandWanted { command: rest.to_owned() })),
            "snapshot" => {
                let number = rest.parse().unwrap();
                let content = format!("snapshot {number}").into_bytes();
                std::fs::write(format!("{directory}/run.state"), &content).unwrap();
                let content = content.into();
                self.say(What::Snapshot(Snapshot { number, content, awaited: true, ..Snapshot::default() }));
            }
            // Says what came from the server, until this came.
            "until" => loop {
                let Some(what) = self.hear() else {
                    let _ = std::fs::write(format!("{directory}/lost"), "");
                    return;
                };
                let heard = match what {
                    to_session::What::DriverGone(_) => "gone".to_owned(),
                    to_session::What::DriverBack(_) => "back".to_owned(),
                    to_session::What::Begin(_) => "begin".to_owned(),
                    to_session::What::FromClient(message) => match message.what {
                        Some(client_message::What::Stored(stored)) => format!("stored {}", stored.number),
                        Some(client_message::What::State(_)) => "state".to_owned(),
                        Some(client_message::What::End(end)) => format!("end {}", end.signal),
                        Some(client_message::What::Fire(fire)) => format!("fire {}", fire.why),
                        Some(client_message::What::CommandRan(report)) => {
                            format!("command {}", report.status)
                        }
                        other => format!("{other:?}"),
                    },
                };
                self.say(What::Note(format!("heard {heard}")));
                if heard.starts_with(rest) {
                    return;
                }
            },
            "end" => self.say(What::Ended(Ended { report: Some(Report::default()), ..Ended::default() })),
            "fail" => {
                let failure = Some(Failure { kind: 1, message: rest.to_owned() });
                self.say(What::Ended(Ended { failure, ..Ended::default() }));
            }
            "sleep" => std::thread::sleep(Duration::from_millis(rest.parse().unwrap())),
            "garbage" => {
                use std::io::Write;
                let _ = self.socket.write_all(&[255; 64]);
                std::thread::sleep(Duration::from_secs(20));
            }
            "kill" => {
                let own = rustix::process::getpid();
                let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            }
            "exit" => std::process::exit(rest.parse().unwrap()),
            other => panic!("no such act: {other}"),
        }
    }
}
