//! The hot half: I/Os go into slots, slots are tags, tags come back.

use std::sync::Arc;

use spdk_sys::bindings::{self, fs_queue_options};
use spdk_sys::{Queue as Pairs, SubmitError};

use crate::base::clock::Clock;
use crate::base::spdk::{Priority, SpdkOptions, WriteMode};
use crate::base::{Op, Status};
use crate::engine::ranges::{TrimRange, carried};
use crate::engine::{
    BufferArea, Completion, EngineError, EngineOptions, Io, Queue, QueueConfig, QueueError, Wait,
};

use super::Namespace;
use super::session::{self, Held};

/// No command: the target is not open for it.
const FORBIDDEN: u32 = u32::MAX;
/// From so many I/Os in flight on, throughput counts for more than some nanoseconds.
const DEEP: u32 = 16;
/// Pauses of the processor between two looks then. Over vfio-user, whose device is another core, four were
/// worth a tenth to a quarter at iodepth 128; 64 cost as much.
const PAUSES: u32 = 4;
/// Of commands without data, which SPDK does not split (NLB has 16 bits, NVM Command Set 1.0, 3.2).
const MOST_BLOCKS: u32 = 65_536;

/// The queue of [`super::Spdk`].
pub struct SpdkQueue {
    // Closed before the I/Os in flight are let go.
    pairs: Pairs,
    /// I/Os in flight, by the number of their buffer, which is their tag.
    slots: Box<[Option<Io>]>,
    in_flight: u32,
    depth: u32,
    /// Completions that the driver has brought and that have not been taken.
    ready: u32,
    /// What was refused within `submit`.
    refused: Vec<Completion>,
    /// The shim's command for each `Op`, or `FORBIDDEN`.
    commands: [u32; 4],
    /// By target: bytes of an LBA as a power of two.
    lba_shifts: Box<[u32]>,
    /// Addresses that the device can reach.
    memory: std::ops::Range<usize>,
    /// Submitted since the doorbell.
    uncommitted: bool,
    /// The driver waits for the doorbell, instead of ringing it for each command.
    delays: bool,
    controllers: Box<[Arc<Held>]>,
}

impl SpdkQueue {
    pub(super) fn new(
        namespaces: &[Namespace],
        options: &EngineOptions,
        config: &QueueConfig,
        buffers: &BufferArea,
    ) -> Result<(SpdkQueue, Vec<String>), EngineError> {
        if !buffers.is_of_device() {
            return Err(EngineError::new("spdk takes buffers that its engine has made"));
        }
        let depth = config.depth;
        let mut pairs = Pairs::new(&pair_options(options, depth.max(buffers.count()), buffers.len()))
            .map_err(|errno| trouble("make a queue", errno, ""))?;
        let few = [WriteMode::Zeroes, WriteMode::Uncorrectable, WriteMode::Verify];
        let mut notes = Vec::new();
        for (target, namespace) in (0..).zip(namespaces) {
            let name = &namespace.name;
            if few.contains(&options.spdk.write_mode) && buffers.len() / namespace.lba_bytes > MOST_BLOCKS {
                return Err(EngineError::new(format!(
                    "{name}: a command of this write_mode takes at most {MOST_BLOCKS} blocks: lower bs"
                )));
            }
            pairs.add(Arc::clone(&namespace.held.controller), namespace.nsid).map_err(|errno| {
                let advice = match errno {
                    libc::EAGAIN => {
                        ": has the controller a queue left? Lower numjobs, or ask for more with num_io_queues"
                    }
                    libc::ENOMEM => {
                        ": not enough hugepage memory; lower iodepth, bs or numjobs, or reserve more"
                    }
                    _ => "",
                };
                trouble(
                    &format!("make a queue pair on {name}"),
                    errno,
                    &format!("{}{advice}", session::said()),
                )
            })?;
            let entries = pairs.entries(target);
            // A full ring holds one less than it has entries (NVMe Base 2.0, 3.3.1.5).
            if entries <= depth {
                notes.push(format!(
                    "{name}: the submission queue has {entries} entries: of {depth} I/Os in flight {} wait in the driver",
                    depth - entries + 1
                ));
            }
        }
        let queue = SpdkQueue {
            pairs,
            slots: (0..buffers.count()).map(|_| None).collect(),
            in_flight: 0,
            depth,
            ready: 0,
            refused: Vec::with_capacity(depth as usize),
            commands: commands(options),
            lba_shifts: namespaces.iter().map(|namespace| namespace.lba_bytes.trailing_zeros()).collect(),
            memory: buffers.range(),
            uncommitted: false,
            delays: delays(options, depth),
            controllers: namespaces.iter().map(|namespace| Arc::clone(&namespace.held)).collect(),
        };
        Ok((queue, notes))
    }

