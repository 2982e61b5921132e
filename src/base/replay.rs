//! Logs of I/Os between those who read and write them and those who issue: fixed records in chunks
//! that go round and round, so that nothing is allocated and nobody waits once it runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::Op;

/// Records a chunk.
pub const CHUNK: usize = 4096;
/// Chunks between a reader and a worker, or a worker and a writer: half a second at a hundred thousand
/// I/Os a second.
pub const CHUNKS: usize = 12;

/// What is to be done with what stands in a log. fio: `replay_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRules {
    /// `replay_no_stall`: times are not kept.
    pub no_stall: bool,
    /// `replay_time_scale`: percent of the speed of the log.
    pub time_scale: u32,
    /// `replay_redirect`: the one target of all I/Os.
    pub redirect: Option<String>,
    /// `replay_align`: offsets are rounded down to this power of two; 0 for as they are.
    pub align: u32,
    /// `replay_scale`: offsets are divided by this.
    pub scale: u32,
    /// `replay_skip`: what is left out.
    pub skip: ReplaySkip,
}

/// Which commands of a log are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplaySkip {
    /// Reads.
    pub read: bool,
    /// Writes.
    pub write: bool,
    /// Trims.
    pub trim: bool,
    /// Flushes of either kind.
    pub sync: bool,
}

impl ReplaySkip {
    /// Whether `op` is left out.
    #[must_use]
    pub const fn skips(self, op: Op) -> bool {
        match op {
            Op::Read => self.read,
            Op::Write => self.write,
            Op::Deallocate => self.trim,
            Op::Flush => self.sync,
        }
    }
}

impl Default for ReplayRules {
    fn default() -> ReplayRules {
        ReplayRules {
            no_stall: false,
            time_scale: 100,
            redirect: None,
            align: 0,
            scale: 1,
            skip: ReplaySkip::default(),
        }
    }
}

/// One I/O of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// When it is due, in nanoseconds from the start; never falls.
    pub due_ns: u64,
    /// Byte offset on the target; 0 for a flush.
    pub offset: u64,
    /// Which read (write, trim, flush) of the log this is, from 0.
    pub sequence: u64,
    /// Length in bytes; 0 for a flush.
    pub len: u32,
    /// Which of the job's targets.
    pub target: u16,
    /// The command.
    pub op: Op,
    /// Of a flush: data only.
    pub data_only: bool,
}

/// What a reader hands over.
#[derive(Debug)]
enum Parcel {
    Ios(Vec<Logged>),
    Failed(String),
}

/// What comes next of a log.
#[derive(Debug)]
pub enum Next {
    /// This I/O.
    Io(Logged),
    /// The reader has not got there yet.
    Later,
    /// Nothing.
    End,
    /// The rest cannot be read: a sentence.
    Failed(String),
}

/// A log on its way to who issues it.
#[derive(Debug)]
pub struct LogStream {
    full: Receiver<Parcel>,
    empty: Sender<Vec<Logged>>,
    chunk: Vec<Logged>,
    at: usize,
    spent: Vec<Vec<Logged>>,
}

/// The other end of a [`LogStream`].
#[derive(Debug)]
pub struct LogFeed {
    full: Sender<Parcel>,
    empty: Receiver<Vec<Logged>>,
}

/// Both ends of a stream.
#[must_use]
pub fn log_stream() -> (LogFeed, LogStream) {
    // There are never more parcels than there is room for: neither end waits in the channel.
    let (full_in, full) = bounded(CHUNKS + 1);
    let (empty, empty_out) = bounded(CHUNKS + 1);
    for _ in 0..CHUNKS {
        let _ = empty.try_send(Vec::with_capacity(CHUNK));
    }
    let feed = LogFeed { full: full_in, empty: empty_out };
    (feed, LogStream { full, empty, chunk: Vec::new(), at: 0, spent: Vec::with_capacity(CHUNKS) })
}

impl LogStream {
    /// The next I/O, which stays the next until [`LogStream::advance`].
    #[inline]
    pub fn peek(&mut self) -> Next {
        match self.chunk.get(self.at) {
            Some(io) => Next::Io(*io),
            None => self.turn_over(),
        }
    }

    /// Goes on behind the I/O that was looked at.
    #[inline]
    pub fn advance(&mut self) {
        self.at += 1;
    }

    #[cold]
    fn turn_over(&mut self) -> Next {
        match self.full.try_recv() {
            Ok(Parcel::Ios(chunk)) => {
                let spent = std::mem::replace(&mut self.chunk, chunk);
                self.at = 0;
                if spent.capacity() > 0
                    && let Err(error) = self.empty.try_send(spent)
                {
                    // A reader that has ended needs no more, and here is no time to free memory.
                    self.spent.push(error.into_inner());
                }
                self.chunk.first().map_or(Next::Later, |io| Next::Io(*io))
            }
            Ok(Parcel::Failed(why)) => Next::Failed(why),
            Err(TryRecvError::Empty) => Next::Later,
            Err(TryRecvError::Disconnected) => Next::End,
        }
    }
}

/// An I/O that was issued, for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Nanoseconds from the start.
    pub time_ns: u64,
    /// Byte offset on the target; 0 for a flush.
    pub offset: u64,
    /// Length in bytes; 0 for a flush.
    pub len: u32,
    /// Which of the worker's targets.
    pub target: u16,
    /// The command.
    pub op: Op,
    /// Of a flush: data only.
    pub data_only: bool,
}

