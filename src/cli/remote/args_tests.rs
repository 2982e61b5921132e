//! Addresses, lists and the order of arguments.

use std::ffi::OsString;
use std::time::Duration;

use crate::cli::args::{Action, Invocation, parse};

use super::*;

fn parsed(arguments: &[&str]) -> Result<Action, clap::Error> {
    parse(std::iter::once("fio-spdk").chain(arguments.iter().copied()).map(OsString::from))
}

fn run(arguments: &[&str]) -> Invocation {
    match parsed(arguments) {
        Ok(Action::Run(invocation)) => *invocation,
        Ok(_) => panic!("{arguments:?} is no run"),
        Err(error) => panic!("{error}"),
    }
}

/// Each server and its files, as text.
fn servers(arguments: &[&str]) -> Result<Vec<String>, String> {
    let invocation = run(arguments);
    let clients = invocation.clients.expect("servers");
    let found = clients.servers(!invocation.overrides.is_empty())?;
    Ok(found.iter().map(|(address, files)| format!("{address} {}", files.join(" "))).collect())
}

fn wrong(arguments: &[&str]) -> String {
    match parsed(arguments) {
        Ok(Action::Run(_)) => servers(arguments).unwrap_err(),
        Ok(_) => panic!("{arguments:?} is accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn job_files_belong_to_the_servers_they_stand_behind_and_to_all_before_the_first() {
    assert_eq!(servers(&["x.toml", "--client=a", "--client=b"]).unwrap(), ["a x.toml", "b x.toml"]);
    assert_eq!(
        servers(&["--client=a", "x.toml", "--client", "b:99", "y.toml", "z.toml"]).unwrap(),
        ["a x.toml", "b:99 y.toml z.toml"]
    );
    assert_eq!(servers(&["--client=a", "--client=b", "x.toml"]).unwrap(), ["a x.toml", "b x.toml"]);
    assert_eq!(
        servers(&["w.toml", "--client=a", "x.toml", "--bs=4k", "--client=b", "--client=c", "y.toml"])
            .unwrap(),
        ["a w.toml x.toml", "b w.toml y.toml", "c w.toml y.toml"]
    );
    assert_eq!(servers(&["--client=a", "--ioengine=null"]).unwrap(), ["a "]);
    assert_eq!(servers(&["-", "--client=unix:/run/x"]).unwrap(), ["unix:/run/x -"]);
    assert!(run(&["x.toml"]).clients.is_none());
}

#[test]
fn a_server_without_a_job_or_named_twice_is_refused() {
    let why = wrong(&["--client=a", "--client=b", "x.toml", "--client=c"]);
    assert!(why.starts_with("no job file for c: "), "{why}");
    let why = wrong(&["x.toml", "--client=a", "--client=a:8765"]);
    assert!(why.contains("--client=a stands twice"), "{why}");
    let why = wrong(&["x.toml", "--client=/run/sock"]);
    assert!(why.contains("unix:/run/sock"), "{why}");
    assert!(wrong(&["--client=a"]).contains("no job file"));
}

#[test]
fn a_list_of_servers_is_a_file_with_an_address_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lab");
    let client = format!("--client={}", path.display());
    std::fs::write(&path, "# the lab\ndut1\n\n  dut2:99  # the slow one\n[::1]:9000\n").unwrap();
    assert_eq!(
        servers(&["x.toml", &client]).unwrap(),
        ["dut1 x.toml", "dut2:99 x.toml", "[::1]:9000 x.toml"]
    );
    std::fs::write(&path, "dut1\ndut 2\n").unwrap();
    let why = wrong(&["x.toml", &client]);
    assert!(why.contains("line 2") && why.contains("is a file here"), "{why}");
    std::fs::write(&path, "# nobody\n").unwrap();
    assert!(wrong(&["x.toml", &client]).contains("no address in this list"));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(wrong(&["x.toml", &client]).contains("cannot be read"));
}

#[test]
fn times_and_keys_have_defaults_and_need_a_server() {
    let reach = run(&["x.toml", "--client=a"]).clients.unwrap().reach;
    let seconds = Duration::from_secs(10);
    assert_eq!(reach, Reach { trust: Trust::default(), connect_within: seconds, silence: seconds });
    let arguments = [
        "x.toml",
        "--client=a",
        "--keys=k",
        "--server-user=1000",
        "--connect-timeout=2s",
        "--server-timeout=500ms",
    ];
    let reach = run(&arguments).clients.unwrap().reach;
    assert_eq!(reach.trust, Trust { keys: Some("k".into()), socket_user: Some(1000) });
    assert_eq!(reach.connect_within, Duration::from_secs(2));
    assert_eq!(reach.silence, Duration::from_millis(500));
    assert!(wrong(&["x.toml", "--keys=k"]).contains("--client"));
    assert!(wrong(&["x.toml", "--client=a", "--server-user=anna"]).contains("anna"));
    assert!(wrong(&["x.toml", "--client=a", "--server-timeout=0"]).contains("a time above 0"));
}

#[test]
fn runs_are_attached_to_watched_and_stopped() {
    let Ok(Action::Remote(Request::Attach { addresses, run, watch, state_dir, shown, .. })) = parsed(&[
        "attach",
        "dut1",
        "dut2:99",
        "--run=00FF",
        "--watch",
        "--state-dir=s",
        "--output-format=json",
    ]) else {
        panic!("nothing is attached to")
    };
    assert_eq!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["dut1", "dut2:99"]);
    assert_eq!((run.as_str(), watch, state_dir), ("00ff", true, "s".into()));
    assert_eq!(shown.formats[0].name, "json");
    assert!(wrong(&["attach", "dut1", "--run=../x"]).contains("hexadecimal"));
    assert!(wrong(&["attach", "dut1", "dut1"]).contains("twice"));
    assert!(parsed(&["attach"]).is_err() && parsed(&["stop", "a", "b"]).is_err());
    let Ok(Action::Remote(Request::Stop { address, run, .. })) = parsed(&["stop", "unix:/run/x"]) else {
        panic!("nothing is stopped")
    };
    assert_eq!((address.to_string().as_str(), run.as_str()), ("unix:/run/x", ""));
    let Ok(Action::Remote(Request::Status { address, json, .. })) =
        parsed(&["server", "--status", "--client=dut1", "--json"])
    else {
        panic!("nothing is asked")
    };
    assert!(json && address.is_some());
    assert!(parsed(&["server", "--json"]).is_err());
}
