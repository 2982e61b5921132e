//! Whatever arrives from a server, a client or a session, it is a message or an error; a report in it can be
//! shown.
#![no_main]

use fio_spdk::remote::wire::bounds::{Kind, check};
use fio_spdk::remote::wire::{bench, live, report, session};
use fio_spdk::report::{FORMATS, Report, render};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fn show(message: &bench::Report) -> Option<Report> {
    let read = report::decode(message).ok()?;
    for format in FORMATS {
        assert!(!render(format, &read).chars().any(|c| c.is_control() && c != '\n'));
    }
    Some(read)
}

fn look_at(message: bench::ServerMessage) {
    use bench::server_message::What;
    match message.what {
        Some(What::SoFar(report)) => drop(show(&report)),
        Some(What::Ended(bench::Ended { report: Some(report), .. })) => drop(show(&report)),
        Some(What::Progress(progress)) => drop(live::progress_from(&progress)),
        Some(What::Snapshot(bench::Snapshot { trigger: Some(trigger), .. })) => {
            drop(live::trigger_from(trigger))
        }
        _ => {}
    }
}

fuzz_target!(|bytes: &[u8]| {
    // As over the wire: what holds too much is not decoded.
    if check(Kind::Client, bytes).is_ok() {
        let _ = bench::ClientMessage::decode(bytes);
    }
    if check(Kind::Server, bytes).is_err() || check(Kind::Report, bytes).is_err() {
        return;
    }
    let _ = session::ToSession::decode(bytes);
    if let Ok(message) = bench::ServerMessage::decode(bytes) {
        look_at(message);
    }
    if let Ok(session::FromSession { what: Some(session::from_session::What::ToClients(message)) }) =
        session::FromSession::decode(bytes)
    {
        look_at(message);
    }
    // What is a report says the same when it is sent on.
    if let Some(read) = bench::Report::decode(bytes).ok().and_then(|message| show(&message)) {
        let again = report::decode(&report::encode(&read)).expect("what was read can be sent");
        assert_eq!(again.jobs.len(), read.jobs.len());
        assert!(again.jobs.iter().zip(&read.jobs).all(|(again, read)| again.stats == read.stats));
    }
});
