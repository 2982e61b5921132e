//! Logs of I/Os: fio's text logs (version 2 and 3) and blktrace's binary ones. Reads them from the
//! beginning to the end, however long they are, and writes fio's version 3.
//!
//! A log is looked through once before anything starts ([`Scan`]): what it names, how far it reaches,
//! every mistake. Then a thread reads it ahead of the worker ([`LogFile`]). What leaves here are plain
//! records ([`Logged`]); nobody else knows formats.

mod blktrace;
mod iolog;
mod merge;
mod scan;
mod stream;
mod write;

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::base::Op;
use crate::base::replay::{Logged, ReplayRules};

use blktrace::{BlockLog, EventFile, Merged};
use iolog::TextLog;
pub use merge::{MergePart, merge};
pub use scan::{Extent, OpScan, Scan, scan};
pub use stream::LogFile;
pub use write::LogWriter;

/// Longest read or write: what `bs` may be at most.
const MOST_LEN: u64 = 1 << 30;
/// Behind here nothing has an address.
const MOST_END: u64 = i64::MAX as u64;
const READ_AHEAD: usize = 256 << 10;

/// What a log names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A file, as the log spells it.
    Path(String),
    /// A block device of the machine that was traced.
    Device {
        /// Its driver there.
        major: u32,
        /// Which of the driver's.
        minor: u32,
    },
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Path(path) => out.write_str(path),
            Name::Device { major, minor } => write!(out, "{major}:{minor}"),
        }
    }
}

/// What is wrong with a log, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    place: Option<String>,
    why: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(out, "{place}: ")?;
        }
        out.write_str(&self.why)
    }
}

impl std::error::Error for Trouble {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A file is added, opened or closed.
    File,
    Io(Op),
    Flush {
        data_only: bool,
    },
}

/// What stands in a log, before any rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Raw {
    time_ns: u64,
    /// In the order in which names appear.
    name: u32,
    kind: Kind,
    offset: u64,
    len: u64,
}

/// A place in a log: a line, or an event of one of its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    file: usize,
    number: u64,
}

type Input = BufReader<Box<dyn Read + Send>>;

enum Format {
    Text(TextLog<Input>),
    Block(BlockLog<Input>),
}

/// A log that is being read by the rules of a job.
pub struct Reader {
    format: Format,
    rules: ReplayRules,
    begun_ns: Option<u64>,
    due_ns: u64,
    /// How many of each command there were.
    counts: [u64; 4],
}

/// The files that `path` stands for: itself, or the files of all CPUs that blktrace has left.
///
/// # Errors
/// If it is no file that can be read twice: a sentence.
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>, String> {
    if path.as_os_str() == "-" {
        return Err("a log is read twice, which standard input cannot be: put it into a file".to_owned());
    }
    let name = path.to_string_lossy();
    let mut of_cpus = name.rsplit_once(".blktrace.").filter(|(_, cpu)| cpu.parse::<u32>().is_ok());
    let numbered = |stem: &str, cpu: u32| PathBuf::from(format!("{stem}.blktrace.{cpu}"));
    if !path.exists() && numbered(&name, 0).exists() {
        of_cpus = Some((&name, "0"));
    }
    let Some((stem, _)) = of_cpus else {
        let metadata = std::fs::metadata(path).map_err(|error| format!("cannot read it: {error}"))?;
        if !metadata.is_file() {
            return Err("it is no regular file, and a log is read twice".to_owned());
        }
        return Ok(vec![path.to_owned()]);
    };
    // Some CPUs may be offline: numbers may be missing.
    let all = (0..4096).map(|cpu| numbered(stem, cpu)).filter(|path| path.is_file());
    Ok(all.collect())
}

