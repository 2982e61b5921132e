//! Several servers, and servers that are late, gone, of another version, or unwilling.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use fio_spdk::remote::wire::bench::bench_server::{Bench as Wire, BenchServer};
use fio_spdk::remote::wire::bench::{
    ClientMessage, ProtocolVersion, ServerMessage, StatusReply, StatusRequest, StopReply, StopRequest,
};
use rustix::process::Signal;
use serde_json::Value;
use tonic::{Request, Response, Status, Streaming};

use crate::common::servers::Bench;
use crate::common::{at, number};

const FAST: &str = "[[job]]\nname = \"fast\"\nioengine = \"null\"\nrw = \"write\"\nsize = \"1g\"\nbs = \"4k\"\nnumber_ios = 5000\n";
const SLOW: &str = "[[job]]\nname = \"slow\"\nioengine = \"psync\"\nfilename = \"slow\"\nrw = \"randrw\"\nsize = \"1m\"\nbs = \"4k\"\nsync = \"sync\"\nnumber_ios = 300\n";

fn client_stats(json: &Value) -> Vec<Value> {
    at(json, "/client_stats").as_array().expect("entries").clone()
}

fn bins(job: &Value) -> BTreeMap<u64, u64> {
    let bins = at(job, "/write/clat_ns/bins").as_object().expect("bins");
    bins.iter().map(|(ns, count)| (ns.parse().expect("ns"), count.as_u64().expect("a count"))).collect()
}

#[test]
fn servers_are_reported_each_and_together_from_merged_histograms() {
    let bench = Bench::new(3);
    bench.lab.file("fast.toml", FAST).file("slow.toml", SLOW);
    let arguments = [
        "--output-format=normal,json+",
        "--client=unix:s0",
        "fast.toml",
        "--client=unix:s1",
        "--client=unix:s2",
        "slow.toml",
    ];
    let done = bench.begin(&arguments).end().expect(0);
    let (text, json) = done.stdout.split_at(done.stdout.find("\n{").expect("JSON"));
    for name in ["==== s0 ====", "==== s1 ====", "==== s2 ====", "==== all servers (3) ===="] {
        assert!(text.contains(name), "{name} is missing: {text}");
    }
    let json: Value = serde_json::from_str(json).expect("JSON");
    let entries = client_stats(&json);
    let names: Vec<&str> = entries.iter().filter_map(|job| job["jobname"].as_str()).collect();
    assert_eq!(names, ["fast", "slow", "slow", "All clients"]);
    let all = entries.last().expect("all");
    let mut merged = BTreeMap::new();
    for job in &entries[..3] {
        bins(job).into_iter().for_each(|(ns, count)| *merged.entry(ns).or_insert(0) += count);
    }
    assert_eq!(bins(all), merged);
    let total: u64 = merged.values().sum();
    assert_eq!(number(all, "/write/total_ios"), total);
    for (name, share) in [("50.000000", 0.5), ("95.000000", 0.95), ("99.000000", 0.99)] {
        let mut seen = 0;
        let expected = merged.iter().find(|(_, count)| {
            seen += **count;
            seen as f64 >= share * total as f64
        });
        let told = number(all, &format!("/write/clat_ns/percentile/{name}"));
        assert_eq!(Some(told), expected.map(|(ns, _)| *ns), "p{name}");
    }
    for key in ["/read/total_ios", "/write/io_bytes"] {
        let sum: u64 = entries[..3].iter().map(|job| number(job, key)).sum();
        assert_eq!(number(all, key), sum, "{key}");
    }
    // Each server's own document is whole.
    let servers = at(&json, "/servers").as_array().expect("servers");
    for (server, name) in servers.iter().zip(["fast", "slow", "slow"]) {
        assert_eq!(at(server, "/report/jobs/0/jobname"), name);
        assert_eq!(at(server, "/error"), &Value::Null);
        assert_eq!(at(server, "/run").as_str().map(str::len), Some(32));
    }
}

