//! io_uring: one ring a worker, files and buffers registered where possible, one system call for
//! each doorbell that also brings what has completed.

#![allow(unsafe_code, reason = "submission entries carry raw pointers to buffers")]

mod marks;

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use ::io_uring::types::{CancelBuilder, Fd, Fixed, FsyncFlags, SubmitArgs, Timespec};
use ::io_uring::{EnterFlags, IoUring as Ring, opcode, squeue};

use crate::base::clock::Clock;
use crate::base::premises::Premises;
use crate::base::units::SECOND_NS;
use crate::base::{Op, Status};

use super::kernel_file::{KernelFile, invalidate_all, open_all, outcome, premises_now};
use super::{
    Buffer, BufferArea, Completion, Engine, EngineError, EngineOptions, Io, Queue, QueueConfig, QueueError,
    Target, TargetFacts, Targets, Wait,
};
use marks::{Mark, Marks};

/// Entries of a submission ring at most (io_uring/io_uring.c, IORING_MAX_ENTRIES).
const MAX_DEPTH: u32 = 32_768;
/// Buffers that can be registered with one ring (io_uring/rsrc.c, IORING_MAX_REG_BUFFERS).
const MAX_FIXED_BUFFERS: u32 = 16_384;
/// How long an idle SQPOLL thread spins before it sleeps.
const SQPOLL_IDLE_MS: u32 = 1000;
/// fallocate(2) mode of a deallocate on a file: FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE.
const PUNCH_HOLE_KEEP_SIZE: i32 = 0x03;
/// Calls that a doorbell repeats while the kernel is short of memory, before the queue counts as dead.
const COMMIT_TRIES: u32 = 10_000;
/// How long `stop` waits before it cancels again.
const CANCEL_AGAIN_NS: u64 = 10_000_000;

/// Engine `io_uring`.
#[derive(Debug)]
pub struct IoUring {
    files: Arc<[KernelFile]>,
    facts: Vec<TargetFacts>,
    options: EngineOptions,
}

/// The queue of [`IoUring`].
pub struct IoUringQueue {
    ring: Ring,
    files: Arc<[KernelFile]>,
    registered_files: bool,
    /// Address of each registered buffer, by its number.
    fixed: Box<[usize]>,
    /// I/Os in flight, by the number that is their `user_data`.
    slots: Box<[Option<Io>]>,
    free_slots: Vec<u32>,
    /// What completed within `submit`.
    immediate: Vec<Completion>,
    uncommitted: u32,
    iopoll: bool,
    sqpoll: bool,
    marks: Option<Box<Marks>>,
}

impl Engine for IoUring {
    type Queue = IoUringQueue;
    const NAME: &'static str = "io_uring";
    const TARGETS: Targets = Targets::Files;

    fn open(targets: &[Target], options: &EngineOptions) -> Result<Self, EngineError> {
        let (files, facts) = open_all(targets, options)?;
        Ok(IoUring { files: files.into(), facts, options: options.clone() })
    }

    fn facts(&self) -> &[TargetFacts] {
        &self.facts
    }

    fn premises(&self, patience: Duration) -> Vec<Option<Premises>> {
        self.facts.iter().map(|fact| premises_now(fact, patience)).collect()
    }

    fn invalidate(&self) -> Result<(), EngineError> {
        invalidate_all(&self.files, &self.facts)
    }

    fn queue(
        &self,
        config: &QueueConfig,
        buffers: &BufferArea,
    ) -> Result<(IoUringQueue, Vec<String>), EngineError> {
        if config.depth > MAX_DEPTH {
            return Err(EngineError::new(format!(
                "io_uring has at most {MAX_DEPTH} entries a ring: lower iodepth from {}",
                config.depth
            )));
        }
        let mut notes = Vec::new();
        let iopoll = self.options.iopoll && self.can_iopoll(&mut notes)?;
        let ring = self.ring(config.depth, iopoll, &mut notes)?;
        let registered_files = self.options.registered_files && self.register_files(&ring, &mut notes);
        let fixed = if self.options.fixed_buffers {
            register_buffers(&ring, buffers, &mut notes)
        } else {
            Box::default()
        };
        let queue = self.queue_on(ring, config.depth, iopoll, registered_files, fixed);
        Ok((queue, notes))
    }
}

