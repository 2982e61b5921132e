//! Completes every I/O at once and moves no data: what remains is the tool's own cost.

use crate::base::Status;
use crate::base::premises::Premises;

use super::{
    BufferArea, Completion, Engine, EngineError, EngineOptions, Io, Queue, QueueConfig, QueueError, Target,
    TargetFacts, Targets, Wait,
};

/// Engine `null`.
#[derive(Debug)]
pub struct Null {
    facts: Vec<TargetFacts>,
}

/// The queue of [`Null`].
#[derive(Debug)]
pub struct NullQueue {
    in_flight: Vec<Io>,
    depth: usize,
}

impl Engine for Null {
    type Queue = NullQueue;
    const NAME: &'static str = "null";
    const TARGETS: Targets = Targets::MadeUp;

    fn open(targets: &[Target], _options: &EngineOptions) -> Result<Self, EngineError> {
        let facts = targets.iter().map(|target| TargetFacts {
            path: target.path.clone(),
            size_bytes: target.size_hint,
            lba_bytes: 1,
            is_block_device: false,
            premises: Premises::default(),
            known: None,
            pin: None,
        });
        Ok(Null { facts: facts.collect() })
    }

    fn facts(&self) -> &[TargetFacts] {
        &self.facts
    }

    fn queue(
        &self,
        config: &QueueConfig,
        _buffers: &BufferArea,
    ) -> Result<(NullQueue, Vec<String>), EngineError> {
        let depth = config.depth as usize;
        Ok((NullQueue { in_flight: Vec::with_capacity(depth), depth }, Vec::new()))
    }
}

impl Queue for NullQueue {
    const BLOCKING: bool = false;
    const HAS_DOORBELL: bool = false;

    #[inline]
    fn submit(&mut self, batch: &mut Vec<Io>) {
        let room = self.depth - self.in_flight.len();
        if self.in_flight.is_empty() && batch.len() <= room {
            // Nothing is copied; both vectors were made for a full queue.
            std::mem::swap(&mut self.in_flight, batch);
        } else if batch.len() <= room {
            self.in_flight.append(batch);
        } else {
            self.in_flight.extend(batch.drain(..room));
        }
    }

    #[inline]
    fn commit(&mut self) -> Result<(), QueueError> {
        Ok(())
    }

    #[inline]
    fn poll(&mut self, _wait: Wait, max: usize, done: &mut Vec<Completion>) -> Result<(), QueueError> {
        let count = self.in_flight.len().min(max);
        done.extend(self.in_flight.drain(..count).map(complete));
        Ok(())
    }

    fn stop(&mut self, _timeout_ns: u64, done: &mut Vec<Completion>) {
        done.extend(self.in_flight.drain(..).map(complete));
    }
}

#[inline]
fn complete(io: Io) -> Completion {
    let bytes = io.len - io.moved;
    Completion { io, status: Status::OK, bytes, done_ns: 0 }
}
