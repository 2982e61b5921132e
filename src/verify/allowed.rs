//! What may stand in one block: the mutations that touched it, down to the newest that must have survived.

use crate::base::Op;

use super::promises::State;

/// Candidates of a block that are kept. Of one with more, what is older than these may stand too.
pub const MOST_CANDIDATES: usize = 4096;
/// Candidates that are named in words.
const MOST_NAMED: usize = 8;

/// A mutation that may stand in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Write or deallocate.
    pub op: Op,
    /// Its number.
    pub sequence: u64,
    /// Where the whole I/O begins on the target.
    pub io_offset: u64,
    /// Length of the whole I/O.
    pub io_len: u32,
    /// What is known of it.
    pub state: State,
}

/// What may stand in one block: the mutations that touched it, newest first, down to the newest that
/// must have survived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Newest first. The last one is the floor, if there is one.
    pub candidates: Vec<Candidate>,
    /// Whether the last candidate must have survived: nothing older may stand. Otherwise whatever
    /// stood there before the run may stand there still.
    pub has_floor: bool,
    /// Writes issued so far.
    pub issued: u64,
    /// Writes that nobody counted were issued afterwards, of at most this many bytes: they may stand too.
    pub later_bytes: u64,
}

impl Allowed {
    /// Walks `chain` (newest first) down to the first mutation of which `survives` says that it must
    /// stand or have been overwritten.
    pub fn gather(
        chain: impl Iterator<Item = Candidate>,
        survives: impl Fn(&Candidate) -> bool,
        issued: u64,
    ) -> Allowed {
        let mut allowed = Allowed { issued, ..Allowed::default() };
        for candidate in chain {
            let floor = survives(&candidate);
            // Zeros may stand because of any trim: one of those left out speaks for all.
            let is_trim = |other: &Candidate| other.op == Op::Deallocate;
            let kept = allowed.candidates.len() < MOST_CANDIDATES
                || is_trim(&candidate) && !allowed.candidates.iter().any(is_trim);
            if kept || floor {
                allowed.candidates.push(candidate);
            }
            if floor {
                allowed.has_floor = true;
                break;
            }
        }
        allowed
    }

    /// What may stand there, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let newest = self.candidates.iter().take(MOST_NAMED);
        let mut parts: Vec<String> = newest.map(describe_candidate).collect();
        if let Some(last) = self.candidates.get(MOST_NAMED..).and_then(<[Candidate]>::last) {
            let between = self.candidates.len() - MOST_NAMED - 1;
            if between > 0 {
                parts.push(format!("{between} between"));
            }
            parts.push(describe_candidate(last));
        }
        if !self.has_floor {
            parts.push("what stood there before".to_owned());
        }
        parts.join(", or ")
    }

    /// Whether so many may stand here that some were left out.
    pub(super) fn is_cut_off(&self) -> bool {
        self.candidates.len() > MOST_CANDIDATES || self.candidates.len() == MOST_CANDIDATES && !self.has_floor
    }

    /// The promise that must be kept, in words.
    #[must_use]
    pub fn promise(&self) -> String {
        match self.candidates.last().filter(|_| self.has_floor) {
            Some(floor) => {
                let what = if floor.op == Op::Write { "write" } else { "trim" };
                let how = match floor.state {
                    State::Durable => "was made durable by a flush",
                    _ => "had completed",
                };
                format!("{what} {} {how}", floor.sequence)
            }
            None => "none: nothing had been promised here".to_owned(),
        }
    }
}

fn describe_candidate(candidate: &Candidate) -> String {
    let what = if candidate.op == Op::Write { "write" } else { "zeros of trim" };
    let how = match candidate.state {
        State::Unissued => "never issued",
        State::InFlight => "in flight",
        State::Failed => "failed",
        State::Unknown => "completed or failed: more writes failed than were told apart",
        State::Completed => "completed",
        State::Durable => "durable",
    };
    format!("{what} {} ({how})", candidate.sequence)
}
