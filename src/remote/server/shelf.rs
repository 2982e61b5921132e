//! What is kept of runs: `runs/<run>/` under the server's directory.
//!
//! `run.toml` says what the run is, and is written before its process starts; the process puts its
//! snapshot (`run.state`) and at the end its report (`report.pb`, an encoded `Ended`) beside it. A
//! directory without `run.toml`, or not named as a run is, is nothing of ours: it is never touched.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use prost::Message;
use toml::{Table, Value};

use crate::base::host::output_file::{self, Start};
use crate::base::host::printable;
use crate::remote::MOST_MESSAGE_BYTES;
use crate::remote::wire::bench::Ended;

/// The facts of a run, beside its other files.
const FACTS: &str = "run.toml";
/// The encoded `Ended`.
const REPORT: &str = "report.pb";
/// The snapshot.
const STATE: &str = "run.state";
/// `run.toml` is never longer.
const MOST_FACTS_BYTES: u64 = 1 << 20;

/// A process, so that no other with the same number is taken for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// When it began, in the kernel's ticks since the machine started.
    pub began: u64,
    /// Which start of the machine that was.
    pub boot: String,
}

impl Process {
    /// The process of this number as it is now; `None` if there is none.
    #[must_use]
    pub fn of(id: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name in parentheses may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let began = fields.nth(18)?.parse().ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        // Who has ended and is only waited for does nothing any more.
        (!matches!(state, "Z" | "X")).then_some(Process { id, began, boot })
    }

    /// Whether it is still there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        Process::of(self.id).as_ref() == Some(self)
    }
}

/// What a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its id.
    pub run: String,
    /// Who began it.
    pub client: String,
    /// The file that its first job came from.
    pub job_file: String,
    /// Milliseconds since 1970.
    pub started_unix_ms: u64,
    /// The same; 0 if it has not ended.
    pub ended_unix_ms: u64,
    /// What it works on.
    pub targets: Vec<String>,
    /// It goes on without a client.
    pub detached: bool,
    /// How it is, in words.
    pub state: String,
    /// The process that does it.
    pub process: Option<Process>,
}

impl Facts {
    fn to_toml(&self) -> String {
        let number = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let mut table = Table::new();
        let mut text = |key: &str, text: &str| table.insert(key.to_owned(), Value::String(text.to_owned()));
        text("run", &self.run);
        text("client", &self.client);
        text("job_file", &self.job_file);
        text("state", &self.state);
        table.insert("started_unix_ms".to_owned(), number(self.started_unix_ms));
        table.insert("ended_unix_ms".to_owned(), number(self.ended_unix_ms));
        table.insert("detached".to_owned(), Value::Boolean(self.detached));
        let targets = self.targets.iter().cloned().map(Value::String).collect();
        table.insert("targets".to_owned(), Value::Array(targets));
        if let Some(Process { id, began, boot }) = &self.process {
            table.insert("process".to_owned(), number(u64::from(*id)));
            table.insert("process_began".to_owned(), number(*began));
            table.insert("boot".to_owned(), Value::String(boot.clone()));
        }
        table.to_string()
    }

    fn from_toml(text: &str) -> Option<Facts> {
        let table: Table = text.parse().ok()?;
        let text = |key: &str| table.get(key).and_then(Value::as_str).map(printable).unwrap_or_default();
        let number =
            |key: &str| table.get(key).and_then(Value::as_integer).and_then(|it| u64::try_from(it).ok());
        let targets = table.get("targets").and_then(Value::as_array).into_iter().flatten();
        let process = number("process").and_then(|id| {
            Some(Process { id: u32::try_from(id).ok()?, began: number("process_began")?, boot: text("boot") })
        });
        Some(Facts {
            run: text("run"),
            client: text("client"),
            job_file: text("job_file"),
            started_unix_ms: number("started_unix_ms")?,
            ended_unix_ms: number("ended_unix_ms").unwrap_or(0),
            targets: targets.filter_map(Value::as_str).map(printable).collect(),
            detached: table.get("detached").and_then(Value::as_bool).unwrap_or(false),
            state: text("state"),
            process,
        })
    }
}

/// Whether this is a run's id: 32 hexadecimal digits, small.
#[must_use]
pub fn is_run_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The directory with all runs.
#[derive(Clone, Debug)]
pub struct Shelf {
    runs: PathBuf,
}

