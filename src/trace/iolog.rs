//! fio's text logs, version 2 and 3: a line an I/O.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use super::{Kind, Mark, Name, Raw, Trouble};
use crate::base::Op;

/// First line of version 2.
pub(super) const VERSION_2: &str = "fio version 2 iolog";
/// First line of version 3.
pub(super) const VERSION_3: &str = "fio version 3 iolog";

/// Longest line: a path and some numbers.
const MOST_LINE: u64 = 8192;
/// Files a log may name.
const MOST_NAMES: usize = u16::MAX as usize;
const MICROSECOND_NS: u64 = 1000;

/// A log that is being read.
pub(super) struct TextLog<R> {
    input: R,
    has_times: bool,
    line: Vec<u8>,
    number: u64,
    names: Vec<Name>,
    numbers: HashMap<Vec<u8>, u32>,
    /// The name of the line before: mostly it is the same again.
    last: (Vec<u8>, u32),
    /// Of version 2: the sum of what was waited for.
    waited_ns: u64,
}

/// What a line says, without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said<'a> {
    time_ns: Option<u64>,
    name: &'a [u8],
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Add,
    OpenOrClose,
    Wait(u64),
    Io { op: Op, data_only: bool, offset: u64, len: u64 },
}

impl<R: BufRead> TextLog<R> {
    /// Reads the first line.
    pub(super) fn new(input: R) -> Result<TextLog<R>, Trouble> {
        let mut log = TextLog {
            input,
            has_times: false,
            line: Vec::new(),
            number: 0,
            names: Vec::new(),
            numbers: HashMap::new(),
            last: (Vec::new(), 0),
            waited_ns: 0,
        };
        let is_there = log.read_line()?;
        let first = String::from_utf8_lossy(trimmed(&log.line)).into_owned();
        log.has_times = match first.as_str() {
            VERSION_3 => true,
            VERSION_2 => false,
            _ if !is_there => return Err(log.trouble("the log is empty")),
            _ => {
                return Err(log.trouble(format!(
                    "this is neither a log of fio (its first line is `{VERSION_2}` or `{VERSION_3}`) nor one of blktrace"
                )));
            }
        };
        Ok(log)
    }

    pub(super) fn names(&self) -> &[Name] {
        &self.names
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { file: 0, number: self.number }
    }

    fn place(&self) -> String {
        place_of(self.mark())
    }

    fn trouble(&self, why: impl Into<String>) -> Trouble {
        Trouble { place: Some(self.place()), why: why.into() }
    }

    /// The next line, without its end; false if there is none.
    fn read_line(&mut self) -> Result<bool, Trouble> {
        self.line.clear();
        self.number += 1;
        let read = (&mut self.input).take(MOST_LINE).read_until(b'\n', &mut self.line);
        let count = read.map_err(|error| self.trouble(format!("reading failed: {error}")))?;
        if count as u64 == MOST_LINE && self.line.last() != Some(&b'\n') {
            return Err(self.trouble(format!("the line is longer than {MOST_LINE} bytes")));
        }
        Ok(count > 0)
    }

    /// The next I/O, or what else has a time.
    pub(super) fn next(&mut self) -> Result<Option<Raw>, Trouble> {
        while self.read_line()? {
            let line = std::mem::take(&mut self.line);
            let raw = self.take(trimmed(&line));
            self.line = line;
            if let Some(raw) = raw.map_err(|why| self.trouble(why))? {
                return Ok(Some(raw));
            }
        }
        Ok(None)
    }