impl IoUring {
    /// A ring with what this kernel offers. Completions are run by the worker's own calls
    /// (DEFER_TASKRUN, Linux 6.1) instead of by interrupting it.
    fn ring(&self, depth: u32, iopoll: bool, notes: &mut Vec<String>) -> Result<Ring, EngineError> {
        let build = |modern: bool| {
            let mut builder = Ring::builder();
            builder.setup_clamp();
            if iopoll {
                builder.setup_iopoll();
            }
            if self.options.sqpoll {
                builder.setup_sqpoll(SQPOLL_IDLE_MS);
                if let Some(cpu) = self.options.sqpoll_cpu {
                    builder.setup_sqpoll_cpu(cpu);
                }
            }
            if modern {
                builder.setup_single_issuer().setup_taskrun_flag().setup_defer_taskrun();
            }
            // The kernel's thread posts completions before it says that their entries are free: a
            // ring for twice as many always has room for what there are slots for.
            builder.build(if self.options.sqpoll { 2 * depth } else { depth })
        };
        let first = build(!self.options.sqpoll);
        let ring = match first {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !self.options.sqpoll => {
                notes.push("io_uring: this kernel has no deferred task work (Linux 6.1): completions interrupt the reactor".to_owned());
                build(false)
            }
            other => other,
        };
        ring.map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => {
                    ": io_uring is switched off here (sysctl kernel.io_uring_disabled, or a container's seccomp filter): use ioengine = \"psync\""
                }
                Some(libc::ENOSYS) => ": this kernel has no io_uring: use ioengine = \"psync\"",
                Some(libc::ENOMEM) => ": raise `ulimit -l` or lower iodepth or numjobs",
                Some(libc::EINVAL) => ": this kernel refuses the combination of hipri and sqthread_poll asked for",
                _ => "",
            };
            EngineError { message: format!("cannot make an io_uring: {error}{hint}"), errno: error.raw_os_error(), is_unsafe: false }
        })
    }

    fn queue_on(
        &self,
        ring: Ring,
        depth: u32,
        iopoll: bool,
        registered_files: bool,
        fixed: Box<[usize]>,
    ) -> IoUringQueue {
        IoUringQueue {
            ring,
            files: Arc::clone(&self.files),
            registered_files,
            fixed,
            slots: (0..depth).map(|_| None).collect(),
            free_slots: (0..depth).rev().collect(),
            immediate: Vec::with_capacity(depth as usize),
            uncommitted: 0,
            iopoll,
            sqpoll: self.options.sqpoll,
            marks: Marks::of_options(&self.options),
        }
    }

    /// Whether every target can be polled: a ring with IOPOLL is accepted for any file, and the
    /// first I/O then says EOPNOTSUPP. So one block of each is read.
    fn can_iopoll(&self, notes: &mut Vec<String>) -> Result<bool, EngineError> {
        let ring = self.ring(1, true, &mut Vec::new())?;
        let mut queue = self.queue_on(ring, 1, true, false, Box::default());
        for (target, fact) in (0..).zip(&self.facts) {
            let len = fact.lba_bytes.max(512);
            let mut area = BufferArea::new(1, len).map_err(EngineError::new)?;
            let Some(buffer) = area.take() else { return Ok(true) };
            let (op, data_only) = (Op::Read, false);
            let io =
                Io { buffer, offset: 0, sequence: 0, submit_ns: 0, len, moved: 0, target, op, data_only };
            let mut done = Vec::with_capacity(1);
            queue.submit(&mut vec![io]);
            let dead = |error: QueueError| EngineError::new(format!("io_uring with hipri: {}", error.status));
            queue.commit().map_err(dead)?;
            let end_ns = Clock::get().now_ns() + SECOND_NS;
            while done.is_empty() && Clock::get().now_ns() < end_ns {
                queue.poll(Wait { min: 1, timeout_ns: SECOND_NS }, 1, &mut done).map_err(dead)?;
            }
            for completion in done {
                if completion.status.errno() == libc::EOPNOTSUPP {
                    let path = fact.path.display();
                    notes.push(format!(
                        "io_uring: {path} cannot be polled: hipri is left out, completions interrupt"
                    ));
                    return Ok(false);
                }
                area.give_back(completion.io.buffer);
            }
        }
        Ok(true)
    }

    fn register_files(&self, ring: &Ring, notes: &mut Vec<String>) -> bool {
        let fds: Vec<i32> = self.files.iter().map(|file| file.as_fd().as_raw_fd()).collect();
        match ring.submitter().register_files(&fds) {
            Ok(()) => true,
            Err(error) => {
                notes.push(format!("io_uring: files are not registered ({error})"));
                false
            }
        }
    }
}

