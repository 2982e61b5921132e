//! How what a worker logs gets to the thread that writes it.
//!
//! The reactor never waits for that thread, nor wakes it: all memory goes round in queues without
//! locks, and the thread looks by itself. Where it falls behind, single I/Os are left out and counted,
//! because a benchmark that waits for its own log measures the log; windows and histograms are
//! never left out, they go on until there is room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::Op;
use crate::base::ioprio::IoPriority;
use crate::stats::{LogKinds, LoggedHistogram, LoggedIo, LoggedWindow};

/// I/Os that are handed over at once.
const CHUNK: usize = 1024;
/// Windows on their way at most.
const WINDOWS: usize = 256;
/// Histograms of each command on their way: as many as come in this time, and a few at least.
const HISTOGRAMS_NS: u64 = 200_000_000;
const LEAST_HISTOGRAMS: u64 = 4;

const TOUCH: LoggedIo = LoggedIo {
    time_ns: 1,
    slat_ns: 1,
    lat_ns: 1,
    offset: 1,
    len: 1,
    op: Op::Write,
    priority: IoPriority(1),
    has_slat: true,
};

/// What is logged of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogShape {
    /// Every I/O, with room for so many on their way.
    pub entries: Option<u32>,
    /// Windows: which logs they are for, and their length in nanoseconds.
    pub windows: Vec<(LogKinds, u64)>,
    /// Whether windows tell the largest latency too.
    pub maxima: bool,
    /// Histograms: their length in nanoseconds, and how coarse they are
    /// ([`LoggedHistogram::empty`]).
    pub histogram: Option<(u64, u32)>,
}

impl LogShape {
    fn chunks(&self) -> usize {
        self.entries.map_or(0, |entries| (entries as usize).div_ceil(CHUNK))
    }

    fn boxes(&self) -> usize {
        let boxes = self.histogram.map_or(0, |(ns, _)| (HISTOGRAMS_NS / ns.max(1)).max(LEAST_HISTOGRAMS) * 3);
        usize::try_from(boxes).unwrap_or(usize::MAX)
    }

    /// Bytes of memory that are taken for what is on its way.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let each =
            self.histogram.map_or(0, |(_, coarseness)| LoggedHistogram::empty(coarseness).bins.len() * 8);
        let ios = (self.chunks() as u64).saturating_mul((CHUNK * size_of::<LoggedIo>()) as u64);
        ios.saturating_add((self.boxes() as u64).saturating_mul(each as u64))
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct LogTap {
    pub(super) shape: LogShape,
    pub(super) ios: Sender<Vec<LoggedIo>>,
    pub(super) spare_ios: Receiver<Vec<LoggedIo>>,
    pub(super) windows: Sender<LoggedWindow>,
    pub(super) histograms: Sender<LoggedHistogram>,
    pub(super) spare_histograms: Receiver<LoggedHistogram>,
    pub(super) shared: Arc<Shared>,
}

/// What both ends see.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) start_ns: AtomicU64,
    pub(super) missing: AtomicU64,
}

/// The end of the thread that writes.
#[derive(Debug)]
pub struct LogSource {
    ios: Receiver<Vec<LoggedIo>>,
    spare_ios: Sender<Vec<LoggedIo>>,
    windows: Receiver<LoggedWindow>,
    histograms: Receiver<LoggedHistogram>,
    spare_histograms: Sender<LoggedHistogram>,
    shared: Arc<Shared>,
}

/// A connected pair. All memory that goes between them is taken here.
#[must_use]
pub fn log_pipe(shape: LogShape) -> (LogTap, LogSource) {
    let (chunks, boxes) = (shape.chunks(), shape.boxes());
    let (ios_in, ios) = bounded(chunks.max(1));
    let (spare_ios, ios_back) = bounded(chunks.max(1));
    for _ in 0..chunks {
        // Written to once: what the kernel has only promised would be a page fault in the loop.
        let mut chunk = vec![TOUCH; CHUNK];
        chunk.clear();
        // There is room for all of them.
        let _ = spare_ios.send(chunk);
    }
    let (histograms_in, histograms) = bounded(boxes.max(1));
    let (spare_histograms, histograms_back) = bounded(boxes.max(1));
    for _ in 0..boxes {
        let coarseness = shape.histogram.map_or(0, |(_, coarseness)| coarseness);
        let _ = spare_histograms.send(LoggedHistogram::empty(coarseness));
    }
    let (windows_in, windows) = bounded(WINDOWS);
    let shared = Arc::new(Shared::default());
    let tap = LogTap {
        shape,
        ios: ios_in,
        spare_ios: ios_back,
        windows: windows_in,
        histograms: histograms_in,
        spare_histograms: histograms_back,
        shared: Arc::clone(&shared),
    };
    (tap, LogSource { ios, spare_ios, windows, histograms, spare_histograms, shared })
}

impl LogSource {
    /// When counting began (`base::clock`); 0 if it has not.
    #[must_use]
    pub fn start_ns(&self) -> u64 {
        self.shared.start_ns.load(Ordering::Acquire)
    }

    /// I/Os that found no room.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.shared.missing.load(Ordering::Relaxed)
    }

    /// Takes the next I/Os that wait, in order of completion.
    pub fn take_ios(&self, take: impl FnOnce(&[LoggedIo])) -> bool {
        let Ok(mut chunk) = self.ios.try_recv() else { return false };
        take(&chunk);
        chunk.clear();
        // Where the worker has gone it needs no room any more.
        let _ = self.spare_ios.try_send(chunk);
        true
    }

    /// Takes the next window that waits.
    pub fn take_window(&self, take: impl FnOnce(&LoggedWindow)) -> bool {
        let Ok(window) = self.windows.try_recv() else { return false };
        take(&window);
        true
    }

    /// Takes the next histogram that waits.
    pub fn take_histogram(&self, take: impl FnOnce(&LoggedHistogram)) -> bool {
        let Ok(histogram) = self.histograms.try_recv() else { return false };
        take(&histogram);
        let _ = self.spare_histograms.try_send(histogram);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_as_many_ios_as_were_asked_for() {
        let (tap, source) = log_pipe(LogShape { entries: Some(3000), ..LogShape::default() });
        for round in 0..2 {
            let chunks: Vec<Vec<LoggedIo>> = tap.spare_ios.try_iter().collect();
            assert_eq!((round, chunks.len()), (round, 3));
            assert!(chunks.iter().all(|chunk| chunk.is_empty() && chunk.capacity() >= CHUNK));
            chunks.into_iter().for_each(|mut chunk| {
                chunk.push(TOUCH);
                tap.ios.try_send(chunk).unwrap();
            });
            while source.take_ios(|ios| assert_eq!(ios, [TOUCH])) {}
        }
    }

    #[test]
    fn histograms_have_room_for_every_command_however_seldom_they_come() {
        let rooms = |ns| {
            let (tap, _source) = log_pipe(LogShape { histogram: Some((ns, 3)), ..LogShape::default() });
            tap.spare_histograms.try_iter().inspect(|one| assert_eq!(one.bins.len(), 232)).count()
        };
        assert_eq!((rooms(1_000_000), rooms(60_000_000_000)), (600, 12));
    }
}
