//! `server.toml`: where a server listens, and what it allows.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::Address;
use super::{PORT, VANISHED_AFTER};
use crate::base::host::Sysfs;
use crate::base::host::memory::total_bytes;
use crate::base::units::parse_size;
use crate::job::diagnostic::{Issue, Source};
use crate::job::kind::{integer, text, time, with_nearest};
use crate::job::syntax;
use crate::job::value::{Data, Outcome, Value};

/// The name of the file.
pub const FILE: &str = "server.toml";
/// A larger file is something else.
const MOST_BYTES: u64 = 1 << 20;
/// More entries of a list are a mistake.
const MOST_ITEMS: usize = 1000;
const SECOND_NS: u64 = crate::base::units::SECOND_NS;

/// No run gets along with less memory.
const LEAST_MEMORY_BYTES: u64 = 64 << 20;

/// Half of the machine's memory: the other half is for the pages of files, the server and other programs.
fn usual_memory_bytes() -> u64 {
    total_bytes(&Sysfs::default()).map_or(u64::MAX, |bytes| (bytes / 2).max(LEAST_MEMORY_BYTES))
}

/// What a server does, and allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file that says so; it need not be there.
    pub file: PathBuf,
    /// Where it listens: at least one address.
    pub listen: Vec<Address>,
    /// Where runs, locks and the files of jobs are.
    pub directory: PathBuf,
    /// Where `ca.pem`, `server.pem` and `server.key` are.
    pub tls: PathBuf,
    /// Patterns of the devices that jobs may name.
    pub devices: Vec<String>,
    /// The commands that jobs may have it run, each as a whole.
    pub commands: Vec<String>,
    /// So many ended runs are kept.
    pub keep_runs: usize,
    /// A client that is silent for so long has vanished.
    pub client_timeout: Duration,
    /// A client may take so long to answer what a run waits for.
    pub answer_within: Duration,
    /// So many runs at one time, at most.
    pub max_runs: usize,
    /// The most memory that one run may need, in bytes.
    pub max_memory_bytes: u64,
    /// So many watch a run, at most.
    pub max_watchers: usize,
    /// So many connections at one time, at most.
    pub max_connections: usize,
    /// Besides them, so many that have not shown yet who they are; from one address half of them.
    pub max_handshakes: usize,
}

/// The directory that belongs to root's servers and clients.
pub const SYSTEM_DIRECTORY: &str = "/etc/fio-spdk";

/// Where configuration lies: `/etc/fio-spdk` for root, `$XDG_CONFIG_HOME/fio-spdk` or
/// `~/.config/fio-spdk` for others.
#[must_use]
pub fn config_directory() -> PathBuf {
    place(SYSTEM_DIRECTORY, "XDG_CONFIG_HOME", ".config")
}

/// The directory of a user's own configuration, for root too: clients' certificates are copied there.
#[must_use]
pub fn own_directory() -> Option<PathBuf> {
    in_home("XDG_CONFIG_HOME", ".config")
}

/// Where a server keeps its runs unless told.
fn data_directory() -> PathBuf {
    place("/var/lib/fio-spdk", "XDG_DATA_HOME", ".local/share")
}

/// The place of root, or the one where the user's desktop looks for such things.
fn place(of_root: &str, variable: &str, in_home_at: &str) -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from(of_root);
    }
    in_home(variable, in_home_at).unwrap_or_else(|| PathBuf::from(of_root))
}

fn in_home(variable: &str, otherwise: &str) -> Option<PathBuf> {
    let told = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(otherwise));
    told.or_else(home).map(|base| base.join("fio-spdk"))
}

/// An entry of the file.
struct Entry {
    name: &'static str,
    form: &'static str,
    set: fn(&mut Settings, &Value) -> Outcome<()>,
}

const TIME: &str = "time from 1s to 1h, such as \"10s\"";