impl Shelf {
    /// The one in the server's directory; makes it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(directory: &Path) -> io::Result<Shelf> {
        let runs = directory.join("runs");
        if !fs::symlink_metadata(&runs).is_ok_and(|meta| meta.is_dir()) {
            DirBuilder::new().mode(0o700).create(&runs)?;
        }
        Ok(Shelf { runs })
    }

    /// Where a run's files are.
    #[must_use]
    pub fn directory(&self, run: &str) -> PathBuf {
        self.runs.join(run)
    }

    /// Makes the directory of a new run.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make(&self, facts: &Facts) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(self.directory(&facts.run))?;
        self.write_facts(facts)
    }

    /// Writes what a run is.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_facts(&self, facts: &Facts) -> io::Result<()> {
        write_whole(&self.directory(&facts.run), FACTS, facts.to_toml().as_bytes())
    }

    /// Keeps how a run ended, unless its process has done so.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_end(&self, run: &str, ended: &Ended) -> io::Result<()> {
        if self.directory(run).join(REPORT).exists() {
            return Ok(());
        }
        write_whole(&self.directory(run), REPORT, &ended.encode_to_vec())
    }

    /// How a run ended; `None` if nothing is kept of that.
    #[must_use]
    pub fn end(&self, run: &str) -> Option<Ended> {
        let bytes = read_at_most(&self.directory(run).join(REPORT), MOST_MESSAGE_BYTES as u64)?;
        Ended::decode(bytes.as_slice()).ok()
    }

    /// When a run's end was kept, in milliseconds since 1970.
    #[must_use]
    pub fn end_unix_ms(&self, run: &str) -> Option<u64> {
        let times = [REPORT, STATE, FACTS].into_iter().filter_map(|name| {
            let changed = fs::metadata(self.directory(run).join(name)).ok()?.modified().ok()?;
            let since = changed.duration_since(std::time::UNIX_EPOCH).ok()?;
            u64::try_from(since.as_millis()).ok()
        });
        times.max()
    }

    /// A run's snapshot, if there is one that a message can hold.
    #[must_use]
    pub fn snapshot(&self, run: &str) -> Option<Vec<u8>> {
        read_at_most(&self.directory(run).join(STATE), MOST_MESSAGE_BYTES as u64 - 1024)
    }

    /// Whether a run left a snapshot.
    #[must_use]
    pub fn has_snapshot(&self, run: &str) -> bool {
        self.directory(run).join(STATE).is_file()
    }

    /// All runs of which something is kept, in any order.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn all(&self) -> io::Result<Vec<Facts>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.runs)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| is_run_id(name)) else { continue };
            // Not through links: what they lead to is not ours.
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let facts = read_at_most(&entry.path().join(FACTS), MOST_FACTS_BYTES)
                .and_then(|bytes| Facts::from_toml(&String::from_utf8_lossy(&bytes)));
            all.extend(facts.filter(|facts| facts.run == name));
        }
        Ok(all)
    }

    /// Removes a run's files.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self, run: &str) -> io::Result<()> {
        if !is_run_id(run) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        fs::remove_dir_all(self.directory(run))
    }
}

/// Puts a file in place: whole or not at all.
fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = directory.join(format!("{name}.new"));
    let mut file = output_file::open(&beside, Start::Empty)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, directory.join(name))?;
    File::open(directory)?.sync_all()
}

/// A file's contents; `None` if it is not there, cannot be read, is no regular file or is too long.
fn read_at_most(path: &Path, most: u64) -> Option<Vec<u8>> {
    if !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= most) {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(most + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= most).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(run: &str) -> Facts {
        Facts {
            run: run.to_owned(),
            client: "lab \"1\"".to_owned(),
            job_file: "jobs/a.toml".to_owned(),
            started_unix_ms: 5,
            ended_unix_ms: 7,
            targets: vec!["/dev/nvme0n1".to_owned(), "a = \"b\"\n[c]".to_owned()],
            detached: true,
            state: "ended well".to_owned(),
            process: Process::of(std::process::id()),
        }
    }

    #[test]
    fn what_is_put_on_the_shelf_is_found_again_and_nothing_else_is() {
        let place = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(place.path()).unwrap();
        let (one, other) = ("0123456789abcdef0123456789abcdef", "f".repeat(32));
        shelf.make(&facts(one)).unwrap();
        let mut found = shelf.all().unwrap();
        assert_eq!(found.len(), 1);
        let mut expected = facts(one);
        expected.targets[1] = printable(&expected.targets[1]);
        assert_eq!(found.remove(0), expected);
        // Others' files, links, names that are none, facts that are damaged or of another run.
        fs::create_dir(shelf.directory("mine")).unwrap();
        fs::create_dir(shelf.directory(&"e".repeat(32))).unwrap();
        std::os::unix::fs::symlink(shelf.directory(one), shelf.directory(&other)).unwrap();
        fs::create_dir(shelf.directory(&"d".repeat(32))).unwrap();
        fs::write(shelf.directory(&"d".repeat(32)).join(FACTS), "run = ").unwrap();
        fs::create_dir(shelf.directory(&"c".repeat(32))).unwrap();
        fs::write(shelf.directory(&"c".repeat(32)).join(FACTS), facts(one).to_toml()).unwrap();
        assert_eq!(shelf.all().unwrap().len(), 1);
        assert!(shelf.remove("../runs").is_err() && shelf.remove("mine").is_err());
        shelf.remove(one).unwrap();
        assert!(shelf.all().unwrap().is_empty() && shelf.directory("mine").exists());
    }

    #[test]
    fn a_report_that_is_there_is_not_written_over() {
        let place = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(place.path()).unwrap();
        let run = "0".repeat(32);
        shelf.make(&facts(&run)).unwrap();
        assert_eq!((shelf.end(&run), shelf.snapshot(&run)), (None, None));
        let failure = |message: &str| Ended {
            failure: Some(crate::remote::wire::bench::Failure { kind: 1, message: message.to_owned() }),
            ..Ended::default()
        };
        shelf.write_end(&run, &failure("first")).unwrap();
        shelf.write_end(&run, &failure("second")).unwrap();
        assert_eq!(shelf.end(&run), Some(failure("first")));
    }

    #[test]
    fn a_process_is_not_taken_for_another_of_its_number() {
        let own = Process::of(std::process::id()).unwrap();
        assert!(own.is_there());
        assert!(!Process { began: own.began + 1, ..own.clone() }.is_there());
        assert!(!Process { boot: String::new(), ..own }.is_there());
    }
}