    fn take(&mut self, line: &[u8]) -> Result<Option<Raw>, String> {
        if line.is_empty() {
            return Ok(None);
        }
        let said = parse(line, self.has_times)?;
        let raw = |time_ns, name, kind, offset, len| Raw { time_ns, name, kind, offset, len };
        let time_ns = said.time_ns.unwrap_or(self.waited_ns);
        match said.what {
            What::Wait(us) => {
                let ns = us.checked_mul(MICROSECOND_NS).and_then(|ns| self.waited_ns.checked_add(ns));
                self.waited_ns = ns.ok_or("the time is too large")?;
                Ok(None)
            }
            What::Add => {
                self.add(said.name)?;
                Ok(Some(raw(time_ns, 0, Kind::File, 0, 0)))
            }
            What::OpenOrClose => {
                self.find(said.name)?;
                Ok(Some(raw(time_ns, 0, Kind::File, 0, 0)))
            }
            What::Io { op, data_only, offset, len } => {
                let name = self.find(said.name)?;
                let kind = if op == Op::Flush { Kind::Flush { data_only } } else { Kind::Io(op) };
                Ok(Some(raw(time_ns, name, kind, offset, len)))
            }
        }
    }

    fn add(&mut self, name: &[u8]) -> Result<(), String> {
        if self.numbers.contains_key(name) {
            return Ok(());
        }
        let text = std::str::from_utf8(name).map_err(|_| "the name of the file is not UTF-8".to_owned())?;
        if text.contains('\0') {
            return Err("the name of the file holds a zero byte".to_owned());
        }
        if self.names.len() == MOST_NAMES {
            return Err(format!("there are more than {MOST_NAMES} files"));
        }
        self.numbers.insert(name.to_vec(), u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(Name::Path(text.to_owned()));
        Ok(())
    }

    fn find(&mut self, name: &[u8]) -> Result<u32, String> {
        if self.last.0 == name {
            return Ok(self.last.1);
        }
        let Some(&number) = self.numbers.get(name) else {
            let name = String::from_utf8_lossy(name);
            return Err(format!("`{name}` was not added before: a line `{name} add` is missing"));
        };
        self.last.0.clear();
        self.last.0.extend_from_slice(name);
        self.last.1 = number;
        Ok(number)
    }
}

pub(super) fn place_of(mark: Mark) -> String {
    format!("line {}", mark.number)
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.trim_ascii()
}

/// The text before the last word, and that word.
fn last_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_end();
    let start = text.iter().rposition(u8::is_ascii_whitespace).map_or(0, |at| at + 1);
    (text[..start].trim_ascii_end(), &text[start..])
}

fn number(word: &[u8], what: &str) -> Result<u64, String> {
    let shown = || String::from_utf8_lossy(word).into_owned();
    if word.first() == Some(&b'-') {
        return Err(format!("the {what} `{}` is negative", shown()));
    }
    if word.is_empty() {
        return Err(format!("the {what} is missing"));
    }
    let mut value = 0_u64;
    for &byte in word {
        if !byte.is_ascii_digit() {
            return Err(format!("the {what} `{}` is no number", shown()));
        }
        let next = value.checked_mul(10).and_then(|value| value.checked_add(u64::from(byte - b'0')));
        value = next.ok_or_else(|| format!("the {what} `{}` is too large", shown()))?;
    }
    Ok(value)
}