    /// Hands `io` to the driver; `Err` with the status where it is refused for good, and `Ok(false)`
    /// where there is no room.
    #[inline]
    fn hand_over(&mut self, io: &mut Io) -> Result<bool, Status> {
        let command = self.commands[io.op as usize];
        let broken =
            io.moved > io.len || (matches!(io.op, Op::Read | Op::Write) && io.len as usize > io.buffer.len());
        let shift = match self.lba_shifts.get(usize::from(io.target)) {
            Some(&shift) if !broken => shift,
            // A caller that breaks the rules. No panic: what is before it in the batch is submitted already.
            _ => return Err(Status::from_errno(libc::EINVAL)),
        };
        let (offset, len) = (io.offset.saturating_add(u64::from(io.moved)), io.len - io.moved);
        let start = io.buffer.as_mut_ptr();
        let ours = self.memory.contains(&start.addr());
        let whole = (offset | u64::from(len)) & ((1 << shift) - 1) == 0;
        let empty = len == 0 && io.op != Op::Flush;
        if command >= bindings::FS_OP_DEALLOCATE_RANGES
            || !ours
            || !whole
            || empty
            || offset > i64::MAX as u64
        {
            if command == bindings::FS_OP_DEALLOCATE_RANGES && ours {
                return self.hand_over_ranges(io, shift);
            }
            let errno = if command == FORBIDDEN { libc::EBADF } else { libc::EINVAL };
            return Err(Status::from_errno(errno));
        }
        let buffer = start.wrapping_add(io.moved as usize);
        let (target, lba, blocks) = (u32::from(io.target), offset >> shift, len >> shift);
        let tag = io.buffer.id();
        // SAFETY: the target was added, as it has a shift; the tag is the number of a buffer of the area
        // that the queue was made for, and whoever holds a buffer holds it alone, so that it is not in
        // flight; it has `len` bytes (`Io`'s promise), and stays in its slot until the tag comes back.
        // If this queue is dropped before, the buffer is not given back, and its area is leaked.
        taken(unsafe { self.pairs.submit(command, target, buffer, lba, blocks, tag) })
    }

    /// The same for a deallocate whose ranges stand in its buffer, which is one of the area.
    #[inline(never)]
    fn hand_over_ranges(&mut self, io: &mut Io, shift: u32) -> Result<bool, Status> {
        let broken = Status::from_errno(libc::EINVAL);
        let middle = io.buffer.len() / 2;
        let (theirs, ours) = io.buffer.split_at_mut(middle);
        let ranges = carried(theirs, io.len).ok_or(broken)?;
        let mut count = 0;
        for (TrimRange { offset, len }, place) in ranges.zip(ours.chunks_exact_mut(16)) {
            let end = offset.checked_add(u64::from(len)).filter(|&end| end <= i64::MAX as u64);
            if end.is_none() || (offset | u64::from(len)) & ((1 << shift) - 1) != 0 {
                return Err(broken);
            }
            // Context attributes, length in blocks, first block.
            place[..4].fill(0);
            place[4..8].copy_from_slice(&(len >> shift).to_le_bytes());
            place[8..].copy_from_slice(&(offset >> shift).to_le_bytes());
            count += 1;
        }
        let (command, target, tag) =
            (bindings::FS_OP_DEALLOCATE_RANGES, u32::from(io.target), io.buffer.id());
        let ranges = io.buffer[middle..].as_mut_ptr();
        // SAFETY: as in `hand_over`; the ranges were put into the buffer just now, so many.
        taken(unsafe { self.pairs.submit(command, target, ranges, 0, count, tag) })
    }