const ENTRIES: &[Entry] = &[
    Entry {
        name: "listen",
        form: "addresses: [\"127.0.0.1:8765\", \"unix:/run/fio-spdk.sock\"]",
        set: |settings, value| {
            settings.listen = list(value, listening)?;
            if settings.listen.is_empty() { Err(value.bad("a server listens somewhere")) } else { Ok(()) }
        },
    },
    Entry {
        name: "directory",
        form: "path of a directory, from / on",
        set: |settings, value| absolute(value, &mut settings.directory),
    },
    Entry {
        name: "tls",
        form: "path of a directory, from / on",
        set: |settings, value| absolute(value, &mut settings.tls),
    },
    Entry {
        name: "devices",
        form: "patterns: [\"/dev/nvme1n1\", \"/dev/disk/by-id/nvme-Lab_*\"]",
        set: |settings, value| {
            settings.devices = list(value, filled)?;
            Ok(())
        },
    },
    Entry {
        name: "commands",
        form: "whole commands: [\"echo b > /proc/sysrq-trigger\"]",
        set: |settings, value| {
            settings.commands = list(value, filled)?;
            Ok(())
        },
    },
    Entry {
        name: "keep_runs",
        form: "integer from 0 to 10000",
        set: |settings, value| number(value, 0, 10_000, &mut settings.keep_runs),
    },
    Entry {
        name: "client_timeout",
        form: TIME,
        set: |settings, value| limit(value, &mut settings.client_timeout),
    },
    Entry {
        name: "answer_within",
        form: TIME,
        set: |settings, value| limit(value, &mut settings.answer_within),
    },
    Entry {
        name: "max_runs",
        form: "integer from 1 to 64",
        set: |settings, value| number(value, 1, 64, &mut settings.max_runs),
    },
    Entry {
        name: "max_memory",
        form: "size of at least 64m, such as \"8g\"",
        set: |settings, value| {
            let bytes = match &value.data {
                Data::Text(text) => parse_size(text).map_err(|why| value.bad(why))?,
                _ => integer(value, 0, u64::MAX)?,
            };
            if bytes < LEAST_MEMORY_BYTES {
                return Err(value.bad("expected 64m or more: less is too little for any run"));
            }
            settings.max_memory_bytes = bytes;
            Ok(())
        },
    },
    Entry {
        name: "max_watchers",
        form: "integer from 0 to 256",
        set: |settings, value| number(value, 0, 256, &mut settings.max_watchers),
    },
    Entry {
        name: "max_connections",
        form: "integer from 1 to 4096",
        set: |settings, value| number(value, 1, 4096, &mut settings.max_connections),
    },
    Entry {
        name: "max_handshakes",
        form: "integer from 1 to 1024",
        set: |settings, value| number(value, 1, 1024, &mut settings.max_handshakes),
    },
];

fn list<T>(value: &Value, parse: fn(&Value) -> Outcome<T>) -> Outcome<Vec<T>> {
    let Data::List(items) = &value.data else {
        let issue = value.wrong("an array of strings");
        return Err(match value.data {
            Data::Text(_) => issue.help("one alone stands in brackets too: [\"...\"]"),
            _ => issue,
        });
    };
    if items.len() > MOST_ITEMS {
        return Err(value.bad(format!("{} entries: {MOST_ITEMS} at most", items.len())));
    }
    items.iter().map(parse).collect()
}

fn filled(value: &Value) -> Outcome<String> {
    let text = text(value)?;
    if text.trim().is_empty() || text.contains('\0') {
        return Err(value.bad("this is empty, or holds a zero byte"));
    }
    Ok(text)
}

fn listening(value: &Value) -> Outcome<Address> {
    let address = Address::parse(&text(value)?).map_err(|why| value.bad(why))?;
    match address.path().is_some_and(|path| !path.is_absolute()) {
        true => Err(value.bad("the path of the socket does not begin with /")),
        false => Ok(address),
    }
}

fn absolute(value: &Value, field: &mut PathBuf) -> Outcome<()> {
    let path = PathBuf::from(filled(value)?);
    if !path.is_absolute() {
        return Err(value.bad("the path does not begin with /: where would a server begin to look?"));
    }
    *field = path;
    Ok(())
}

fn number(value: &Value, least: u64, most: u64, field: &mut usize) -> Outcome<()> {
    *field = usize::try_from(integer(value, least, most)?).unwrap_or(usize::MAX);
    Ok(())
}

