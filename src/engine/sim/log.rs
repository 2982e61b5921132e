//! The volatile cache: what has been stored and is not durable yet, oldest first, with what stood
//! there before. Taking it back in reverse gives what is durable.

use std::collections::VecDeque;

use crate::base::random;

use super::image::{Image, pieces};

/// A drive writes its cache out by itself when it holds more than this.
const CACHE_BYTES: usize = 64 << 20;

/// Bytes that replace others.
#[derive(Debug)]
pub struct Piece {
    pub offset: u64,
    pub old: Box<[u8]>,
    pub new: Box<[u8]>,
}

/// What one command changes.
#[derive(Debug)]
pub struct Change {
    /// What its fate at a power cut follows from.
    pub key: u64,
    /// Not longer than the atomic unit: it survives whole, or not at all.
    pub whole: bool,
    pub pieces: Vec<Piece>,
}

impl Change {
    /// What is left of the change if the power goes: everything, nothing, or some atomic units.
    pub fn survivors(self, unit: u32) -> Vec<Piece> {
        let fate = random::derive(self.key, 0xc07);
        match random::below(random::at(fate, u64::MAX), if self.whole { 2 } else { 4 }) {
            0 => return Vec::new(),
            1 => return self.pieces,
            _ => {}
        }
        let lands = |unit: u64| random::at(fate, unit) & 1 == 0;
        let part = |piece: &Piece| -> Vec<Piece> {
            let parts = pieces(piece.offset, piece.new.len(), u64::from(unit));
            let kept = parts.filter(|(unit, _)| lands(*unit)).map(|(_, range)| Piece {
                offset: piece.offset + range.start as u64,
                old: piece.old[range.clone()].into(),
                new: piece.new[range].into(),
            });
            kept.collect()
        };
        self.pieces.iter().flat_map(part).collect()
    }

    fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.new.len()).sum()
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Log {
    changes: VecDeque<Change>,
    /// How many changes there have ever been.
    end: u64,
    bytes: usize,
}

impl Log {
    /// A mark behind all changes so far.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Takes in a change that stands in the image already.
    pub fn push(&mut self, change: Change) {
        self.bytes += change.bytes();
        self.end += 1;
        self.changes.push_back(change);
        while self.bytes > CACHE_BYTES {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(change) = self.changes.pop_front() {
            self.bytes -= change.bytes();
        }
    }

    /// Whether there is anything before the mark.
    pub fn holds_before(&self, mark: u64) -> bool {
        mark > self.end - self.changes.len() as u64
    }

    /// What lies before the mark is durable.
    pub fn flush(&mut self, mark: u64) {
        while self.holds_before(mark) {
            self.pop();
        }
    }

    /// These bytes are durable whatever becomes of the changes here.
    pub fn etch(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        for piece in self.changes.iter_mut().flat_map(|change| &mut change.pieces) {
            let (from, to) = (piece.offset.max(offset), (piece.offset + piece.new.len() as u64).min(end));
            for at in from..to {
                let index = |start: u64| usize::try_from(at - start).unwrap_or(0);
                piece.old[index(piece.offset)] = bytes[index(offset)];
                piece.new[index(piece.offset)] = bytes[index(offset)];
            }
        }
    }

    /// The power goes: `image` is left with what is durable and what happens to survive.
    pub fn cut(&mut self, image: &mut Image, unit: u32) {
        for piece in self.changes.iter().rev().flat_map(|change| change.pieces.iter().rev()) {
            image.write(piece.offset, &piece.old);
        }
        for piece in self.changes.drain(..).flat_map(|change| change.survivors(unit)) {
            image.write(piece.offset, &piece.new);
        }
        self.bytes = 0;
    }
}
