//! Random sequences on one queue, held to a model.

use std::collections::HashMap;

use fio_spdk::base::{Op, random};
use fio_spdk::engine::{Buffer, Completion, Engine, Io, Queue, Wait};

use super::{BLOCK, Hand, errno, moves_data};

/// What was submitted and must come back just so.
#[derive(Debug)]
struct Expected {
    op: Op,
    target: u16,
    block: u64,
    buffer: u32,
    content: u64,
}

/// Plays a random sequence on one queue and holds every answer to a model.
pub struct Player<Q> {
    hand: Hand<Q>,
    depth: usize,
    moves_data: bool,
    dice: Dice,
    /// First block and number of blocks that are this player's, on each target.
    first: u64,
    blocks: u64,
    /// What each block holds: the key of its contents, 0 for zeros, `None` if a write was cancelled.
    model: HashMap<(u16, u64), Option<u64>>,
    out: HashMap<u64, Expected>,
    /// What the queue has not accepted yet.
    batch: Vec<Io>,
    accepted: usize,
}

struct Dice {
    key: u64,
    drawn: u64,
}

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.drawn += 1;
        random::below(random::at(self.key, self.drawn), n)
    }
}

fn content(key: u64) -> Vec<u8> {
    let word = |at: u64| if key == 0 { 0 } else { random::at(key, at) };
    (0..u64::from(BLOCK) / 8).flat_map(|at| word(at).to_le_bytes()).collect()
}

impl<Q: Queue> Player<Q> {
    /// A player of `blocks` blocks from `first` on.
    pub fn new<E: Engine<Queue = Q>>(
        engine: &E,
        depth: u32,
        first: u64,
        blocks: u64,
        seed: u64,
    ) -> Player<Q> {
        Player {
            hand: Hand::new(engine, depth, 2 * depth + 3).unwrap(),
            depth: depth as usize,
            moves_data: moves_data::<E>(),
            dice: Dice { key: seed, drawn: 0 },
            first,
            blocks,
            model: HashMap::new(),
            out: HashMap::new(),
            batch: Vec::new(),
            accepted: 0,
        }
    }

    /// Does something at random.
    pub fn step(&mut self) {
        match self.dice.below(8) {
            0..=2 => self.submit(),
            3 => self.hand.queue.commit().unwrap(),
            // Also without a commit before: nothing may be lost, and nobody may hang.
            4..=6 => self.poll(),
            _ if self.dice.below(4) == 0 => self.stop(),
            _ => {}
        }
    }

    fn submit(&mut self) {
        for _ in 0..self.dice.below(self.depth as u64 + 3) {
            if self.hand.free.is_empty() {
                break;
            }
            self.prepare();
        }
        let before: Vec<u64> = self.batch.iter().map(|io| io.sequence).collect();
        self.hand.queue.submit(&mut self.batch);
        let taken = before.len() - self.batch.len();
        assert_eq!(taken, before.len().min(self.depth - self.accepted), "as many as there is room for");
        let left: Vec<u64> = self.batch.iter().map(|io| io.sequence).collect();
        assert_eq!(left, before[taken..], "taken from the front");
        self.accepted += taken;
    }

    fn prepare(&mut self) {
        let target = self.dice.below(2) as u16;
        let block = self.first + self.dice.below(self.blocks);
        let busy =
            self.out.values().any(|out| out.op != Op::Flush && (out.target, out.block) == (target, block));
        let op = match self.dice.below(16) {
            0 => Op::Flush,
            1 => Op::Deallocate,
            2..=8 => Op::Write,
            _ => Op::Read,
        };
        if busy && op != Op::Flush {
            return;
        }
        let (offset, len) = if op == Op::Flush { (0, 0) } else { (block * u64::from(BLOCK), BLOCK) };
        let mut io = self.hand.io(op, offset, len);
        io.target = target;
        io.data_only = self.dice.below(2) == 0;
        let key = random::derive(self.dice.key, io.sequence) | 1;
        io.buffer[..BLOCK as usize].copy_from_slice(&content(key));
        let expected = Expected { op, target, block, buffer: io.buffer.id(), content: key };
        assert!(self.out.insert(io.sequence, expected).is_none());
        self.batch.push(io);
    }

    fn poll(&mut self) {
        let max = 1 + self.dice.below(2 * self.depth as u64) as usize;
        let min = self.dice.below(4).min(max as u64) as usize;
        let mut done = Vec::with_capacity(max);
        let timeout_ns = self.dice.below(300_000);
        self.hand.queue.poll(Wait { min, timeout_ns }, max, &mut done).unwrap();
        assert!(done.len() <= max);
        self.take(done, false);
    }

    fn stop(&mut self) {
        let mut done = Vec::with_capacity(self.depth);
        self.hand.queue.stop(10_000_000_000, &mut done);
        assert_eq!(done.len(), self.accepted, "stop gives back everything");
        self.take(done, true);
    }

    fn take(&mut self, done: Vec<Completion>, stopped: bool) {
        for Completion { io, status, bytes, .. } in done {
            let out = self.out.remove(&io.sequence).expect("accepted, and not back before");
            self.accepted -= 1;
            assert_eq!((io.op, io.target, io.buffer.id(), io.moved), (out.op, out.target, out.buffer, 0));
            let cancelled = status.errno() == errno(rustix::io::Errno::CANCELED);
            assert!(status.is_ok() || (stopped && cancelled), "{status} for {out:?}");
            if status.is_ok() {
                assert_eq!(bytes, io.len, "{out:?}");
            }
            let place = (out.target, out.block);
            let known = if status.is_ok() { Some(0) } else { None };
            match out.op {
                Op::Write => drop(self.model.insert(place, known.map(|_| out.content))),
                Op::Deallocate => drop(self.model.insert(place, known)),
                Op::Read if status.is_ok() && self.moves_data => {
                    if let Some(key) = self.model.get(&place).copied().unwrap_or(Some(0)) {
                        assert!(
                            io.buffer[..BLOCK as usize] == content(key),
                            "what was written is read: {out:?}"
                        );
                    }
                }
                _ => {}
            }
            if out.op == Op::Write || !self.moves_data {
                assert!(
                    io.buffer[..BLOCK as usize] == content(out.content),
                    "the buffer is as it was: {out:?}"
                );
            }
            self.hand.free.push(io.buffer);
        }
    }

    /// Everything comes back; then all buffers are here, each once.
    pub fn finish(mut self) {
        while !self.batch.is_empty() || self.accepted > 0 {
            self.hand.queue.submit(&mut self.batch);
            self.accepted = self.out.len() - self.batch.len();
            self.hand.queue.commit().unwrap();
            self.poll();
        }
        assert!(self.out.is_empty());
        let mut ids: Vec<u32> = self.hand.free.iter().map(Buffer::id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..self.hand.area.count()).collect::<Vec<_>>());
        self.hand.free.drain(..).for_each(|buffer| self.hand.area.give_back(buffer));
    }
}