fn limit(value: &Value, field: &mut Duration) -> Outcome<()> {
    let ns = time(value)?;
    if !(SECOND_NS..=3_600 * SECOND_NS).contains(&ns) {
        return Err(value.bad("expected 1s to 1h"));
    }
    *field = Duration::from_nanos(ns);
    Ok(())
}

impl Settings {
    /// What holds where a file says nothing: listens to this machine only, allows nothing.
    #[must_use]
    pub fn new(file: PathBuf) -> Settings {
        let tls = file.parent().map(Path::to_owned).unwrap_or_default();
        Settings {
            file,
            listen: vec![Address::Tcp { host: "127.0.0.1".to_owned(), port: PORT }],
            directory: data_directory(),
            tls,
            devices: Vec::new(),
            commands: Vec::new(),
            keep_runs: 20,
            client_timeout: VANISHED_AFTER,
            answer_within: Duration::from_secs(10),
            max_runs: 4,
            max_memory_bytes: usual_memory_bytes(),
            max_watchers: 8,
            max_connections: 64,
            max_handshakes: 256,
        }
    }

    /// The file that is read unless another one is named.
    #[must_use]
    pub fn usual_file() -> PathBuf {
        config_directory().join(FILE)
    }

    /// Reads the file at `path`; without, the one in the [`config_directory`], if it is there.
    ///
    /// # Errors
    /// Why it cannot be read, or every mistake in it with its place: several lines, to be put behind
    /// `error: `.
    pub fn load(path: Option<&Path>) -> Result<Settings, String> {
        let file = match path {
            // What lies beside it is found from anywhere.
            Some(path) => std::path::absolute(path).map_err(|why| format!("{}: {why}", path.display()))?,
            None => Settings::usual_file(),
        };
        let name = file.display().to_string();
        let mut bytes = Vec::new();
        let read = File::open(&file).and_then(|file| {
            let mode = file.metadata()?.mode();
            file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
            Ok(mode)
        });
        match read {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound && path.is_none() => {
                return Ok(Settings::new(file));
            }
            Err(why) => {
                return Err(format!("cannot read {name}: {why}; `fio-spdk server --init` makes one"));
            }
            Ok(_) if bytes.len() as u64 > MOST_BYTES => {
                return Err(format!("{name} is larger than 1 MiB: is it a {FILE}?"));
            }
            Ok(mode) if mode & 0o002 != 0 => {
                return Err(format!(
                    "anybody may write to {name}, and it says what the server allows: chmod o-w {name}"
                ));
            }
            Ok(_) => {}
        }
        let text = String::from_utf8(bytes).map_err(|_| format!("{name} is no text"))?;
        Settings::parse(file, text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// See [`Settings::load`].
    pub fn parse(file: PathBuf, text: String) -> Result<Settings, String> {
        let mut document = syntax::read(0, &text);
        let mut settings = Settings::new(file);
        for (name, key, value) in std::mem::take(&mut document.entries) {
            // What the parser made of a line that it did not understand is not the user's mistake.
            if document.broken.iter().any(|line| line.contains(&key.span.start)) {
                continue;
            }
            let Some(entry) = ENTRIES.iter().find(|entry| entry.name == name) else {
                let issue = Issue::new(format!("a server has no setting `{name}`")).at(&key);
                let mut issue = with_nearest(issue, &name, ENTRIES.iter().map(|entry| entry.name));
                if issue.help.is_empty() {
                    let names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
                    issue = issue.help(format!("it has {}", names.join(", ")));
                }
                document.issues.push(issue);
                continue;
            };
            if let Err(mut issue) = (entry.set)(&mut settings, &value) {
                issue.place.get_or_insert_with(|| value.place.clone());
                issue.message = format!("`{name}`: {}", issue.message);
                if issue.label.is_empty() {
                    issue.label = format!("expected {}", entry.form);
                }
                document.issues.push(issue);
            }
        }
        let sources = [Source { name: settings.file.display().to_string(), text }];
        let Some(wrong) = document.issues.into_diagnostics(&sources) else { return Ok(settings) };
        let told = wrong.render(false);
        let told = told.trim_end();
        Err(told.strip_prefix("error: ").unwrap_or(told).to_owned())
    }
}

/// The names of all settings.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ENTRIES.iter().map(|entry| entry.name).collect()
}

/// The file as `server --init` writes it: every setting, explained, with what holds anyhow. In one that
/// may be copied to another machine the directories stand for the eye only.
#[must_use]
pub fn template(settings: &Settings, may_travel: bool) -> String {
    let mark = if may_travel { "# " } else { "" };
    let quoted = |path: &Path| crate::job::value::quote(&path.to_string_lossy());
    format!(
        r#"# What the fio-spdk server of this machine does, and allows. Without the file, all is as it stands here.

# Where it listens. Beyond this machine: "0.0.0.0:{PORT}", or one of its addresses. TCP always means TLS with
# certificates on both sides; a socket such as "unix:/run/fio-spdk.sock" is for root and the server's user.
listen = ["127.0.0.1:{PORT}"]

# Where runs, their snapshots and locks are kept. Relative paths in jobs mean this directory, and files
# that jobs name must lie in it. For root it is /var/lib/fio-spdk unless told.
{mark}directory = {directory}

# Where ca.pem, server.pem and server.key are. Beside this file unless told.
{mark}tls = {tls}

# The devices that jobs may write and read; * and ? stand for any characters. None may be used unless listed.
# devices = ["/dev/nvme1n1", "/dev/disk/by-id/nvme-Lab_*"]
devices = []

# The commands that jobs may have the server run (trigger_remote, exec_prerun, exec_postrun), each as a whole.
# commands = ["echo b > /proc/sysrq-trigger"]
commands = []

# So many ended runs are kept, with their jobs, report and snapshot.
keep_runs = {keep_runs}

# A client that says nothing for so long has vanished: the run ends, unless its job says `detach`.
client_timeout = "{client_timeout}s"

# A client may take so long to store a snapshot before the trigger's command is withheld.
answer_within = "{answer_within}s"

# Limits: runs at one time, watchers of each, connections, and besides them connections that have not shown
# yet who they are (half of these from one address).
max_runs = {max_runs}
max_watchers = {max_watchers}
max_connections = {max_connections}
max_handshakes = {max_handshakes}

# The memory that one run may need: what needs more is refused before it starts. Half of the machine's unless set.
# max_memory = "8g"
"#,
        directory = quoted(&settings.directory),
        tls = quoted(&settings.tls),
        keep_runs = settings.keep_runs,
        client_timeout = settings.client_timeout.as_secs(),
        answer_within = settings.answer_within.as_secs(),
        max_runs = settings.max_runs,
        max_watchers = settings.max_watchers,
        max_connections = settings.max_connections,
        max_handshakes = settings.max_handshakes,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(PathBuf::from("/x/server.toml"), text.to_owned())
    }

    #[test]
    fn what_a_file_says_holds_and_what_it_does_not_say_is_as_without_it() {
        let settings = parse(
            "listen = [\"0.0.0.0\", \"unix:/run/f.sock\"]\ndirectory = \"/srv/fio\"\ndevices = [\"/dev/nvme?n1\"]\n\
             commands = [\"echo b > /proc/sysrq-trigger\"]\nkeep_runs = 3\nclient_timeout = \"2m\"\n\
             answer_within = 5\nmax_runs = 1\nmax_watchers = 0\nmax_connections = 7\nmax_handshakes = 2\nmax_memory = \"3g\"\ntls = \"/k\"\n",
        )
        .unwrap();
        let expected = Settings {
            file: "/x/server.toml".into(),
            listen: vec![Address::parse("0.0.0.0").unwrap(), Address::Unix("/run/f.sock".into())],
            directory: "/srv/fio".into(),
            tls: "/k".into(),
            devices: vec!["/dev/nvme?n1".to_owned()],
            commands: vec!["echo b > /proc/sysrq-trigger".to_owned()],
            keep_runs: 3,
            client_timeout: Duration::from_secs(120),
            answer_within: Duration::from_secs(5),
            max_runs: 1,
            max_memory_bytes: 3 << 30,
            max_watchers: 0,
            max_connections: 7,
            max_handshakes: 2,
        };
        assert_eq!(settings, expected);
        let silent = parse("").unwrap();
        assert_eq!(silent, Settings::new("/x/server.toml".into()));
        assert_eq!((silent.tls, silent.listen[0].to_string()), ("/x".into(), "127.0.0.1".to_owned()));
        assert!(silent.devices.is_empty() && silent.commands.is_empty());
    }

    #[test]
    fn the_file_that_is_made_says_what_holds_anyhow_and_names_every_setting() {
        let settings = Settings::new("/x/server.toml".into());
        for may_travel in [false, true] {
            let text = template(&settings, may_travel);
            assert_eq!(parse(&text), Ok(settings.clone()));
            for entry in ENTRIES {
                let [told, explained] = ["", "# "].map(|mark| format!("\n{mark}{} = ", entry.name));
                assert!(text.contains(&told) || text.contains(&explained), "{}", entry.name);
            }
        }
        // It may be made on another machine than the server's.
        let moved = Settings::new("/etc/other/server.toml".into());
        assert_eq!(Settings::parse(moved.file.clone(), template(&settings, true)), Ok(moved));
    }

    #[test]
    fn mistakes_are_told_with_line_and_what_would_be_right() {
        for (text, line, why) in [
            ("\nlisten = [\"dut 1\"]", 2, "letters, digits"),
            ("listen = \"dut1\"", 1, "in brackets"),
            ("listen = []", 1, "somewhere"),
            ("listen = [\"unix:fio.sock\"]", 1, "begin with /"),
            ("# x\n\nmax_run = 3", 3, "max_runs"),
            ("command = [\"true\"]", 1, "commands"),
            ("colour = 1", 1, "it has listen, directory"),
            ("max_runs = 0", 1, "1 to 64"),
            ("max_memory = 1000", 1, "64m or more"),
            ("max_memory = \"much\"", 1, "max_memory"),
            ("client_timeout = \"1ms\"", 1, "1s to 1h"),
            ("devices = [1]", 1, "a string"),
            ("devices = [\" \"]", 1, "empty"),
            ("directory = \"runs\"", 1, "begin with /"),
            ("max_runs = 1\nmax_runs = 2", 2, "twice"),
            ("[server]\nmax_runs = 2", 1, "no setting `server`"),
            ("max_runs = ", 1, ""),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
            assert!(told.contains(&format!("/x/server.toml:{line}:")), "{text}: {told}");
            assert!(!told.starts_with("error"), "{told}");
        }
        let both = parse("max_run = 1\nkeep_runs = \"x\"\n").unwrap_err();
        assert!(both.contains("max_run`") && both.contains("\n\nerror: `keep_runs`"), "{both}");
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("server.toml");
        assert!(Settings::load(Some(&file)).unwrap_err().contains("server --init"));
        std::fs::write(&file, "max_runs = 2\n").unwrap();
        let settings = Settings::load(Some(&file)).unwrap();
        assert_eq!((settings.max_runs, settings.tls.as_path()), (2, folder.path()));
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(Settings::load(Some(&file)).unwrap_err().contains("no text"));
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o646)).unwrap();
        assert!(Settings::load(Some(&file)).unwrap_err().contains("anybody may write"));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic_and_every_refusal_says_something(
            text in "\\PC{0,60}",
            cut in 0_usize..2000,
            at in 0_usize..2000,
            put in "[\\[\\]\"'=#\n{}.,a-z0-9_]{0,4}",
        ) {
            let whole = template(&Settings::new("/x/server.toml".into()), false);
            let mut changed: Vec<char> = whole.chars().collect();
            changed.truncate(cut.max(1));
            let at = at.min(changed.len());
            changed.splice(at..at, put.chars());
            for text in [text, changed.into_iter().collect()] {
                if let Err(told) = parse(&text) {
                    prop_assert!(!told.trim().is_empty());
                }
            }
        }
    }
}
