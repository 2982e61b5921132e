//! The server: runs, those who drive them and those who watch.
//!
//! It listens, lets in who may come, starts a process for each run and passes on what is said: it reads
//! no job and opens no device. Nothing that a client or a process does makes it wait or grow: a talk
//! (`talk`) takes what is new from what is known of a run (`known`), and what is known has a bound.
//! What is to be kept of a run lies in its directory (`shelf`), where a server finds it that starts anew.

mod calls;
#[cfg(test)]
mod fake;
mod known;
mod place;
mod relay;
mod runs;
mod service;
mod shelf;
mod talk;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::address::Address;
use super::listen::{self, Listeners, Log, log};
use super::settings::Settings;

use calls::Calls;
use runs::Runs;
use service::Service;

/// Threads that talk. Runs have processes of their own.
const THREADS: usize = 2;
/// At the server's end runs have so long to end in order, before they are told not to wait for devices.
const RUNS_END_WITHIN: Duration = Duration::from_secs(30);
/// And then so long. What has not ended by then loses its socket, and ends by itself.
const RUNS_LEAVE_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked whether suppressed lines of the log are to be reported.
const LOG_REPORT_EVERY: Duration = Duration::from_secs(5);
/// Clients have so long to hear of it.
const CLIENTS_LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// For a message.
fn in_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// If its directory cannot be used, another server uses it, or it cannot listen; in a sentence.
pub fn serve(settings: Settings) -> Result<(), String> {
    let place = place::take(&settings.directory)?;
    place::keep_apart(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(8)
        .thread_name("server")
        .enable_all()
        .build()
        .map_err(|why| format!("the server's threads cannot be started: {why}"))?;
    let served = runtime.block_on(serve_within(settings));
    // Files that are written are not waited for long, nor who reads the log.
    runtime.shutdown_timeout(Duration::from_secs(2));
    listen::flush(Duration::from_secs(1));
    drop(place);
    served
}

async fn serve_within(settings: Settings) -> Result<(), String> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let signals = |kind| signal(kind).map_err(|why| format!("cannot listen to signals: {why}"));
    let (mut term, mut int) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    // A terminal that goes away takes no server with it that has runs to look after.
    let mut hup = signals(SignalKind::hangup())?;
    let runs = Runs::open(settings.clone(), host.clone(), relay::PROGRAM)
        .map_err(|why| format!("{}: its runs cannot be read: {why}", settings.directory.display()))?;
    let runs = Arc::new(runs);
    let listeners = Listeners::bind(&settings)?;
    let addresses = listeners.addresses();
    let incoming = listeners.into_incoming().map_err(|why| format!("cannot listen: {why}"))?;
    tell(&settings, &addresses);
    let mut builder = listen::http(tonic::transport::Server::builder(), &settings);
    let service = Service::new(Arc::clone(&runs), settings, host);
    let (end, ends) = oneshot::channel::<()>();
    let serving = builder.add_service(Calls::new(service)).serve_with_incoming_shutdown(incoming, async {
        let _ = ends.await;
    });
    let mut serving = tokio::spawn(serving);
    let reporting = tokio::spawn(async {
        loop {
            tokio::time::sleep(LOG_REPORT_EVERY).await;
            Log::shared().report_suppressed(false);
        }
    });
    tokio::select! {
        served = &mut serving => return Err(match served {
            Ok(Ok(())) => "nothing is listened to any more".to_owned(),
            Ok(Err(why)) => format!("the server failed: {why}"),
            Err(why) => format!("a bug of the server: {why}"),
        }),
        () = asked(&mut term, &mut int, &mut hup) => {}
    }
    tokio::select! {
        () = wind_up(&runs) => {}
        () = asked(&mut term, &mut int, &mut hup) => {
            log("a second signal: runs that have not ended do so by themselves");
        }
    }
    let _ = end.send(());
    let _ = timeout(CLIENTS_LEAVE_WITHIN, serving).await;
    reporting.abort();
    Log::shared().report_suppressed(true);
    Ok(())
}

/// Waits for a signal that asks for the end.
async fn asked(term: &mut Signal, int: &mut Signal, hup: &mut Signal) {
    loop {
        tokio::select! {
            _ = term.recv() => return,
            _ = int.recv() => return,
            _ = hup.recv() => log("SIGHUP does nothing here; SIGTERM ends the server"),
        }
    }
}

/// Ends all runs, as far as they can be ended.
async fn wind_up(runs: &Runs) {
    runs.close();
    for (limit, how) in
        [(RUNS_END_WITHIN, "end in order"), (RUNS_LEAVE_WITHIN, "are not waited for any more")]
    {
        let running = runs.running();
        if running.is_empty() {
            break;
        }
        log(&format!("the server ends: {} runs {how}", running.len()));
        for run in running {
            let mut known = run.known();
            known.note("the server is about to end, and so is this run".to_owned());
            known.end(rustix::process::Signal::TERM.as_raw());
            drop(known);
            run.has_changed();
        }
        if timeout(limit, runs.are_over()).await.is_ok() {
            break;
        }
    }
    // Those who wait for the end of a run hear of it.
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// What a person who starts a server wants to know.
fn tell(settings: &Settings, addresses: &[Address]) {
    for address in addresses {
        log(&format!("listens on {address}"));
    }
    log(&format!("files of jobs stay under {}", settings.directory.display()));
    let list = |what: &str, allowed: &[String]| match allowed {
        [] => format!("{what}: none (see server.toml)"),
        allowed => format!("{what}: {}", allowed.join(", ")),
    };
    log(&list("devices that jobs may use", &settings.devices));
    log(&list("commands that jobs may run", &settings.commands));
}
