//! Jobs that reach for what is not theirs.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::server::Server;

const RULES: &str = "commands = [\"echo ok >> ran\"]\n";

fn job(lines: &str) -> String {
    format!(
        "[[job]]\nname = \"j\"\nioengine = \"psync\"\nrw = \"write\"\nbs = \"4k\"\nsize = \"64k\"\n{lines}\n"
    )
}

/// A server whose directory has ways out of it, that the one to whom it belongs has made.
fn with_ways_out() -> Server {
    let server = Server::at_socket(RULES);
    let path = |name: &str| server.lab.path(name);
    fs::create_dir(path("out")).unwrap();
    server.lab.file("out/secret", "secret");
    symlink(path("out"), path("data/link")).unwrap();
    symlink(path("out/new"), path("data/dangling")).unwrap();
    fs::hard_link(path("out/secret"), path("data/hard")).unwrap();
    assert!(Command::new("mkfifo").arg(path("data/fifo")).status().unwrap().success());
    server
}

#[test]
fn no_job_reaches_what_is_outside_the_directory_or_the_servers_own() {
    let server = with_ways_out();
    let lock = fs::read(server.lab.path("data/server.lock")).unwrap();
    let out = server.lab.path("out").display().to_string();
    for lines in [
        format!("filename = \"{out}/x\""),
        format!("filename = \"a:{out}/x\""),
        format!("directory = \"{out}\""),
        format!("mem = \"mmapshared:{out}/m\""),
        format!("verify_pattern = \"'{out}/secret'\""),
        format!("buffer_pattern = \"0x11'{out}/secret'\""),
        format!("write_bw_log = \"{out}/x\""),
        format!("write_iolog = \"{out}/x\""),
        format!("trigger_remote = \"touch {out}/x\""),
        format!("exec_prerun = \"touch {out}/x\""),
    ]
    .iter()
    .map(String::as_str)
    .chain([
        "filename = \"../out/x\"",
        "filename_format = \"../out/x.$jobnum\"",
        "filename = \"link/x\"",
        "filename = \"dangling\"",
        "filename = \"hard\"",
        "filename = \"fifo\"",
        "filename = \"/proc/self/root/etc/passwd\"",
        "filename = \"/proc/self/cwd/../out/x\"",
        "filename = \"/dev/fd/0\"",
        "filename = \"/dev/null\"",
        "filename = \"server.lock\"",
        "filename = \"locks/x\"",
        "filename = \"runs/x\"",
        "filename = \".\"",
        "write_lat_log = \"../out/x\"",
        "write_hist_log = \"link/x\"\nlog_hist_msec = 1000",
        "exec_prerun = \" echo ok >> ran\"",
        "exec_prerun = \"echo ok >> ran\\ntouch evil\"",
        "exec_prerun = \"echo ok >> ran; touch evil\"",
        "exec_prerun = \"'echo' ok >> ran\"",
        "exec_postrun = \"echo  ok >> ran\"",
        "cgroup = \"x\"",
        "ioscheduler = \"none\"",
        "mem = \"mmaphuge:/dev/hugepages/x\"",
    ]) {
        let done = server.run(&job(lines), &[]);
        assert!(
            matches!(done.code, Some(2 | 6)) && done.stderr.contains("error: unix:"),
            "{lines}: {done:#?}"
        );
    }
    for lines in ["read_iolog = \"/etc/passwd\"", "read_iolog = \"hard\"", "read_iolog = \"link/secret\""] {
        let done = server.run(&format!("[[job]]\nioengine = \"psync\"\n{lines}\n"), &[]);
        assert!(done.code == Some(2) && done.stderr.contains("error: unix:"), "{lines}: {done:#?}");
    }
    server.run(&job(""), &["--bandwidth-log"]).expect(0);
    let names: Vec<_> = fs::read_dir(server.lab.path("out")).unwrap().flatten().collect();
    assert_eq!((names.len(), server.lab.bytes("out/secret")), (1, b"secret".to_vec()), "{names:?}");
    assert!(!server.lab.path("data/ran").exists() && !server.lab.path("data/evil").exists());
    assert_eq!(fs::read(server.lab.path("data/server.lock")).unwrap(), lock);
    server.end();
}

#[test]
fn a_clients_own_command_and_files_are_never_the_servers() {
    let server = Server::at_socket("");
    let path = |name: &str| server.lab.path(name).display().to_string();
    let lines = format!(
        "verify = \"crc32c\"\ntrigger_timeout = \"1s\"\ntrigger = \"pwd > {}; cat /proc/$PPID/cmdline >> {}\"\n\
         time_based = true\nruntime = \"30s\"\nfsync = 1\nstate_dir = {:?}",
        path("where"),
        path("where"),
        path("client"),
    );
    let done = server.run(&job(&lines), &[]);
    let told = fs::read_to_string(server.lab.path("where")).unwrap_or_else(|why| panic!("{why}: {done:#?}"));
    let own = format!("{}\n", server.lab.path("").canonicalize().unwrap().display());
    assert!(told.starts_with(&own) && told.contains("--client"), "{told}");
    server.end();
}

#[test]
fn an_allowed_command_runs_as_it_stands_there() {
    let server = Server::at_socket(RULES);
    server.run(&job("exec_prerun = \"echo ok >> ran\""), &[]).expect(0);
    assert_eq!(server.lab.bytes("data/ran"), b"ok\n");
    server.end();
}

#[test]
fn names_and_texts_of_jobs_are_neither_lines_of_the_log_nor_orders_to_a_terminal() {
    let server = Server::at_socket("");
    let evil = "x\\n2026-01-01T00:00:00Z run of nobody\\u001b[2J\\u0007\\u009b31m/../../etc";
    let text = job(&format!("description = \"{evil}\"")).replace("\"j\"", &format!("\"{evil}\""));
    let done = server.run(&text, &[]);
    let all = format!("{}{}{}", done.stdout, done.stderr, server.log());
    assert!(!all.chars().any(|c| c.is_control() && c != '\n'), "{all:?}");
    assert!(!all.lines().any(|line| line.starts_with("2026-01-01T00:00:00Z")), "{all}");
    server.end();
}

#[test]
fn a_server_whose_settings_or_keys_jobs_could_change_does_not_begin() {
    for (directory, tls) in [("/", "etc"), ("/etc", "etc"), ("/data", "data/keys")] {
        let lab = super::common::Lab::new();
        for name in ["etc", "data/keys"] {
            fs::create_dir_all(lab.path(name)).unwrap();
        }
        let directory = format!("{}{directory}", lab.path("").display());
        let socket = lab.path("s").display().to_string();
        let tls = lab.path(tls);
        let text = format!("directory = {directory:?}\ntls = {tls:?}\nlisten = [\"unix:{socket}\"]\n");
        lab.file("etc/server.toml", text);
        let done = lab.run(&["server", "--config=etc/server.toml"]).expect(4);
        done.says("where jobs have their files");
    }
}
