//! Writing fio's log, version 3.

use std::io::{self, Write};

use super::iolog::VERSION_3;
use crate::base::Op;
use crate::base::replay::Recorded;

/// Writes a log line by line.
#[derive(Debug)]
pub struct LogWriter<W> {
    out: W,
    names: Vec<String>,
    last_us: u64,
}

impl<W: Write> LogWriter<W> {
    /// Begins a log of what is issued to `names`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn new(mut out: W, names: Vec<String>) -> io::Result<LogWriter<W>> {
        writeln!(out, "{VERSION_3}")?;
        for action in ["add", "open"] {
            for name in &names {
                writeln!(out, "0 {name} {action}")?;
            }
        }
        Ok(LogWriter { out, names, last_us: 0 })
    }

    /// Adds an I/O.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record(&mut self, io: &Recorded) -> io::Result<()> {
        let action = match (io.op, io.data_only) {
            (Op::Flush, true) => "datasync",
            (op, _) => op.name(),
        };
        self.last_us = io.time_ns / 1000;
        let name = self.names.get(usize::from(io.target)).map_or("?", String::as_str);
        writeln!(self.out, "{} {name} {action} {} {}", self.last_us, io.offset, io.len)
    }

    /// Ends the log.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn close(mut self) -> io::Result<()> {
        for name in &self.names {
            writeln!(self.out, "{} {name} close", self.last_us)?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;
    use crate::base::replay::ReplayRules;

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Vec::new();
        let mut log = LogWriter::new(&mut out, vec!["/a b".to_owned(), "/c".to_owned()]).unwrap();
        let io = |time_ns, op, offset, len, target, data_only| Recorded {
            time_ns,
            op,
            offset,
            len,
            target,
            data_only,
        };
        let all = [
            io(1000, Op::Write, 0, 512, 0, false),
            io(5000, Op::Read, 1 << 40, 4096, 1, false),
            io(5000, Op::Flush, 0, 0, 1, true),
            io(9000, Op::Deallocate, 8, 8, 0, false),
            io(10000, Op::Flush, 0, 0, 0, false),
        ];
        all.iter().for_each(|io| log.record(io).unwrap());
        log.close().unwrap();
        let mut reader = Reader::of_bytes(out, &ReplayRules::default()).unwrap();
        for expected in all {
            let io = reader.next_io().unwrap().unwrap();
            let read = Recorded {
                time_ns: io.due_ns,
                op: io.op,
                offset: io.offset,
                len: io.len,
                target: io.target,
                data_only: io.data_only,
            };
            assert_eq!(read, expected);
        }
        assert_eq!(reader.next_io(), Ok(None));
    }
}