#[test]
fn a_server_that_comes_late_starts_with_the_others() {
    let mut bench = Bench::new(1);
    bench.add("");
    let mut running = bench.begin_all(&["j.toml", "--runtime=500ms", "--output-format=json"]);
    thread::sleep(Duration::from_secs(1));
    assert!(bench.runs(0).is_empty(), "it waits for the other one");
    assert!(!running.has_ended());
    bench.start(1);
    let done = running.end().expect(0).says("unix:s1: waiting for it");
    for server in [0, 1] {
        assert!(number(&done.json(), &format!("/servers/{server}/report/jobs/0/write/total_ios")) > 0);
    }
}

/// A server of a version that is to come.
struct Newer(u32);

#[tonic::async_trait]
impl Wire for Newer {
    type DriveStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<ServerMessage, Status>> + Send>>;

    async fn drive(
        &self,
        _: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::DriveStream>, Status> {
        Err(Status::internal("nobody should ask for a run"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let protocol = ProtocolVersion { major: 1, minor: self.0, program: "77.0".to_owned() };
        Ok(Response::new(StatusReply { protocol: Some(protocol), ..StatusReply::default() }))
    }

    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        Err(Status::internal("nobody should end a run"))
    }
}

#[test]
fn servers_that_never_come_disagree_or_refuse_are_named_and_spoil_nothing() {
    let bench = Bench::new(2);
    let socket = bench.lab.path("newer");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = {
        let _inside = runtime.enter();
        tokio::net::UnixListener::bind(&socket).expect("a socket")
    };
    runtime.spawn(async move {
        let incoming = async_stream(listener);
        let _ = tonic::transport::Server::builder()
            .add_service(BenchServer::new(Newer(7)))
            .serve_with_incoming(incoming)
            .await;
    });
    bench.lab.file("bad.toml", SLOW.replace("filename = \"slow\"", "filename = \"/etc/hosts.fio-spdk\""));
    bench.lab.file("fast.toml", FAST);
    let done = bench
        .begin(&[
            "--output-format=json",
            "--connect-timeout=500ms",
            "--client=unix:s0",
            "--client=unix:nobody",
            "--client=unix:newer",
            "fast.toml",
            "--client=unix:s1",
            "bad.toml",
        ])
        .end()
        .expect(2)
        .says("unix:newer speaks protocol 1.7 (fio-spdk 77.0)")
        .says("unix:nobody")
        .says("/etc/hosts.fio-spdk");
    let json = done.json();
    assert_eq!(number(&json, "/servers/0/report/jobs/0/write/total_ios"), 5000);
    for server in [1, 2, 3] {
        let why = at(&json, &format!("/servers/{server}/error")).as_str().expect("an error");
        assert!(!why.is_empty() && at(&json, &format!("/servers/{server}/report")).is_null());
    }
    let all = client_stats(&json);
    assert_eq!(number(all.last().expect("all"), "/write/total_ios"), 5000);
    assert!(at(all.last().expect("all"), "/error") != 0);
}

fn async_stream(
    listener: tokio::net::UnixListener,
) -> impl tokio_stream::Stream<Item = std::io::Result<tokio::net::UnixStream>> {
    let (to, from) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if to.send(Ok(stream)).await.is_err() {
                return;
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(from)
}

#[test]
fn a_server_that_is_killed_spoils_nothing_of_the_others() {
    let mut bench = Bench::new(2);
    let running = bench.begin_all(&["j.toml", "--runtime=15s", "--output-format=json"]);
    bench.wait_for_writes(0);
    bench.wait_for_writes(1);
    thread::sleep(Duration::from_millis(1500));
    bench.end(1, Signal::KILL);
    let json = running.end().expect(4).says("unix:s1 vanished").json();
    assert!(at(&json, "/servers/0/error").is_null());
    assert_eq!(at(&json, "/servers/0/report/fio-spdk/unfinished"), false);
    assert_eq!(at(&json, "/servers/1/report/fio-spdk/unfinished"), true);
    assert!(number(&json, "/servers/1/report/jobs/0/write/total_ios") > 0, "what had arrived");
    let all = client_stats(&json);
    let sum: u64 = all[..2].iter().map(|job| number(job, "/write/total_ios")).sum();
    assert_eq!(number(&all[2], "/write/total_ios"), sum);
}
