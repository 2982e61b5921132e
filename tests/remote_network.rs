//! Machines of their own, with a network between them that is cut, slow and lossy. Where there can be no such
//! network, a trial is ignored and says why.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talks to itself, and says why trials are skipped"
)]

#[path = "common/network.rs"]
mod network;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use fio_spdk::base::clock::Clock;
use libtest_mimic::{Arguments, Trial};
use network::{Machine, Network};

type Check = fn();

fn main() {
    let told: Vec<String> = std::env::args().collect();
    if let [_, echo, address] = told.as_slice()
        && echo == ECHO
    {
        return echoes(address);
    }
    if let [_, ask, address, times] = told.as_slice()
        && ask == ASK
    {
        return asks(address, times.parse().expect("a number"));
    }
    let mut arguments = Arguments::from_args();
    // Each has a server or three; and who starts a process must outlive it.
    arguments.test_threads = Some(1);
    let why = network::why_not();
    let trials: [(&str, Check); 1] =
        [("the_network_of_the_tests_carries_delays_loses_and_is_cut", the_network_itself)];
    let trials = trials.map(|(name, check)| {
        if let Some(why) = &why {
            eprintln!("skipped: {name}: {why}");
        }
        let run = move || {
            check();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(why.is_some())
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

// ---- the network itself ----

const ECHO: &str = "--echo";
const ASK: &str = "--ask";

/// What a machine of the trial does: sends back what it gets.
fn echoes(address: &str) {
    let listener = TcpListener::bind(address).expect("an address");
    println!("listens");
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..length]).expect("the other side is there");
        }
    }
}

/// What another one does: asks so often, and says how long the fastest answer took, in microseconds.
fn asks(address: &str, times: u32) {
    let address = address.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    stream.set_nodelay(true).expect("an option");
    let clock = Clock::get();
    let ask = |_| {
        let began = clock.now_ns();
        let mut answer = [0; 1000];
        stream.write_all(&[7; 1000]).expect("sent");
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, [7; 1000]);
        (clock.now_ns() - began) / 1000
    };
    println!("{}", (0..times).map(ask).min().expect("at least one"));
}

fn the_network_itself() {
    let program = std::env::current_exe().expect("this program");
    let mut network = Network::new(7);
    let (server, client) = (network.machine(), network.machine());
    let address = format!("{}:7", server.address);
    let mut command = server.command(&program);
    let mut echo = command.args([ECHO, &address]).stdout(Stdio::piped()).spawn().expect("a process");
    let mut line = String::new();
    BufReader::new(echo.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let ask = |machine: &Machine, times: &str| {
        let output = machine.command(&program).args([ASK, &address, times]).output().expect("a process");
        let told = String::from_utf8_lossy(&output.stdout).trim().parse::<u64>();
        told.map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
    };
    ask(&client, "50").expect("an answer");
    // There and back.
    network.weather(Duration::from_millis(40), 0);
    assert!(ask(&client, "2").expect("an answer") >= 80_000);
    network.weather(Duration::ZERO, 50);
    ask(&client, "80").expect("an answer");
    assert!(network.lost() > 0);
    network.weather(Duration::ZERO, 0);
    client.cut();
    assert!(ask(&client, "1").expect_err("there is no way").contains("a connection"));
    client.mend();
    server.cut_sending();
    assert!(ask(&client, "1").is_err());
    server.mend();
    ask(&client, "1").expect("an answer");
    echo.kill().expect("it runs");
    echo.wait().expect("it was ours");
}
