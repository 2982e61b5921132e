//! The mutations of a log, read once more from its beginning: the log is its own history, and takes no
//! memory.

use crate::base::Op;
use crate::base::replay::{Log, LogStream, Next};

use super::{Ahead, Issued};

/// The first writes and trims of a log, as many as were issued.
#[derive(Debug)]
pub(super) struct LoggedSteps {
    /// `None` when all were seen.
    stream: Option<LogStream>,
    path: String,
    left: Issued,
}

/// Of one that is read only the end can be had twice: who clones a history has gone through it.
impl Clone for LoggedSteps {
    fn clone(&self) -> LoggedSteps {
        LoggedSteps { stream: None, path: self.path.clone(), left: Issued::default() }
    }
}

impl LoggedSteps {
    pub(super) fn open(log: &Log, issued: Issued) -> Result<LoggedSteps, String> {
        Ok(LoggedSteps {
            stream: Some(log.source.open()?),
            path: log.path.display().to_string(),
            left: issued,
        })
    }

    pub(super) fn look(&mut self) -> Ahead {
        loop {
            if self.left == Issued::default() {
                self.stream = None;
            }
            let Some(stream) = &mut self.stream else { return Ahead::End };
            let io = match stream.peek() {
                Next::Io(io) => io,
                Next::Later => return Ahead::Later,
                Next::Failed(why) => return self.failed(why),
                Next::End => {
                    let why = format!("the log {} is shorter than it was when it was replayed", self.path);
                    return self.failed(why);
                }
            };
            stream.advance();
            let left = match io.op {
                Op::Write => &mut self.left.writes,
                Op::Deallocate => &mut self.left.trims,
                Op::Read | Op::Flush => continue,
            };
            // They are issued in this order: of a kind of which none is left, none was.
            let Some(rest) = left.checked_sub(1) else { continue };
            *left = rest;
            return Ahead::Step((&io).into());
        }
    }

    fn failed(&mut self, why: String) -> Ahead {
        self.stream = None;
        Ahead::Failed(why)
    }
}