fn register_buffers(ring: &Ring, buffers: &BufferArea, notes: &mut Vec<String>) -> Box<[usize]> {
    if buffers.count() > MAX_FIXED_BUFFERS {
        notes.push(format!("io_uring: buffers are not registered: at most {MAX_FIXED_BUFFERS} can be"));
        return Box::default();
    }
    let spans: Vec<(*mut u8, usize)> = (0..buffers.count()).map(|id| buffers.span(id)).collect();
    let vectors: Vec<libc::iovec> =
        spans.iter().map(|&(start, len)| libc::iovec { iov_base: start.cast(), iov_len: len }).collect();
    // SAFETY: the kernel pins these pages until the ring is closed, so they stay valid for it even
    // if the area were freed first; the area is not freed while a buffer is in flight.
    match unsafe { ring.submitter().register_buffers(&vectors) } {
        Ok(()) => spans.iter().map(|(start, _)| start.addr()).collect(),
        Err(error) => {
            let hint = if error.raw_os_error() == Some(libc::ENOMEM) { ": raise `ulimit -l`" } else { "" };
            notes.push(format!("io_uring: buffers are not registered ({error}{hint})"));
            Box::default()
        }
    }
}

impl IoUringQueue {
    /// Moves what the kernel has posted into `done`.
    #[inline]
    fn reap(&mut self, max: usize, done: &mut Vec<Completion>) {
        while done.len() < max {
            match self.immediate.pop() {
                Some(completion) => done.push(completion),
                None => break,
            }
        }
        if done.len() >= max {
            return;
        }
        let mut posted = self.ring.completion();
        while done.len() < max {
            let Some(entry) = posted.next() else { break };
            let Ok(slot) = usize::try_from(entry.user_data()) else { continue };
            // A cancel request of `stop` has a number of its own and no slot.
            let Some(io) = self.slots.get_mut(slot).and_then(Option::take) else { continue };
            self.free_slots.push(slot as u32);
            let result = entry.result();
            let (status, bytes) = match u32::try_from(result) {
                // fsync and fallocate return 0 for all of it.
                Ok(_) if matches!(io.op, Op::Flush | Op::Deallocate) => (Status::OK, io.len - io.moved),
                Ok(bytes) => (Status::OK, bytes),
                Err(_) => (Status::from_errno(-result), 0),
            };
            done.push(Completion { io, status, bytes, done_ns: 0 });
        }
    }

    /// The kernel has taken `count` entries. With SQPOLL its thread takes them by itself: what is
    /// left there is none of ours.
    #[inline]
    fn has_taken(&mut self, count: usize) {
        let taken = if self.sqpoll { u32::MAX } else { u32::try_from(count).unwrap_or(u32::MAX) };
        self.uncommitted = self.uncommitted.saturating_sub(taken);
    }

    /// One call that submits, runs deferred completions, and waits as asked.
    fn enter(&mut self, min: usize, timeout_ns: u64) -> std::io::Result<usize> {
        if min > 0 {
            let timeout = Timespec::new()
                .sec(timeout_ns / SECOND_NS)
                .nsec(u32::try_from(timeout_ns % SECOND_NS).unwrap_or(0));
            let args = SubmitArgs::new().timespec(&timeout);
            return self.ring.submitter().submit_with_args(min, &args);
        }
        if self.sqpoll {
            return self.ring.submit();
        }
        let submitter = self.ring.submitter();
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: no argument structure is passed, and `uncommitted` entries are in the ring.
        unsafe { submitter.enter::<libc::sigset_t>(self.uncommitted, 0, flags, None) }
    }
}

impl Queue for IoUringQueue {
    const BLOCKING: bool = false;
    const HAS_DOORBELL: bool = true;

    #[inline]
    fn submit(&mut self, batch: &mut Vec<Io>) {
        if self.marks.is_some() { self.submit_as::<true>(batch) } else { self.submit_as::<false>(batch) }
    }

    #[inline]
    fn commit(&mut self) -> Result<(), QueueError> {
        let mut tries = 0;
        while self.uncommitted > 0 {
            match self.enter(0, 0) {
                Ok(count) if count > 0 || self.sqpoll => self.has_taken(count),
                Ok(_) if tries < COMMIT_TRIES => tries += 1,
                Ok(_) => return Err(QueueError { status: Status::from_errno(libc::EIO) }),
                Err(error) if is_transient(&error) && tries < COMMIT_TRIES => tries += 1,
                Err(error) => return Err(dead(&error)),
            }
        }
        Ok(())
    }