    #[cold]
    fn refuse(&mut self, batch: &mut Vec<Io>, status: Status) {
        let io = batch.remove(0);
        self.refused.push(Completion { io, status, bytes: 0, done_ns: 0 });
    }

    /// Moves what has come back into `done`, until it has `limit`.
    #[inline]
    fn take(&mut self, limit: usize, done: &mut Vec<Completion>) {
        while done.len() < limit {
            match self.refused.pop() {
                Some(completion) => done.push(completion),
                None => break,
            }
        }
        let count = (self.ready as usize).min(limit.saturating_sub(done.len()));
        if count == 0 {
            return;
        }
        let slots = &mut self.slots;
        done.extend(self.pairs.done()[..count].iter().map(|entry| {
            let io = slots[entry.tag as usize].take().expect("the shim reports each tag in flight once");
            let status = status_of(entry.status);
            let bytes = if status.is_ok() { io.len - io.moved } else { 0 };
            Completion { io, status, bytes, done_ns: 0 }
        }));
        self.pairs.consume(count);
        self.ready -= count as u32;
        self.in_flight -= count as u32;
    }

    #[inline]
    fn ring(&mut self) -> Result<(), QueueError> {
        self.uncommitted = false;
        match self.pairs.poll(0) {
            Ok(ready) => {
                self.ready = ready;
                Ok(())
            }
            Err(errno) => Err(self.death(errno)),
        }
    }

    /// What the death of a queue pair is called: its controller is gone, whatever the driver's errno.
    #[cold]
    fn death(&mut self, errno: i32) -> QueueError {
        self.ready = self.pairs.done().len() as u32;
        // Of several nobody knows here which one it was.
        if let [held] = &*self.controllers {
            held.lost_queue();
        }
        let gone = errno == libc::ENXIO || self.controllers.iter().any(|held| held.is_gone());
        QueueError { status: Status::from_errno(if gone { libc::ENODEV } else { errno }) }
    }
}

impl Queue for SpdkQueue {
    const BLOCKING: bool = false;
    const HAS_DOORBELL: bool = true;

    #[inline]
    fn submit(&mut self, batch: &mut Vec<Io>) {
        let mut taken = 0;
        let mut refusal = None;
        let room = (self.depth - self.in_flight) as usize;
        for io in batch.iter_mut().take(room) {
            match self.hand_over(io) {
                Ok(true) => taken += 1,
                Ok(false) => break,
                Err(status) => {
                    refusal = Some(status);
                    break;
                }
            }
        }
        self.in_flight += taken as u32;
        for io in batch.drain(..taken) {
            let slot = io.buffer.id() as usize;
            self.slots[slot] = Some(io);
        }
        self.uncommitted |= taken > 0;
        if let Some(status) = refusal {
            self.refuse(batch, status);
        }
    }

    #[inline]
    fn commit(&mut self) -> Result<(), QueueError> {
        if self.uncommitted && self.delays { self.ring() } else { Ok(()) }
    }

    #[inline]
    fn poll(&mut self, _wait: Wait, max: usize, done: &mut Vec<Completion>) -> Result<(), QueueError> {
        // The doorbell has brought some already.
        let alive = if self.ready == 0 { self.ring() } else { Ok(()) };
        if self.ready > 0 || !self.refused.is_empty() {
            let limit = done.len() + max;
            self.take(limit, done);
        } else if self.in_flight >= DEEP {
            // The device writes where this looks: asking it all the time only keeps it from that.
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
        }
        alive
    }

    fn stop(&mut self, timeout_ns: u64, done: &mut Vec<Completion>) {
        let clock = Clock::get();
        let end_ns = clock.now_ns().saturating_add(timeout_ns);
        loop {
            let alive = self.ring().is_ok();
            self.take(usize::MAX, done);
            if self.in_flight == 0 || !alive || clock.now_ns() >= end_ns {
                break;
            }
            std::hint::spin_loop();
        }
        if self.in_flight > 0 {
            // Deletes the queue pairs: what the device still has is aborted.
            self.pairs.close();
            self.ready = self.pairs.done().len() as u32;
            self.take(usize::MAX, done);
        }
    }
}

