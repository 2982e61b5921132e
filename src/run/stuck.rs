//! Threads that do not come back from their device: found by their silence, told, and left behind.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use crate::base::units::SECOND_NS;
use crate::base::{Op, Status};
use crate::reactor::{Live, WorkerState};
use crate::report::JobError;
use crate::stats::WorkerStats;

use super::outcome::Outcome;
use super::plan::JobPlan;
use super::stage::{Ended, Stage, Watched, thread_name};

/// What a look adds to a thread's silence at most: a process that was stopped has no stuck threads.
const MOST_AT_ONCE_NS: u64 = 200_000_000;
/// Silence below this is the scheduler's.
const LEAST_NS: u64 = 3 * SECOND_NS;

/// What is known of one thread.
#[derive(Clone, Debug, Default)]
struct Beat {
    /// The sum of its workers' signs of life.
    sum: u64,
    silent_ns: u64,
    is_over: bool,
}

/// All threads of a stage.
pub struct Heartbeats {
    threads: Vec<Beat>,
    last_ns: u64,
}

impl Heartbeats {
    pub fn new(threads: usize, now_ns: u64) -> Heartbeats {
        Heartbeats { threads: vec![Beat::default(); threads], last_ns: now_ns }
    }

    /// A thread has ended; false if it had been left behind.
    pub fn ended(&mut self, thread: usize) -> bool {
        !std::mem::replace(&mut self.threads[thread].is_over, true)
    }

    /// The threads that have been silent for too long, each once. `workers` gives those of a thread.
    pub fn look<'a, I: Iterator<Item = &'a Watched>>(
        &mut self,
        now_ns: u64,
        plans: &[JobPlan],
        workers: impl Fn(usize) -> I,
    ) -> Vec<usize> {
        let since_ns = now_ns.saturating_sub(std::mem::replace(&mut self.last_ns, now_ns));
        let mut stuck = Vec::new();
        for (thread, beat) in self.threads.iter_mut().enumerate().filter(|(_, beat)| !beat.is_over) {
            let (mut sum, mut running, mut waiting, mut limit_ns) = (0_u64, false, false, LEAST_NS);
            for worker in workers(thread) {
                sum = sum.wrapping_add(worker.live.order.beat_ns());
                limit_ns = limit_ns.max(plans[worker.job].spec.reap_timeout_ns);
                match worker.live.state() {
                    WorkerState::Waiting => waiting = true,
                    WorkerState::Done => {}
                    _ => running = true,
                }
            }
            // A thread whose workers all wait for their start sleeps.
            if sum != beat.sum || waiting && !running {
                (beat.sum, beat.silent_ns) = (sum, 0);
                continue;
            }
            beat.silent_ns += since_ns.min(MOST_AT_ONCE_NS);
            if beat.silent_ns > limit_ns {
                beat.is_over = true;
                stuck.push(thread);
            }
        }
        stuck
    }
}

/// What a thread is doing in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
struct InFlight {
    op: Op,
    /// For people.
    text: String,
    offset: u64,
}

/// Reads a line of /proc/PID/task/TID/syscall: the call's number, its arguments, two pointers.
fn in_flight(line: &str, path_of: impl Fn(u64) -> Option<PathBuf>) -> Option<InFlight> {
    let mut words = line.split_whitespace();
    let number: libc::c_long = words.next()?.parse().ok()?;
    let arguments: Vec<u64> =
        words.filter_map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok()).collect();
    let &[file, _, len, offset, ..] = arguments.as_slice() else { return None };
    let path = path_of(file).map_or_else(|| format!("file {file}"), |path| path.display().to_string());
    let (op, text) = match number {
        libc::SYS_pread64 => (Op::Read, format!("a read of {len} bytes at {offset} of {path}")),
        libc::SYS_pwrite64 => (Op::Write, format!("a write of {len} bytes at {offset} of {path}")),
        libc::SYS_fsync | libc::SYS_fdatasync => (Op::Flush, format!("a flush of {path}")),
        libc::SYS_fallocate => (Op::Deallocate, format!("a trim of {path}")),
        libc::SYS_ioctl => (Op::Deallocate, format!("an ioctl of {path}")),
        libc::SYS_io_uring_enter => (Op::Write, "io_uring_enter".to_owned()),
        _ => (Op::Write, format!("system call {number}")),
    };
    let offset = if matches!(number, libc::SYS_pread64 | libc::SYS_pwrite64) { offset } else { 0 };
    Some(InFlight { op, text, offset })
}