    #[inline]
    fn poll(&mut self, wait: Wait, max: usize, done: &mut Vec<Completion>) -> Result<(), QueueError> {
        let goal = done.len() + wait.min;
        let limit = done.len() + max;
        self.reap(limit, done);
        let in_flight = self.slots.len() - self.free_slots.len();
        if done.len() >= limit || in_flight == 0 {
            return Ok(());
        }
        let missing = goal.saturating_sub(done.len()).min(in_flight);
        if missing == 0 && !(self.iopoll || self.ring.submission().taskrun()) {
            return Ok(());
        }
        if missing == 0 && done.len() > goal {
            // There is enough to work on; what else is pending can wait for the next doorbell.
            return Ok(());
        }
        match self.enter(missing, wait.timeout_ns) {
            // What was submitted and not committed has gone too.
            Ok(count) => self.has_taken(count),
            Err(error) if is_transient(&error) || error.raw_os_error() == Some(libc::ETIME) => {}
            Err(error) => return Err(dead(&error)),
        }
        self.reap(limit, done);
        Ok(())
    }

    fn stop(&mut self, timeout_ns: u64, done: &mut Vec<Completion>) {
        let clock = Clock::get();
        let end_ns = clock.now_ns().saturating_add(timeout_ns);
        let _ = self.commit();
        let cancel_time = Timespec::new().sec(0).nsec(1);
        while self.free_slots.len() < self.slots.len() {
            // Again and again: SQPOLL's thread takes entries whenever it likes, and what it has not
            // taken cannot be cancelled yet.
            let _ = self.ring.submitter().register_sync_cancel(Some(cancel_time), CancelBuilder::any());
            let now_ns = clock.now_ns();
            let timeout_ns = end_ns.saturating_sub(now_ns).clamp(1, CANCEL_AGAIN_NS);
            let max = self.slots.len();
            if self.poll(Wait { min: 1, timeout_ns }, max, done).is_err() || now_ns >= end_ns {
                break;
            }
        }
        self.reap(usize::MAX, done);
    }
}

impl IoUringQueue {
    /// Hands I/Os to the ring; what they are told beside what they do is only looked for if `MARKED`.
    #[inline]
    fn submit_as<const MARKED: bool>(&mut self, batch: &mut Vec<Io>) {
        let queue = self.ring.submission();
        let room = batch.len().min(self.free_slots.len()).min(queue.capacity() - queue.len());
        drop(queue);
        let mut count = 0;
        while count < room && !self.completes_here(&batch[count]) {
            count += 1;
        }
        for io in batch.drain(..count) {
            let Some(slot) = self.free_slots.pop() else { break };
            // Into its slot before the kernel hears of it: whatever panics from here on, nobody else
            // has the buffer.
            let io = self.slots[slot as usize].insert(io);
            let mark = match &mut self.marks {
                Some(marks) if MARKED => marks.of(io),
                _ => Mark::default(),
            };
            let entry = entry(&self.files, self.registered_files, &self.fixed, io, mark);
            let mut entry = entry.user_data(u64::from(slot));
            if mark.is_async {
                entry = entry.flags(squeue::Flags::ASYNC);
            }
            let mut queue = self.ring.submission();
            // SAFETY: the entry points to the buffer of `io`, which stays in `slots` until its
            // completion; if this queue is dropped before, the buffer is not given back and its
            // area is leaked.
            let pushed = unsafe { queue.push(&entry) };
            assert!(pushed.is_ok(), "there was room");
            self.uncommitted += 1;
        }
        if count < room {
            self.complete_here(batch);
        }
    }

    /// What no ring takes: block devices discard by ioctl only, as far as kernels before 6.12 go, and
    /// a ring that polls has reads and writes alone.
    #[inline]
    fn completes_here(&self, io: &Io) -> bool {
        let file = || self.files.get(usize::from(io.target));
        match io.op {
            Op::Read | Op::Write => false,
            Op::Flush => self.iopoll,
            Op::Deallocate => self.iopoll || file().is_some_and(KernelFile::is_block_device),
        }
    }

    /// Does in place what the ring does not take.
    #[cold]
    fn complete_here(&mut self, batch: &mut Vec<Io>) {
        while self.immediate.len() < self.immediate.capacity() {
            if !batch.first().is_some_and(|io| self.completes_here(io)) {
                return;
            }
            let io = batch.remove(0);
            let bytes = io.len - io.moved;
            let file = &self.files[usize::from(io.target)];
            let result = match io.op {
                Op::Flush => file.flush(io.data_only),
                _ => file.deallocate(io.offset + u64::from(io.moved), u64::from(bytes)),
            };
            let (status, bytes) = outcome(result.map(|()| bytes as usize));
            self.immediate.push(Completion { io, status, bytes, done_ns: 0 });
        }
    }
}