/// What became of an I/O that was submitted; `Ok(false)` where there was no room.
#[inline]
fn taken(result: Result<(), SubmitError>) -> Result<bool, Status> {
    match result {
        Ok(()) => Ok(true),
        Err(SubmitError::Full) => Ok(false),
        // The next poll says that the queue is dead, and everything comes back from `stop`.
        Err(SubmitError::Dead) => Ok(false),
        // A namespace that is gone is refused with EINVAL.
        Err(SubmitError::Refused(libc::EINVAL)) => Err(Status::from_errno(libc::ENXIO)),
        Err(SubmitError::Refused(errno)) => Err(Status::from_errno(errno)),
    }
}

/// The status field of a completion without its phase bit (NVMe Base 2.0, figure 93).
#[inline]
fn status_of(field: u16) -> Status {
    if field & 0x7ff == 0 { Status::OK } else { failure(field) }
}

#[cold]
fn failure(field: u16) -> Status {
    Status::from_nvme((field >> 8) as u8 & 7, field as u8, field & 0x4000 != 0)
}

#[cold]
fn trouble(what: &str, errno: i32, advice: &str) -> EngineError {
    let status = Status::from_errno(errno);
    EngineError { message: format!("cannot {what}: {status}{advice}"), errno: Some(errno), is_unsafe: false }
}

fn commands(options: &EngineOptions) -> [u32; 4] {
    let write = match options.spdk.write_mode {
        WriteMode::Write => bindings::FS_OP_WRITE,
        WriteMode::Zeroes => bindings::FS_OP_WRITE_ZEROES,
        WriteMode::Uncorrectable => bindings::FS_OP_WRITE_UNCORRECTABLE,
        WriteMode::Verify => bindings::FS_OP_VERIFY,
        WriteMode::Compare => bindings::FS_OP_COMPARE,
    };
    let open = |allowed: bool, command: u32| if allowed { command } else { FORBIDDEN };
    let mut commands = [FORBIDDEN; 4];
    commands[Op::Read as usize] = open(options.reads, bindings::FS_OP_READ);
    commands[Op::Write as usize] = open(options.writes, write);
    let several = options.trim_ranges > 1;
    let trim = if several { bindings::FS_OP_DEALLOCATE_RANGES } else { bindings::FS_OP_DEALLOCATE };
    commands[Op::Deallocate as usize] = open(options.writes, trim);
    commands[Op::Flush as usize] = bindings::FS_OP_FLUSH;
    commands
}

fn pair_options(options: &EngineOptions, depth: u32, largest_io: u32) -> fs_queue_options {
    let spdk = &options.spdk;
    let (read_flags, write_flags) = flags(spdk, options.sync || options.dsync);
    fs_queue_options {
        depth,
        io_queue_size: spdk.io_queue_size.unwrap_or(0),
        io_queue_requests: spdk.io_queue_requests.unwrap_or(0),
        priority: match spdk.wrr_priority {
            Priority::Urgent => 0,
            Priority::High => 1,
            Priority::Medium => 2,
            Priority::Low => 3,
        },
        delay_cmd_submit: delays(options, depth),
        read_flags,
        write_flags,
        apptag: spdk.apptag,
        apptag_mask: spdk.apptag_mask,
        largest_io,
    }
}

/// With one I/O in flight there is nothing to wait for.
fn delays(options: &EngineOptions, depth: u32) -> bool {
    options.spdk.delay_cmd_submit && depth > 1
}

/// What reads and writes carry.
fn flags(spdk: &SpdkOptions, write_fua: bool) -> (u32, u32) {
    let set = |on: bool, flag: u32| if on { flag } else { 0 };
    let protection = set(spdk.pi_act, bindings::FS_FLAG_PRACT)
        | set(spdk.pi_chk.guard, bindings::FS_FLAG_PRCHK_GUARD)
        | set(spdk.pi_chk.application, bindings::FS_FLAG_PRCHK_APPTAG)
        | set(spdk.pi_chk.reference, bindings::FS_FLAG_PRCHK_REFTAG);
    let fua = |on: bool| set(on, bindings::FS_FLAG_FUA);
    (protection | fua(spdk.readfua), protection | fua(write_fua))
}