/// Reads from the right, so that names may hold blanks.
fn parse(line: &[u8], has_times: bool) -> Result<Said<'_>, String> {
    if line.starts_with(b"fio version") {
        let why = "a second log begins here: each job, and each of its clones, writes a file of its own";
        return Err(why.to_owned());
    }
    let mut rest = line;
    let mut time_ns = None;
    if has_times {
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let us = number(&line[..end], "time")?;
        time_ns = Some(us.checked_mul(MICROSECOND_NS).ok_or("the time is too large")?);
        rest = line[end..].trim_ascii_start();
    }
    let form = || {
        let time = if has_times { "time " } else { "" };
        format!("expected `{time}file action` or `{time}file action offset length`")
    };
    let (before, word) = last_word(rest);
    let file_action = match word {
        b"add" => Some(What::Add),
        b"open" | b"close" => Some(What::OpenOrClose),
        _ => None,
    };
    if let Some(what) = file_action.filter(|_| !before.is_empty()) {
        return Ok(Said { time_ns, name: before, what });
    }
    let (before, offset) = last_word(before);
    let (name, action) = last_word(before);
    if name.is_empty() {
        return Err(form());
    }
    let (op, data_only) = match action {
        b"read" => (Op::Read, false),
        b"write" => (Op::Write, false),
        b"trim" => (Op::Deallocate, false),
        b"sync" | b"syncfs" => (Op::Flush, false),
        b"datasync" | b"sync_file_range" => (Op::Flush, true),
        b"wait" if has_times => {
            return Err("version 3 has no `wait`: its lines have times".to_owned());
        }
        b"wait" => return Ok(Said { time_ns, name, what: What::Wait(number(offset, "time to wait")?) }),
        other => {
            return Err(format!(
                "`{}` is no action: read, write, trim, sync, datasync{} have offset and length, add, open and close have none",
                String::from_utf8_lossy(other),
                if has_times { "" } else { " and wait" }
            ));
        }
    };
    let (offset, len) = (number(offset, "offset")?, number(word, "length")?);
    Ok(Said { time_ns, name, what: What::Io { op, data_only, offset, len } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Raw>, String> {
        let mut log = TextLog::new(text.as_bytes()).map_err(|trouble| trouble.to_string())?;
        let mut all = Vec::new();
        while let Some(raw) = log.next().map_err(|trouble| trouble.to_string())? {
            if raw.kind != Kind::File {
                all.push(raw);
            }
        }
        Ok(all)
    }

    #[test]
    fn version_3_has_a_time_in_microseconds_on_every_line_and_names_may_hold_blanks() {
        let text = "fio version 3 iolog\n0 /a b add\n1 /a b open\n\n7 /a b read 4096 512\n9 /a b write 0 8\n\
                    11 /a b trim 5 6\n12 /a b sync 8 0\n13 /a b datasync 0 0\n14 /a b close\n";
        let raw = |time_ns, kind, offset, len| Raw { time_ns, name: 0, kind, offset, len };
        let expected = [
            raw(7000, Kind::Io(Op::Read), 4096, 512),
            raw(9000, Kind::Io(Op::Write), 0, 8),
            raw(11000, Kind::Io(Op::Deallocate), 5, 6),
            raw(12000, Kind::Flush { data_only: false }, 8, 0),
            raw(13000, Kind::Flush { data_only: true }, 0, 0),
        ];
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn version_2_waits_for_microseconds_after_the_wait_before() {
        let text = "fio version 2 iolog\n/a add\n/b add\n/a read 0 1\n/a wait 100 0\n/b read 0 2\n/a wait 50 0\n/a read 0 3\n";
        let times: Vec<(u64, u32)> = read(text).unwrap().iter().map(|raw| (raw.time_ns, raw.name)).collect();
        assert_eq!(times, [(0, 0), (100_000, 1), (150_000, 0)]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let v3 = "fio version 3 iolog\n0 /a add\n";
        for (text, line, why) in [
            (String::new(), 1, "empty"),
            ("0, 4096, 512\n".to_owned(), 1, "neither a log of fio"),
            (format!("{v3}5 /b read 0 1\n"), 3, "`/b` was not added"),
            (format!("{v3}5 /a read -4096 1\n"), 3, "offset `-4096` is negative"),
            (format!("{v3}5 /a read 0 1x\n"), 3, "length `1x` is no number"),
            (format!("{v3}5 /a read 99999999999999999999 1\n"), 3, "too large"),
            (format!("{v3}5 /a wait 5 0\n"), 3, "no `wait`"),
            (format!("{v3}5 /a jump 5 0\n"), 3, "`jump` is no action"),
            (format!("{v3}x /a read 5 0\n"), 3, "time `x` is no number"),
            (format!("{v3}5 read 5 0\n"), 3, "expected `time file action`"),
            (format!("{v3}5\n"), 3, "expected"),
            (format!("{v3}{}\n", "x".repeat(9000)), 3, "longer than"),
            (format!("{v3}18446744073709551615 /a read 0 1\n"), 3, "time is too large"),
            (format!("{v3}fio version 3 iolog\n"), 3, "second log"),
            ("fio version 2 iolog\n/a add\nfio version 2 iolog\n".to_owned(), 3, "second log"),
        ] {
            let told = read(&text).unwrap_err();
            assert!(told.starts_with(&format!("line {line}: ")) && told.contains(why), "{text}: {told}");
        }
    }
}