/// What the kernel is told of `io`.
#[inline]
fn entry(files: &[KernelFile], registered: bool, fixed: &[usize], io: &mut Io, mark: Mark) -> squeue::Entry {
    let file = &files[usize::from(io.target)];
    if io.op == Op::Flush && io.len > 0 {
        return range_entry(file, io);
    }
    if registered {
        entry_on(Fixed(u32::from(io.target)), fixed, io, mark)
    } else {
        entry_on(Fd(file.as_fd().as_raw_fd()), fixed, io, mark)
    }
}

#[cold]
fn range_entry(file: &KernelFile, io: &Io) -> squeue::Entry {
    let len = if io.len == u32::MAX { 0 } else { io.len };
    let entry = opcode::SyncFileRange::new(Fd(file.as_fd().as_raw_fd()), len);
    entry.offset(io.offset).flags(file.range_flags()).build()
}

#[inline]
fn entry_on<F: IntoFd>(fd: F, fixed: &[usize], io: &mut Io, mark: Mark) -> squeue::Entry {
    let Mark { ioprio, rw_flags, .. } = mark;
    let offset = io.offset + u64::from(io.moved);
    let len = io.len - io.moved;
    let is_fixed = is_fixed(fixed, &io.buffer);
    let id = io.buffer.id() as u16;
    match (io.op, is_fixed) {
        (Op::Read, true) => fd
            .read_fixed(rest(io).as_mut_ptr(), len, id)
            .offset(offset)
            .ioprio(ioprio)
            .rw_flags(rw_flags)
            .build(),
        (Op::Read, false) => {
            fd.read(rest(io).as_mut_ptr(), len).offset(offset).ioprio(ioprio).rw_flags(rw_flags).build()
        }
        (Op::Write, true) => fd
            .write_fixed(rest(io).as_ptr(), len, id)
            .offset(offset)
            .ioprio(ioprio)
            .rw_flags(rw_flags)
            .build(),
        (Op::Write, false) => {
            fd.write(rest(io).as_ptr(), len).offset(offset).ioprio(ioprio).rw_flags(rw_flags).build()
        }
        (Op::Flush, _) => {
            let flags = if io.data_only { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
            fd.fsync().flags(flags).build()
        }
        (Op::Deallocate, _) => fd.fallocate(u64::from(len)).offset(offset).mode(PUNCH_HOLE_KEEP_SIZE).build(),
    }
}

/// Whether the kernel knows this very buffer by its number.
#[inline]
fn is_fixed(fixed: &[usize], buffer: &Buffer) -> bool {
    fixed.get(buffer.id() as usize).is_some_and(|&start| start == buffer.as_ptr().addr())
}

/// The bytes of the buffer that are still to be moved.
#[inline]
fn rest(io: &mut Io) -> &mut [u8] {
    let (from, to) = (io.moved as usize, io.len as usize);
    &mut io.buffer[from..to]
}

fn is_transient(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

#[cold]
fn dead(error: &std::io::Error) -> QueueError {
    QueueError {
        status: Status::from_errno(error.raw_os_error().filter(|&code| code > 0).unwrap_or(libc::EIO)),
    }
}

/// A registered or a plain file: the same entries for both.
trait IntoFd {
    fn read_fixed(self, start: *mut u8, len: u32, buffer: u16) -> opcode::ReadFixed;
    fn write_fixed(self, start: *const u8, len: u32, buffer: u16) -> opcode::WriteFixed;
    fn read(self, start: *mut u8, len: u32) -> opcode::Read;
    fn write(self, start: *const u8, len: u32) -> opcode::Write;
    fn fsync(self) -> opcode::Fsync;
    fn fallocate(self, len: u64) -> opcode::Fallocate;
}

macro_rules! into_fd {
    ($kind:ty) => {
        impl IntoFd for $kind {
            #[inline]
            fn read_fixed(self, start: *mut u8, len: u32, buffer: u16) -> opcode::ReadFixed {
                opcode::ReadFixed::new(self, start, len, buffer)
            }
            #[inline]
            fn write_fixed(self, start: *const u8, len: u32, buffer: u16) -> opcode::WriteFixed {
                opcode::WriteFixed::new(self, start, len, buffer)
            }
            #[inline]
            fn read(self, start: *mut u8, len: u32) -> opcode::Read {
                opcode::Read::new(self, start, len)
            }
            #[inline]
            fn write(self, start: *const u8, len: u32) -> opcode::Write {
                opcode::Write::new(self, start, len)
            }
            fn fsync(self) -> opcode::Fsync {
                opcode::Fsync::new(self)
            }
            fn fallocate(self, len: u64) -> opcode::Fallocate {
                opcode::Fallocate::new(self, len)
            }
        }
    };
}

into_fd!(Fixed);
into_fd!(Fd);
