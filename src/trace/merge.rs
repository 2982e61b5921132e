//! Several blktraces made one (fio: `merge_blktrace_file`).

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::base::host::output_file::{self, Start};

use super::blktrace::{Event, EventFile, Merged, recognise};
use super::files_of;

/// One of the traces.
#[derive(Clone, Debug, PartialEq)]
pub struct MergePart {
    /// Its file.
    pub path: PathBuf,
    /// Percent of its times: 50 makes it twice as fast.
    pub scalar: f64,
    /// How often it comes, one after the other.
    pub iterations: u32,
}

struct Cursor<'a> {
    part: &'a MergePart,
    events: Merged<BufReader<File>>,
    /// The time of its first event, and of its last one from there.
    begun_ns: Option<u64>,
    length_ns: u64,
    iteration: u32,
    next: Option<Event>,
}

/// Writes what `parts` hold into one file, by time, and gives the number of its events.
///
/// # Errors
/// If one of them is no blktrace, or cannot be read, or the file cannot be written: a sentence.
pub fn merge(parts: &[MergePart], into: &Path) -> Result<u64, String> {
    let mut cursors = parts.iter().map(Cursor::new).collect::<Result<Vec<_>, String>>()?;
    let cannot = |error: std::io::Error| format!("cannot write {}: {error}", into.display());
    let mut out = BufWriter::new(output_file::open(into, Start::Empty).map_err(cannot)?);
    let mut count = 0;
    loop {
        let earliest =
            cursors.iter().enumerate().filter_map(|(at, cursor)| Some((cursor.next?.time_ns, at))).min();
        let Some((_, at)) = earliest else { break };
        if let Some(event) = cursors[at].next {
            out.write_all(&event.encode()).map_err(cannot)?;
            count += 1;
        }
        cursors[at].forward()?;
    }
    out.flush().map_err(cannot)?;
    Ok(count)
}

impl Cursor<'_> {
    fn new(part: &MergePart) -> Result<Cursor<'_>, String> {
        let events = open(part)?;
        let mut cursor = Cursor { part, events, begun_ns: None, length_ns: 0, iteration: 0, next: None };
        cursor.forward()?;
        Ok(cursor)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times are positive")]
    #[expect(clippy::cast_precision_loss, reason = "a scale of a time need not be exact")]
    fn forward(&mut self) -> Result<(), String> {
        loop {
            let event = self.events.next().map_err(|why| format!("{}: {why}", self.part.path.display()))?;
            let Some(event) = event else {
                self.iteration += 1;
                if self.iteration >= self.part.iterations || self.begun_ns.is_none() {
                    self.next = None;
                    return Ok(());
                }
                self.events = open(self.part)?;
                continue;
            };
            let begun_ns = *self.begun_ns.get_or_insert(event.time_ns);
            let passed = event.time_ns.saturating_sub(begun_ns);
            if self.iteration == 0 {
                self.length_ns = self.length_ns.max(passed);
            }
            let at = passed.saturating_add(self.length_ns.saturating_mul(u64::from(self.iteration)));
            let scaled = (at as f64 * self.part.scalar / 100.0).round() as u64;
            self.next = Some(Event { time_ns: scaled, attached: 0, ..event });
            return Ok(());
        }
    }
}

fn open(part: &MergePart) -> Result<Merged<BufReader<File>>, String> {
    let shown = part.path.display();
    let files = files_of(&part.path).map_err(|why| format!("{shown}: {why}"))?;
    let mut opened = Vec::new();
    let alone = files.len() == 1;
    for path in files {
        let cannot = |error: std::io::Error| format!("{}: cannot read it: {error}", path.display());
        let head = {
            use std::io::Read;
            let mut head = Vec::new();
            File::open(&path).map_err(cannot)?.take(4).read_to_end(&mut head).map_err(cannot)?;
            head
        };
        let big = recognise(&head);
        if big.is_none() && alone {
            return Err(format!("{shown}: this is no log of blktrace, and only those can be merged"));
        }
        let name = if alone { String::new() } else { path.display().to_string() };
        let file = BufReader::new(File::open(&path).map_err(cannot)?);
        opened.push(EventFile::new(file, name, big.unwrap_or(false)));
    }
    Ok(Merged::new(opened))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_scaled_rounds_follow_each_other_and_the_earliest_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let event = |time_ns: u64, sector: u64| Event {
            sequence: 0,
            time_ns,
            sector,
            bytes: 512,
            action: 1 | 1 << 16,
            pid: 0,
            device: 0,
            cpu: 0,
            error: 0,
            attached: 0,
        };
        let file = |name: &str, events: &[Event]| {
            let path = folder.path().join(name);
            std::fs::write(&path, events.iter().flat_map(Event::encode).collect::<Vec<u8>>()).unwrap();
            path
        };
        let one = file("one", &[event(1000, 1), event(1100, 2)]);
        let two = file("two", &[event(0, 10), event(60, 11)]);
        let into = folder.path().join("merged");
        let parts = [
            MergePart { path: one, scalar: 50.0, iterations: 2 },
            MergePart { path: two, scalar: 100.0, iterations: 1 },
        ];
        assert_eq!(merge(&parts, &into), Ok(6));
        let file = BufReader::new(File::open(&into).unwrap());
        let mut merged = EventFile::new(file, String::new(), false);
        let next = || merged.next().unwrap().map(|event| (event.time_ns, event.sector));
        let seen: Vec<(u64, u64)> = std::iter::from_fn(next).collect();
        assert_eq!(seen, [(0, 1), (0, 10), (50, 2), (50, 1), (60, 11), (100, 2)]);
    }
}
