//! What a worker logs. Single I/Os are copied out where they are counted; windows and histograms
//! are read off the counts between two looks up from the queues, and cost an I/O nothing.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::reap::is_usual;
use super::*;
use crate::base::PerOp;
use crate::base::ioprio::IoPriority;
use crate::reactor::log::LogTap;
use crate::stats::{Histogram, LogKinds, LoggedHistogram, LoggedIo, LoggedWindow, Sums};

/// How long I/Os may wait for their chunk to become full.
const LONGEST_NS: u64 = 100_000_000;
/// How long the end of a worker may wait for the thread that writes.
const LAST_WORD: Duration = Duration::from_secs(10);

/// The largest latencies of a window.
#[derive(Clone, Copy, Debug, Default)]
struct Maxima {
    slat: u64,
    clat: u64,
    lat: u64,
}

#[derive(Debug)]
struct Window {
    kinds: LogKinds,
    period_ns: u64,
    begin_ns: u64,
    next_ns: u64,
    /// The counts when it began.
    base: PerOp<Sums>,
}

#[derive(Debug)]
struct Histograms {
    period_ns: u64,
    next_ns: u64,
    before: PerOp<Box<[u64]>>,
    /// How many values `before` has.
    seen: PerOp<u64>,
    /// For the last ones.
    spare: Vec<LoggedHistogram>,
}

impl Histograms {
    /// Puts what is new into `into`.
    fn take(&mut self, op: Op, clat: &Histogram, time_ns: u64, into: &mut LoggedHistogram) {
        clat.take_bins(self.before.get_mut(op), &mut into.bins);
        *self.seen.get_mut(op) = clat.count();
        (into.time_ns, into.op) = (time_ns, op);
    }
}

/// The logs of one worker.
#[derive(Debug)]
pub(super) struct Logging {
    tap: LogTap,
    start_ns: u64,
    /// Without capacity where there is no room.
    chunk: Vec<LoggedIo>,
    sent_ns: u64,
    missing: u64,
    windows: Box<[Window]>,
    maxima: PerOp<Maxima>,
    histograms: Option<Histograms>,
    /// What was left when the worker ended.
    last_windows: Vec<LoggedWindow>,
    last_histograms: Vec<LoggedHistogram>,
    ended: bool,
}

impl Logging {
    pub(super) fn new(tap: LogTap) -> Logging {
        let windows = tap.shape.windows.iter().map(|&(kinds, period_ns)| Window {
            kinds,
            period_ns,
            begin_ns: 0,
            next_ns: period_ns,
            base: PerOp::default(),
        });
        let windows: Box<[Window]> = windows.collect();
        let histograms = tap.shape.histogram.map(|(period_ns, coarseness)| Histograms {
            period_ns,
            next_ns: period_ns,
            before: PerOp::from_fn(|_| Histogram::no_counts()),
            seen: PerOp::default(),
            spare: (0..Op::ADDRESSED.len()).map(|_| LoggedHistogram::empty(coarseness)).collect(),
        });
        Logging {
            start_ns: 0,
            chunk: tap.spare_ios.try_recv().unwrap_or_default(),
            sent_ns: 0,
            missing: 0,
            last_windows: Vec::with_capacity(windows.len()),
            last_histograms: Vec::with_capacity(Op::ADDRESSED.len()),
            windows,
            maxima: PerOp::default(),
            histograms,
            ended: false,
            tap,
        }
    }

    /// Whether every I/O is logged.
    pub(super) fn logs_each(&self) -> bool {
        self.tap.shape.entries.is_some()
    }

    /// Whether the largest latencies are.
    pub(super) fn logs_maxima(&self) -> bool {
        self.tap.shape.maxima
    }

    /// Counting begins, from nothing.
    #[cold]
    pub(super) fn begin(&mut self, now_ns: u64) {
        self.start_ns = now_ns;
        self.tap.shared.start_ns.store(now_ns, Ordering::Release);
        self.maxima = PerOp::default();
    }

    #[inline]
    fn push(&mut self, io: LoggedIo) {
        if self.chunk.len() == self.chunk.capacity() && !self.turn_over() {
            self.missing += 1;
            return;
        }
        self.chunk.push(io);
    }

    /// Hands over the chunk and takes another; false if there is none.
    fn turn_over(&mut self) -> bool {
        if !self.chunk.is_empty() {
            // As many chunks as there are have room.
            let _ = self.tap.ios.try_send(std::mem::take(&mut self.chunk));
        }
        match self.tap.spare_ios.try_recv() {
            Ok(chunk) => self.chunk = chunk,
            Err(_) => return false,
        }
        true
    }

    #[inline]
    pub(super) fn see(&mut self, op: Op, slat_ns: u64, lat_ns: u64) {
        let maxima = self.maxima.get_mut(op);
        maxima.slat = maxima.slat.max(slat_ns);
        maxima.clat = maxima.clat.max(lat_ns - slat_ns);
        maxima.lat = maxima.lat.max(lat_ns);
    }

