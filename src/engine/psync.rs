//! pread(2) and pwrite(2): one I/O at a time, each complete when `submit` returns.

use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::base::Op;
use crate::base::clock::Clock;
use crate::base::premises::Premises;

use super::kernel_file::{KernelFile, invalidate_all, open_all, outcome, premises_now};
use super::{
    BufferArea, Completion, Engine, EngineError, EngineOptions, Io, Queue, QueueConfig, QueueError, Target,
    TargetFacts, Targets, Wait,
};

/// Engine `psync`.
#[derive(Debug)]
pub struct Psync {
    files: Arc<[KernelFile]>,
    facts: Vec<TargetFacts>,
}

/// The queue of [`Psync`]: I/Os that have been done and not yet polled.
#[derive(Debug)]
pub struct PsyncQueue {
    files: Arc<[KernelFile]>,
    done: Vec<Completion>,
    depth: usize,
    clock: Clock,
}

impl Engine for Psync {
    type Queue = PsyncQueue;
    const NAME: &'static str = "psync";
    const TARGETS: Targets = Targets::Files;

    fn open(targets: &[Target], options: &EngineOptions) -> Result<Self, EngineError> {
        let (files, facts) = open_all(targets, options)?;
        Ok(Psync { files: files.into(), facts })
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
        _buffers: &BufferArea,
    ) -> Result<(PsyncQueue, Vec<String>), EngineError> {
        let depth = config.depth as usize;
        let files = Arc::clone(&self.files);
        Ok((PsyncQueue { files, done: Vec::with_capacity(depth), depth, clock: Clock::get() }, Vec::new()))
    }
}

impl Queue for PsyncQueue {
    const BLOCKING: bool = true;
    const HAS_DOORBELL: bool = false;

    #[inline]
    fn submit(&mut self, batch: &mut Vec<Io>) {
        let room = batch.len().min(self.depth - self.done.len());
        for mut io in batch.drain(..room) {
            let start_ns = self.clock.now_ns();
            let result = perform(&self.files, &mut io);
            let done_ns = self.clock.now_ns();
            // A short transfer that is being continued keeps the time at which it began.
            if io.moved == 0 {
                io.submit_ns = start_ns;
            }
            let (status, bytes) = outcome(result);
            self.done.push(Completion { io, status, bytes, done_ns });
        }
    }

    #[inline]
    fn commit(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    #[inline]
    fn poll(&mut self, _wait: Wait, max: usize, done: &mut Vec<Completion>) -> Result<(), QueueError> {
        let count = self.done.len().min(max);
        done.extend(self.done.drain(..count));
        Ok(())
    }

    fn stop(&mut self, _timeout_ns: u64, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }
}

#[inline]
fn perform(files: &[KernelFile], io: &mut Io) -> Result<usize, Errno> {
    let file = &files[usize::from(io.target)];
    let (from, to) = (io.moved as usize, io.len as usize);
    let offset = io.offset + u64::from(io.moved);
    match io.op {
        Op::Read => rustix::io::pread(file, &mut io.buffer[from..to], offset),
        Op::Write => file.write(&io.buffer[from..to], offset),
        Op::Deallocate => file.deallocate(offset, (to - from) as u64).map(|()| to - from),
        Op::Flush if io.len > 0 => file.sync_range(offset, io.len).map(|()| to - from),
        Op::Flush => file.flush(io.data_only).map(|()| to - from),
    }
}
