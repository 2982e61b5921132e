//! A look through a whole log before anything starts.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Mark, Name, Reader, Trouble};
use crate::base::random;
use crate::base::replay::{Logged, ReplayRules};
use crate::base::verify::gcd;
use crate::base::{Op, PerOp};

/// Different lengths of writes and trims that are counted one by one.
const MOST_LENGTHS: usize = 4096;

/// How far a log reaches on one of the things that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// What it is.
    pub name: Name,
    /// Whether anything is done there.
    pub touched: bool,
    /// The end of what reaches the farthest, in bytes.
    pub end: u64,
    /// Where in the log that stands.
    pub farthest: String,
}

/// The I/Os of one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpScan {
    /// How many.
    pub ios: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The longest.
    pub longest: u32,
    /// What divides all offsets and lengths; 0 if there are none.
    pub divisor: u64,
    /// Where the I/O stands for which the divisor last became smaller.
    pub narrowed: String,
}

/// What a log holds, by the rules of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// What it names, in the order in which it appears.
    pub extents: Vec<Extent>,
    /// Its I/Os.
    pub ops: PerOp<OpScan>,
    /// Flushes.
    pub flushes: u64,
    /// The lengths of writes and trims, each once, rising; `None` if there are too many.
    pub lengths: Option<Vec<u32>>,
    /// When the last I/O is due.
    pub last_due_ns: u64,
    /// A sum over all writes and trims: two logs with the same one change a target alike.
    pub sum: u64,
}

/// Looks through the log at `path`.
///
/// # Errors
/// The first mistake, with its place.
pub fn scan(path: &Path, rules: &ReplayRules) -> Result<Scan, Trouble> {
    scan_reader(Reader::open(path, rules)?)
}

/// The same with a log that is open.
pub(super) fn scan_reader(mut reader: Reader) -> Result<Scan, Trouble> {
    let mut scan = Scan {
        extents: Vec::new(),
        ops: PerOp::default(),
        flushes: 0,
        lengths: None,
        last_due_ns: 0,
        sum: 0,
    };
    let mut lengths = BTreeSet::new();
    let (mut farthest, mut narrowed) = (Vec::new(), PerOp::<Mark>::default());
    while let Some(io) = reader.next_io()? {
        scan.last_due_ns = io.due_ns;
        scan.reach(&reader, &io, &mut farthest);
        if io.op == Op::Flush {
            scan.flushes += 1;
            continue;
        }
        let op = scan.ops.get_mut(io.op);
        op.ios += 1;
        op.bytes = op.bytes.saturating_add(u64::from(io.len));
        op.longest = op.longest.max(io.len);
        let divisor = gcd(gcd(op.divisor, u64::from(io.len)), io.offset);
        if divisor != op.divisor {
            op.divisor = divisor;
            *narrowed.get_mut(io.op) = reader.mark();
        }
        if io.op.modifies() {
            if lengths.len() <= MOST_LENGTHS {
                lengths.insert(io.len);
            }
            scan.sum = summed(scan.sum, &io);
        }
    }
    for (extent, mark) in scan.extents.iter_mut().zip(farthest).filter(|(extent, _)| extent.end > 0) {
        extent.farthest = reader.place_of(mark);
    }
    for (op, of) in scan.ops.iter_mut().filter(|(_, of)| of.ios > 0) {
        of.narrowed = reader.place_of(*narrowed.get(op));
    }
    scan.lengths = (lengths.len() <= MOST_LENGTHS).then(|| lengths.into_iter().collect());
    Ok(scan)
}

fn summed(sum: u64, io: &Logged) -> u64 {
    let what = u64::from(io.len) << 17 | u64::from(io.target) << 1 | u64::from(io.op == Op::Write);
    random::derive(sum ^ random::derive(io.offset, what), what)
}

impl Scan {
    fn reach(&mut self, reader: &Reader, io: &Logged, marks: &mut Vec<Mark>) {
        for name in &reader.names()[self.extents.len()..] {
            let (name, farthest) = (name.clone(), String::new());
            self.extents.push(Extent { name, touched: false, end: 0, farthest });
            marks.push(Mark::default());
        }
        let extent = &mut self.extents[usize::from(io.target)];
        extent.touched = true;
        let end = io.offset + u64::from(io.len);
        if end > extent.end {
            extent.end = end;
            marks[usize::from(io.target)] = reader.mark();
        }
    }

    /// Whether there is anything to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flushes == 0 && self.ops.iter().all(|(_, op)| op.ios == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_through_tells_what_is_touched_how_far_and_what_divides_it() {
        let text = "fio version 3 iolog\n0 /unused add\n0 /a add\n0 /b add\n0 /a read 4096 8192\n5 /a write 1536 512\n\
                    6 /a write 0 4096\n7 /b sync 0 0\n9 /a read 0 512\n";
        let reader = Reader::of_bytes(text.as_bytes().to_vec(), &ReplayRules::default()).unwrap();
        let scan = scan_reader(reader).unwrap();
        let extents: Vec<_> = scan
            .extents
            .iter()
            .map(|e| (e.name.to_string(), e.touched, e.end, e.farthest.as_str()))
            .collect();
        let extent = |name: &str, touched, end, at| (name.to_owned(), touched, end, at);
        let expected =
            [extent("/unused", false, 0, ""), extent("/a", true, 12288, "line 5"), extent("/b", true, 0, "")];
        assert_eq!(extents, expected);
        let (read, write) = (&scan.ops.read, &scan.ops.write);
        assert_eq!((read.ios, read.bytes, read.longest, read.divisor), (2, 8704, 8192, 512));
        assert_eq!((write.ios, write.divisor, write.narrowed.as_str()), (2, 512, "line 6"));
        assert_eq!((scan.flushes, scan.last_due_ns, scan.lengths), (1, 9000, Some(vec![512, 4096])));
    }
}
