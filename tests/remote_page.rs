//! docs/remote.md and docs/fleet.md claim what is so: their commands work as they stand there, the tables
//! have every setting, and the sentences that are explained are those that the program says.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its documents has failed")]

mod common;
#[path = "common/served.rs"]
mod served;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{BINARY, Lab, Running};
use fio_spdk::remote::address::Address;
use fio_spdk::remote::keys;
use fio_spdk::remote::settings::{self, Settings};
use served::Served;

/// The socket that the page begins with.
const SOCKET: &str = "unix:$XDG_RUNTIME_DIR/fio-spdk.sock";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// The contents of fenced blocks that begin so.
fn blocks(text: &str, fence: &str) -> Vec<String> {
    let opening = format!("```{fence}\n");
    let parts = text.split(&opening).skip(1);
    parts.map(|part| part.split("\n```").next().unwrap().to_owned() + "\n").collect()
}

fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let rest = text.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    rest.split("\n## ").next().unwrap()
}

/// The two machines of the page: one directory, in which the server has `etc` and `data`.
struct Machines {
    lab: Lab,
    server: Option<Served>,
}

impl Machines {
    fn new() -> Machines {
        let lab = Lab::new();
        fs::create_dir(lab.path("jobs")).unwrap();
        for entry in fs::read_dir(root().join("jobs")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, lab.path("jobs").join(path.file_name().unwrap())).unwrap();
            }
        }
        fs::create_dir(lab.path("one")).unwrap();
        lab.file("one/server.toml", format!("directory = {:?}\n", lab.path("one/data")));
        Machines { lab, server: None }
    }

    fn play(&mut self, line: &str) {
        let (prompt, typed) = line.split_once(['$', '#']).unwrap_or_else(|| panic!("who types {line}?"));
        let typed = typed.trim();
        match (prompt, typed.strip_prefix("fio-spdk server --listen=")) {
            ("server", Some(listen)) => self.serve(listen),
            ("server", None) if typed.contains("--init") => {
                self.shell(&format!("{typed} --config=etc/server.toml"));
                served::keep_at_home(&self.lab);
            }
            ("client", _) => {
                let address = self.server.as_ref().map(|server| server.address.clone()).unwrap();
                let typed = typed.replace(SOCKET, &address);
                let keys = if address.starts_with("unix:") { "" } else { " --keys=etc" };
                let words = typed.replace("=dut1", &format!("={address}"));
                self.shell(&(words.replace(" dut1", &format!(" {address}")) + keys));
            }
            _ => panic!("nobody knows how to play {line}"),
        }
    }

    fn serve(&mut self, listen: &str) {
        self.server = None;
        let (config, listen) = match listen {
            SOCKET => ("one/server.toml", format!("unix:{}", self.lab.path("s").display())),
            _ => ("etc/server.toml", "127.0.0.1:0".to_owned()),
        };
        self.server = Some(Served::start(&self.lab, config, &[&format!("--listen={listen}")]));
    }

    /// A shell, because a reader has one too.
    fn shell(&self, typed: &str) {
        let rest = typed.strip_prefix("fio-spdk").unwrap_or_else(|| panic!("only fio-spdk: {typed}"));
        let mut command = self.lab.command("sh");
        command.args(["-c", &format!("exec '{BINARY}'{rest}")]);
        let done = Running::of(command).end();
        let log = self.server.as_ref().map(Served::said).unwrap_or_default();
        assert!(done.code == Some(0), "{typed}: {done:#?}\nthe server says:\n{log}");
    }
}

#[test]
fn every_command_that_the_page_invites_to_try_ends_well() {
    let mut machines = Machines::new();
    let commands = blocks(&page("remote.md"), "console run").concat();
    assert!(commands.lines().count() >= 10, "{commands}");
    commands.lines().for_each(|line| machines.play(line));
    // What the second one has judged by.
    let server = machines.server.take().unwrap();
    let name = Address::parse(&server.address).unwrap().file_name();
    let link = machines.lab.path(&format!("jobs/powercut.{name}.state"));
    assert!(link.symlink_metadata().unwrap().is_symlink(), "{}", link.display());
}