/// Leaves one worker behind: what it has published counts, and an error says why there is
/// not more.
fn leave_behind(worker: &Watched, plan: &JobPlan, outcome: &mut Outcome, now_ns: u64) {
    worker.lost.set(true);
    // Should it come back, it ends at once.
    worker.live.request_stop();
    let order = &worker.live.order;
    let entry = &mut outcome.entries[worker.entry];
    entry.live.retain(|live| !std::sync::Arc::ptr_eq(live, &worker.live));
    if order.begun_ns().is_none() {
        return;
    }
    let doing = order.thread().and_then(|thread| {
        let line = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).ok()?;
        in_flight(&line, |file| std::fs::read_link(format!("/proc/self/fd/{file}")).ok())
    });
    let mut stats = published(&worker.live);
    let status = Status::from_errno(libc::ETIMEDOUT);
    let (op, offset) = doing.as_ref().map_or((Op::Write, 0), |doing| (doing.op, doing.offset));
    // A worker that had finished has nothing in flight, whatever else keeps its thread.
    let name = &worker.name;
    let since_s = now_ns.saturating_sub(order.beat_ns()) as f64 / SECOND_NS as f64;
    let limit_s = plan.spec.reap_timeout_ns as f64 / SECOND_NS as f64;
    let place = doing.map_or_else(|| "its engine".to_owned(), |doing| doing.text);
    let message =
        format!("{name}: stuck for {since_s:.1} s in {place}; left behind after reap_timeout ({limit_s} s)");
    if worker.live.state() == WorkerState::Done {
        outcome.note(format!("{name}: had ended, but its thread is stuck in {place}"));
    } else {
        stats.record_error(op, status, offset);
        stats.end_ns = now_ns;
        entry.error.get_or_insert(JobError {
            is_missed: false,
            errno: status.errno(),
            message: message.clone(),
        });
        outcome.note(format!("{message}; its counts are those of its last sign of life, without latencies"));
    }
    outcome.entries[worker.entry].stats.merge(&stats);
}

/// Counts without latencies, of a worker that does not answer.
pub fn published(live: &Live) -> Box<WorkerStats> {
    let mut stats = Box::<WorkerStats>::default();
    for (op, counts) in stats.ops.iter_mut() {
        counts.ios = live.ios.get(op).load(Relaxed);
        counts.bytes = live.bytes.get(op).load(Relaxed);
    }
    stats.start_ns = live.start_ns.load(Relaxed);
    stats
}

impl Stage<'_> {
    /// Leaves the workers of stuck threads behind; how many threads that are.
    pub fn leave_stuck(&self, beats: &mut Heartbeats, outcome: &mut Outcome, now_ns: u64) -> usize {
        let workers =
            |thread: usize| self.threads[thread].workers.iter().map(|&worker| &self.watched[worker]);
        let stuck = beats.look(now_ns, self.plans, workers);
        for own in stuck.iter().copied().flat_map(workers) {
            leave_behind(own, &self.plans[own.job], outcome, now_ns);
        }
        stuck.len()
    }

    /// A thread that was left behind has come back: its workers were told of already.
    pub fn came_late(&self, ended: &Ended, outcome: &mut Outcome) {
        let name = thread_name(&self.threads[ended.thread], &self.watched);
        outcome.note(format!("{name}: answered after it had been left behind, and is not counted"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_hangs_in_is_read_from_its_system_call() {
        let line = format!("{} 0x5 0x7f0000000000 0x1000 0x2000 0x0 0x0 0x7ffd 0x7f11\n", libc::SYS_pwrite64);
        let seen = in_flight(&line, |file| (file == 5).then(|| PathBuf::from("/mnt/data"))).unwrap();
        assert_eq!((seen.op, seen.offset), (Op::Write, 8192));
        assert_eq!(seen.text, "a write of 4096 bytes at 8192 of /mnt/data");
        let line = format!("{} 0x5 0x0 0x0 0x0 0x0 0x0 0x7ffd 0x7f11", libc::SYS_fdatasync);
        assert_eq!(in_flight(&line, |_| None).unwrap().text, "a flush of file 5");
        assert_eq!(in_flight("running\n", |_| None), None);
        assert_eq!(in_flight("-1 0x7ffd 0x7f11", |_| None), None);
    }
}