impl Reader {
    /// Opens a log; which kind it is shows in its first bytes.
    ///
    /// # Errors
    /// A sentence, with the place in the log.
    pub fn open(path: &Path, rules: &ReplayRules) -> Result<Reader, Trouble> {
        let plain = |why: String| Trouble { place: None, why };
        let files = files_of(path).map_err(plain)?;
        let open = |path: &PathBuf| -> Result<(Vec<u8>, File), Trouble> {
            let cannot = |error: std::io::Error| plain(format!("cannot read {}: {error}", path.display()));
            let mut file = File::open(path).map_err(cannot)?;
            let mut head = Vec::new();
            (&mut file).take(4).read_to_end(&mut head).map_err(cannot)?;
            Ok((head, file))
        };
        let opened = files.iter().map(open).collect::<Result<Vec<_>, Trouble>>()?;
        let names = files.iter().map(|file| match files.len() {
            1 => String::new(),
            _ => file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        });
        let inputs = opened.into_iter().map(|(head, file)| {
            let big = blktrace::recognise(&head);
            let input: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(head).chain(file));
            (big, input)
        });
        Reader::new(inputs.zip(names).map(|((big, input), name)| (big, input, name)).collect(), rules)
    }

    /// The same of bytes in memory.
    ///
    /// # Errors
    /// A sentence, with the place in the log.
    pub fn of_bytes(bytes: Vec<u8>, rules: &ReplayRules) -> Result<Reader, Trouble> {
        let big = blktrace::recognise(&bytes);
        Reader::new(vec![(big, Box::new(std::io::Cursor::new(bytes)), String::new())], rules)
    }

    fn new(
        inputs: Vec<(Option<bool>, Box<dyn Read + Send>, String)>,
        rules: &ReplayRules,
    ) -> Result<Reader, Trouble> {
        let several = inputs.len() > 1;
        let is_text = !several && inputs.first().is_some_and(|(big, ..)| big.is_none());
        let buffered = |input| BufReader::with_capacity(READ_AHEAD, input);
        let format = if is_text {
            let mut inputs = inputs;
            let Some((_, input, _)) = inputs.pop() else { unreachable!("one was there") };
            Format::Text(TextLog::new(buffered(input))?)
        } else {
            // The file of a CPU on which nothing happened is empty.
            let files = inputs
                .into_iter()
                .map(|(big, input, name)| EventFile::new(buffered(input), name, big.unwrap_or(false)));
            Format::Block(BlockLog::new(Merged::new(files.collect())))
        };
        Ok(Reader { format, rules: rules.clone(), begun_ns: None, due_ns: 0, counts: [0; 4] })
    }

    /// What was named so far, in the order in which it appeared.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        match &self.format {
            Format::Text(log) => log.names(),
            Format::Block(log) => log.names(),
        }
    }

    /// Where the I/O read last stands.
    #[must_use]
    pub fn place(&self) -> String {
        self.place_of(self.mark())
    }

    /// The same as a number, which takes no time.
    fn mark(&self) -> Mark {
        match &self.format {
            Format::Text(log) => log.mark(),
            Format::Block(log) => log.mark(),
        }
    }

    fn place_of(&self, mark: Mark) -> String {
        match &self.format {
            Format::Text(_) => iolog::place_of(mark),
            Format::Block(log) => log.place_of(mark),
        }
    }

    /// The next I/O that is not skipped; its `target` is the number of its name.
    ///
    /// # Errors
    /// A sentence, with the place in the log.
    pub fn next_io(&mut self) -> Result<Option<Logged>, Trouble> {
        loop {
            let (raw, is_block) = match &mut self.format {
                Format::Text(log) => (log.next()?, false),
                Format::Block(log) => (log.next()?, true),
            };
            let Some(raw) = raw else { return Ok(None) };
            let due_ns = self.due(raw.time_ns);
            let (op, data_only) = match raw.kind {
                Kind::File => continue,
                Kind::Io(op) => (op, false),
                Kind::Flush { data_only } => (Op::Flush, data_only),
            };
            if self.rules.skip.skips(op) {
                continue;
            }
            let (offset, len) =
                self.range(&raw, op, is_block).map_err(|why| Trouble { place: Some(self.place()), why })?;
            let count = &mut self.counts[op as usize];
            *count += 1;
            let target = u16::try_from(raw.name).unwrap_or(u16::MAX);
            return Ok(Some(Logged { due_ns, offset, sequence: *count - 1, len, target, op, data_only }));
        }
    }

    /// When what stands at `time_ns` of the log is due. Lines of several threads may be a little out of
    /// order: nothing is due before what stands above it.
    fn due(&mut self, time_ns: u64) -> u64 {
        let begun_ns = *self.begun_ns.get_or_insert(time_ns);
        if !self.rules.no_stall {
            let passed = u128::from(time_ns.saturating_sub(begun_ns));
            let scaled = passed * 100 / u128::from(self.rules.time_scale.max(1));
            self.due_ns = self.due_ns.max(u64::try_from(scaled).unwrap_or(u64::MAX));
        }
        self.due_ns
    }

    fn range(&self, raw: &Raw, op: Op, is_block: bool) -> Result<(u64, u32), String> {
        if op == Op::Flush {
            return Ok((0, 0));
        }
        let align = u64::from(self.rules.align);
        let mut len = raw.len;
        if is_block && align > 0 {
            len = len.next_multiple_of(align);
        }
        if len == 0 {
            return Err(format!("a {} of no bytes", op.name()));
        }
        let most = if op == Op::Deallocate { u64::from(u32::MAX) } else { MOST_LEN };
        if len > most {
            return Err(format!("a {} of {len} bytes is too long: {most} are the most", op.name()));
        }
        let mut offset = raw.offset / u64::from(self.rules.scale.max(1));
        if align > 0 {
            offset &= !(align - 1);
        }
        if offset.checked_add(len).is_none_or(|end| end > MOST_END) {
            return Err(format!("offset {offset} with length {len} ends beyond 2^63"));
        }
        Ok((offset, u32::try_from(len).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::replay::ReplaySkip;

    const LOG: &str = "fio version 3 iolog\n1000 /a add\n1000 /a open\n1010 /a read 5000 512\n1005 /a write 8192 100\n\
                       1030 /a sync 0 0\n1040 /a trim 4096 4096\n1050 /a write 12289 4096\n";

    fn replayed(rules: ReplayRules) -> Vec<(u64, Op, u64, u32, u64)> {
        let mut reader = Reader::of_bytes(LOG.as_bytes().to_vec(), &rules).unwrap();
        let next =
            || reader.next_io().unwrap().map(|io| (io.due_ns / 1000, io.op, io.offset, io.len, io.sequence));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn times_count_from_the_first_line_and_never_fall() {
        let seen = replayed(ReplayRules::default());
        let expected = [
            (10, Op::Read, 5000, 512, 0),
            (10, Op::Write, 8192, 100, 0),
            (30, Op::Flush, 0, 0, 0),
            (40, Op::Deallocate, 4096, 4096, 0),
            (50, Op::Write, 12289, 4096, 1),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn times_are_scaled_or_left_out() {
        let due = |rules| replayed(rules).iter().map(|io| io.0).collect::<Vec<u64>>();
        assert_eq!(due(ReplayRules { time_scale: 200, ..ReplayRules::default() }), [5, 5, 15, 20, 25]);
        assert_eq!(due(ReplayRules { time_scale: 50, ..ReplayRules::default() }), [20, 20, 60, 80, 100]);
        assert_eq!(due(ReplayRules { no_stall: true, ..ReplayRules::default() }), [0; 5]);
    }

    #[test]
    fn offsets_are_divided_then_rounded_down_and_lengths_stay() {
        let seen = replayed(ReplayRules { scale: 2, align: 512, ..ReplayRules::default() });
        let ranges: Vec<(u64, u32)> = seen.iter().map(|io| (io.2, io.3)).collect();
        assert_eq!(ranges, [(2048, 512), (4096, 100), (0, 0), (2048, 4096), (6144, 4096)]);
    }

    #[test]
    fn what_is_skipped_does_not_count() {
        let skip = ReplaySkip { write: true, sync: true, ..ReplaySkip::default() };
        let ops: Vec<Op> =
            replayed(ReplayRules { skip, ..ReplayRules::default() }).iter().map(|io| io.1).collect();
        assert_eq!(ops, [Op::Read, Op::Deallocate]);
    }

    #[test]
    fn lengths_and_places_that_cannot_be_are_refused_with_their_line() {
        for (line, why) in [
            ("0 /a read 0 0", "line 3: a read of no bytes"),
            ("0 /a write 0 1073741825", "line 3: a write of 1073741825 bytes is too long"),
            ("0 /a trim 0 4294967296", "line 3: a trim of 4294967296 bytes is too long"),
            ("0 /a read 9223372036854775807 1", "line 3: offset 9223372036854775807 with length 1 ends"),
            ("0 /a read 18446744073709551615 4096", "line 3: offset 18446744073709551615 with"),
        ] {
            let text = format!("fio version 3 iolog\n0 /a add\n{line}\n");
            let mut reader = Reader::of_bytes(text.into_bytes(), &ReplayRules::default()).unwrap();
            let told = reader.next_io().unwrap_err().to_string();
            assert!(told.starts_with(why), "{told}");
        }
    }
}