#[test]
fn the_page_has_every_setting_and_no_other_with_its_default() {
    let text = page("remote.md");
    let rows: Vec<Vec<&str>> = section(&text, "server.toml")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let named: BTreeSet<&str> = rows.iter().map(|row| row[1].trim_matches('`')).collect();
    assert_eq!(named, settings::names().into_iter().collect::<BTreeSet<_>>());
    let usual = Settings::new("/etc/fio-spdk/server.toml".into());
    for (name, expected) in [
        ("keep_runs", usual.keep_runs.to_string()),
        ("client_timeout", format!("{}s", usual.client_timeout.as_secs())),
        ("answer_within", format!("{}s", usual.answer_within.as_secs())),
        ("max_runs", usual.max_runs.to_string()),
        ("max_watchers", usual.max_watchers.to_string()),
        ("max_connections", usual.max_connections.to_string()),
        ("max_handshakes", usual.max_handshakes.to_string()),
    ] {
        let row = rows.iter().find(|row| row[1] == format!("`{name}`")).unwrap();
        assert_eq!(row[2], expected, "{name}");
    }
}

/// The source below a path, without comments, its strings as they are printed.
fn source(path: &Path, text: &mut String) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            source(&entry.unwrap().path(), text);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let mut lines = fs::read_to_string(path).unwrap();
        lines = lines.lines().filter(|line| !line.trim_start().starts_with("//")).fold(
            String::new(),
            |mut all, line| {
                let _ = writeln!(all, "{line}");
                all
            },
        );
        // A string goes on behind a backslash at the end of a line.
        let mut parts = lines.split("\\\n");
        text.push_str(parts.next().unwrap_or_default());
        parts.for_each(|part| text.push_str(part.trim_start()));
    }
}

#[test]
fn the_program_says_what_the_page_explains() {
    let mut text = String::new();
    for place in ["src/remote", "src/cli", "src/run"] {
        source(&root().join(place), &mut text);
    }
    let page = page("remote.md");
    let mut seen = 0;
    for line in section(&page, "When it does not work").lines().filter(|line| line.starts_with("| `")) {
        let says = line.split('|').nth(1).unwrap();
        for sentence in says.split('`').skip(1).step_by(2) {
            let parts = sentence.split("...").map(str::trim).filter(|part| part.len() >= 5);
            for part in parts {
                assert!(text.contains(part), "`{part}` of `{sentence}` is said nowhere");
                seen += 1;
            }
        }
    }
    assert!(seen >= 60, "{seen}");
}

/// The commands that make a fleet's certificates, with a copier that copies on this machine.
#[test]
fn a_fleet_gets_its_certificates_by_the_commands_of_the_page() {
    let lab = Lab::new();
    let script = blocks(&page("fleet.md"), "sh").into_iter().find(|block| block.contains("--init")).unwrap();
    let bin = lab.path("bin");
    fs::create_dir(&bin).unwrap();
    let copier = "#!/bin/sh\nfor to; do :; done\nto=$(echo \"$to\" | sed 's/^root@//; s/:.*//')\nmkdir -p \"on/$to\"\n\
                  while [ $# -gt 1 ]; do cp \"$1\" \"on/$to/\"; shift; done\n";
    for (name, text) in [("scp", copier), ("ssh", "#!/bin/sh\ntest \"$2\" = mkdir\n")] {
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::os::unix::fs::symlink(BINARY, bin.join("fio-spdk")).unwrap();
    let mut command = Command::new("bash");
    let script = format!("PATH='{}':$PATH\n{script}", bin.display());
    command.args(["-euc", &script]).current_dir(lab.path(""));
    Running::of(command).end().expect(0);
    for bench in ["dut1", "dut2", "dut3"] {
        let there = lab.path("on").join(bench);
        // It was made in another directory than the one where it is read.
        let settings = Settings::load(Some(&there.join("server.toml"))).unwrap();
        assert_eq!(settings.tls, there);
        let listen = vec![Address::parse("0.0.0.0").unwrap()];
        assert_eq!(settings, Settings { listen, ..Settings::new(there.join("server.toml")) });
        keys::server_config(&settings.tls).unwrap();
        assert!(!there.join("ca.key").exists());
        assert_eq!(fs::read(there.join("ca.pem")).unwrap(), lab.bytes("ca/ca.pem"));
    }
    let own: PathBuf = lab.path("ca/clients/anna");
    keys::client_config(&own).unwrap();
}