/// Takes what is issued, on its way to who writes it down.
#[derive(Debug)]
pub struct Recorder {
    full: Sender<Vec<Recorded>>,
    empty: Receiver<Vec<Recorded>>,
    chunk: Vec<Recorded>,
    begun_ns: Option<u64>,
    held_back: Arc<AtomicU64>,
}

/// The other end of a [`Recorder`].
#[derive(Debug)]
pub struct RecorderFeed {
    /// Chunks to be written.
    pub full: Receiver<Vec<Recorded>>,
    /// Where they go back to.
    pub empty: Sender<Vec<Recorded>>,
    /// How often an I/O had to wait because nobody had written what came before.
    pub held_back: Arc<AtomicU64>,
}

/// Both ends.
#[must_use]
pub fn recorder() -> (Recorder, RecorderFeed) {
    let (full, full_out) = bounded(CHUNKS + 1);
    let (empty_in, empty) = bounded(CHUNKS + 1);
    for _ in 1..CHUNKS {
        let _ = empty_in.try_send(Vec::with_capacity(CHUNK));
    }
    let held_back = Arc::new(AtomicU64::new(0));
    let feed = RecorderFeed { full: full_out, empty: empty_in, held_back: Arc::clone(&held_back) };
    (Recorder { full, empty, chunk: Vec::with_capacity(CHUNK), begun_ns: None, held_back }, feed)
}

impl Recorder {
    /// For how many I/Os there is room: a log has no holes, so that no more may be issued.
    pub fn room(&mut self) -> usize {
        if self.chunk.len() == CHUNK && !self.hand_over() {
            self.held_back.fetch_add(1, Relaxed);
        }
        CHUNK - self.chunk.len()
    }

    /// Adds an I/O that is issued at `now_ns`; there must be room.
    pub fn record(&mut self, now_ns: u64, io: Recorded) {
        let begun_ns = *self.begun_ns.get_or_insert(now_ns);
        if self.chunk.len() < CHUNK {
            self.chunk.push(Recorded { time_ns: now_ns.saturating_sub(begun_ns), ..io });
        }
    }

    /// Hands over what there is, if an empty chunk has come back; whether there is room now.
    pub fn hand_over(&mut self) -> bool {
        if self.chunk.is_empty() {
            return true;
        }
        let Ok(empty) = self.empty.try_recv() else { return false };
        let chunk = std::mem::replace(&mut self.chunk, empty);
        // As many chunks as there is room for: never full.
        let _ = self.full.try_send(chunk);
        true
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.full.try_send(std::mem::take(&mut self.chunk));
    }
}

/// Nobody takes what is read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NobodyListens;

impl LogFeed {
    /// An empty chunk, if one has come back.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub fn chunk(&self) -> Result<Option<Vec<Logged>>, NobodyListens> {
        match self.empty.try_recv() {
            Ok(mut chunk) => {
                chunk.clear();
                Ok(Some(chunk))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(NobodyListens),
        }
    }

    /// Hands a chunk over. Whether anybody listens shows when the next one is asked for.
    pub fn send(&self, chunk: Vec<Logged>) {
        let _ = self.full.try_send(Parcel::Ios(chunk));
    }

    /// Says why there is no more.
    pub fn fail(&self, why: String) {
        let _ = self.full.try_send(Parcel::Failed(why));
    }
}

/// What can be read from its beginning, again and again, always the same.
pub trait LogSource: fmt::Debug + Send + Sync {
    /// Begins to read, on a thread of its own.
    ///
    /// # Errors
    /// A sentence.
    fn open(&self) -> Result<LogStream, String>;
}

/// A log that is replayed.
#[derive(Clone, Debug)]
pub struct Log {
    /// Where its I/Os come from.
    pub source: Arc<dyn LogSource>,
    /// The file, for messages.
    pub path: PathBuf,
    /// How many writes it holds.
    pub writes: u64,
    /// How many trims.
    pub trims: u64,
    /// Bytes of all its I/Os.
    pub bytes: u64,
    /// The lengths of its writes and trims, each once, rising.
    pub lengths: Arc<[u32]>,
}

impl PartialEq for Log {
    fn eq(&self, other: &Log) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_go_round_and_their_ios_come_in_order_to_the_end() {
        let (feed, mut stream) = log_stream();
        let io = |sequence| Logged {
            due_ns: 0,
            offset: 0,
            sequence,
            len: 1,
            target: 0,
            op: Op::Read,
            data_only: false,
        };
        assert!(matches!(stream.peek(), Next::Later));
        let (mut sent, mut seen) = (0, 0);
        for _ in 0..10 {
            while let Ok(Some(mut chunk)) = feed.chunk() {
                assert!(chunk.is_empty() && chunk.capacity() >= CHUNK);
                chunk.extend((sent..sent + 3).map(io));
                sent += 3;
                feed.send(chunk);
            }
            while let Next::Io(io) = stream.peek() {
                assert_eq!(io.sequence, seen);
                seen += 1;
                stream.advance();
            }
        }
        assert!(seen > CHUNKS as u64 * 3 && seen == sent);
        feed.fail("no more".to_owned());
        drop(feed);
        assert!(matches!(stream.peek(), Next::Failed(why) if why == "no more"));
        assert!(matches!(stream.peek(), Next::End));
    }
}