    /// Ends windows and histograms whose time it is.
    pub(super) fn look(&mut self, stats: &WorkerStats, now_ns: u64) {
        if self.start_ns == 0 || self.ended {
            return;
        }
        let time_ns = now_ns.saturating_sub(self.start_ns);
        self.tap.shared.missing.store(self.missing, Ordering::Relaxed);
        if !self.chunk.is_empty() && now_ns.saturating_sub(self.sent_ns) > LONGEST_NS {
            self.sent_ns = now_ns;
            self.turn_over();
        }
        for index in 0..self.windows.len() {
            if time_ns < self.windows[index].next_ns || self.tap.windows.is_full() {
                continue;
            }
            let window = self.close(index, stats, time_ns);
            let _ = self.tap.windows.try_send(window);
        }
        let Some(histograms) = &mut self.histograms else { return };
        if time_ns < histograms.next_ns {
            return;
        }
        histograms.next_ns = (time_ns / histograms.period_ns + 1) * histograms.period_ns;
        for (op, counts) in stats.ops.iter() {
            if counts.latency.clat.count() == *histograms.seen.get(op) {
                continue;
            }
            // Without room it goes on.
            let Ok(mut histogram) = self.tap.spare_histograms.try_recv() else { continue };
            histograms.take(op, &counts.latency.clat, time_ns, &mut histogram);
            let _ = self.tap.histograms.try_send(histogram);
        }
    }

    /// The window so far; the next one begins.
    fn close(&mut self, index: usize, stats: &WorkerStats, time_ns: u64) -> LoggedWindow {
        let window = &mut self.windows[index];
        let now = Sums::of(stats);
        let mut sums = PerOp::from_fn(|op| now.get(op).since(window.base.get(op)));
        if window.kinds.latency {
            for (op, sums) in sums.iter_mut() {
                let maxima = std::mem::take(self.maxima.get_mut(op));
                (sums.slat.max, sums.clat.max, sums.lat.max) = (maxima.slat, maxima.clat, maxima.lat);
            }
        }
        let begin_ns = std::mem::replace(&mut window.begin_ns, time_ns);
        window.base = now;
        window.next_ns = (time_ns / window.period_ns + 1) * window.period_ns;
        LoggedWindow { kinds: window.kinds, begin_ns, end_ns: time_ns, sums }
    }

    /// The worker ends: closes what is open. What is left goes out with the last word, when nobody
    /// waits for this reactor any more.
    #[cold]
    pub(super) fn end(&mut self, stats: &WorkerStats, now_ns: u64) {
        if self.start_ns == 0 || self.ended {
            return;
        }
        self.ended = true;
        let time_ns = now_ns.saturating_sub(self.start_ns);
        for index in 0..self.windows.len() {
            let window = self.close(index, stats, time_ns);
            self.last_windows.push(window);
        }
        let Some(histograms) = &mut self.histograms else { return };
        for (op, counts) in stats.ops.iter() {
            if counts.latency.clat.count() == *histograms.seen.get(op) {
                continue;
            }
            let Some(mut histogram) = histograms.spare.pop() else { break };
            histograms.take(op, &counts.latency.clat, time_ns, &mut histogram);
            self.last_histograms.push(histogram);
        }
    }

    /// Hands over what is left. May wait.
    #[cold]
    pub(super) fn finish(mut self) {
        let chunk = std::mem::take(&mut self.chunk);
        self.tap.shared.missing.store(self.missing, Ordering::Relaxed);
        if !chunk.is_empty() {
            let _ = self.tap.ios.send_timeout(chunk, LAST_WORD);
        }
        for window in self.last_windows.drain(..) {
            let _ = self.tap.windows.send_timeout(window, LAST_WORD);
        }
        for histogram in self.last_histograms.drain(..) {
            let _ = self.tap.histograms.send_timeout(histogram, LAST_WORD);
        }
    }
}

impl<Q: Queue> Worker<Q> {
    /// Copies what has come back to the log, as it is counted, and counts it by its blocks.
    #[inline(never)]
    pub(super) fn see_each(&mut self, done: &[Completion]) {
        if self.blocks.is_some() {
            self.count_trims(done);
        }
        let logs = |logging: &&mut Box<Logging>| logging.logs_each();
        let Some(logging) =
            self.logging.as_mut().filter(logs).filter(|_| self.counting && self.phase != Phase::Judge)
        else {
            return;
        };
        let start_ns = logging.start_ns;
        for completion in done.iter().filter(|completion| is_usual(completion)) {
            let io = &completion.io;
            let ended_ns = if Q::BLOCKING { completion.done_ns } else { self.reaped_ns };
            let lat_ns = ended_ns.saturating_sub(io.submit_ns);
            let slat_ns = if Q::HAS_DOORBELL { self.slat_ns[io.buffer.id() as usize].min(lat_ns) } else { 0 };
            logging.push(LoggedIo {
                time_ns: ended_ns.saturating_sub(start_ns),
                slat_ns,
                lat_ns,
                offset: io.offset,
                len: io.len,
                op: io.op,
                priority: match &self.priorities {
                    Some(rule) => rule.of(io.op, io.len, io.sequence),
                    None => IoPriority::default(),
                },
                has_slat: Q::HAS_DOORBELL,
            });
        }
    }

    /// Keeps the largest latencies of a window.
    #[inline]
    pub(super) fn see(&mut self, op: Op, slat_ns: u64, lat_ns: u64) {
        if let Some(logging) = &mut self.logging {
            logging.see(op, slat_ns, lat_ns);
        }
    }

    /// Looks whether a window has ended. While the last I/Os come back they belong to the last one.
    pub(super) fn look_at_logs(&mut self) {
        if let Some(logging) = &mut self.logging
            && self.phase == Phase::Run
        {
            logging.look(&self.stats, self.now_ns);
        }
    }

    /// The logs end with what is counted of the workload.
    #[cold]
    pub(super) fn end_logs(&mut self) {
        if let Some(logging) = &mut self.logging {
            logging.end(&self.stats, self.now_ns);
        }
    }
}
