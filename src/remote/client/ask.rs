//! What is asked of a server beside a run: what goes on there, and to end it.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::base::host::printable;
use crate::remote::address::Address;
use crate::remote::connect::Trust;
use crate::remote::wire::bench::{self, bench_client::BenchClient};
use crate::remote::{check_protocol, protocol};

use super::link::{self, Connector, environment};
use super::{Failure, FailureKind, way};

/// Who the server is and what runs there. Its texts are fit for a terminal.
///
/// # Errors
/// If it is not reached or does not answer `within` a time, or is of another version.
pub fn status(address: &Address, trust: &Trust, within: Duration) -> Result<bench::StatusReply, Failure> {
    status_by(&way::connector(trust), address, within)
}

pub(super) fn status_by(
    connector: &Connector,
    address: &Address,
    within: Duration,
) -> Result<bench::StatusReply, Failure> {
    let mut reply = call(connector, address, within, async |mut client| {
        client.status(bench::StatusRequest { protocol: Some(protocol()) }).await
    })?;
    check_protocol(reply.protocol.as_ref(), &address.to_string()).map_err(environment)?;
    let texts = reply.runs.iter_mut().flat_map(|run| {
        [&mut run.run, &mut run.job_file, &mut run.client, &mut run.state].into_iter().chain(&mut run.targets)
    });
    let texts = texts.chain(&mut reply.devices).chain([&mut reply.host, &mut reply.directory]);
    texts.for_each(|text| *text = printable(text));
    Ok(reply)
}

/// Ends a run in order; the second time without waiting for its devices. `run` is its id or how that
/// begins; empty: the only one that runs.
///
/// # Errors
/// As [`status`], and if there is no such run.
pub fn stop(
    address: &Address,
    run: &str,
    trust: &Trust,
    within: Duration,
) -> Result<bench::StopReply, Failure> {
    stop_by(&way::connector(trust), address, run, within)
}

pub(super) fn stop_by(
    connector: &Connector,
    address: &Address,
    run: &str,
    within: Duration,
) -> Result<bench::StopReply, Failure> {
    let request =
        bench::StopRequest { protocol: Some(protocol()), run: run.to_owned(), client: super::own_name() };
    let mut reply = call(connector, address, within, async |mut client| client.stop(request).await)?;
    reply.run = printable(&reply.run);
    Ok(reply)
}

/// Connects and calls, each within a time. A server that has no room at the moment is tried again.
fn call<T>(
    connector: &Connector,
    address: &Address,
    within: Duration,
    ask: impl AsyncFnOnce(BenchClient<tonic::transport::Channel>) -> Result<tonic::Response<T>, tonic::Status>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| environment(format!("no connections can be made: {why}")))?;
    let silent = || environment(format!("{address} did not answer for {}", link::spoken(within)));
    let answer = runtime.block_on(async {
        let until = Instant::now() + within;
        let channel = loop {
            let left = until.saturating_duration_since(Instant::now());
            let reached = timeout(left, connector(address.clone(), left)).await.map_err(|_| silent())?;
            match reached {
                Ok(channel) => break channel,
                Err(missed) if missed.is_busy && Instant::now() + link::TRY_AGAIN < until => {
                    sleep(link::TRY_AGAIN).await;
                }
                Err(missed) => return Err(environment(missed.why)),
            }
        };
        let answer = timeout(within, ask(link::new_client(channel))).await.map_err(|_| silent())?;
        answer.map(tonic::Response::into_inner).map_err(|status| {
            let kind = match status.code() {
                tonic::Code::InvalidArgument | tonic::Code::NotFound => FailureKind::BadJob,
                _ => FailureKind::Environment,
            };
            Failure { kind, message: format!("{address}: {}", link::said(&status)) }
        })
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    answer
}
