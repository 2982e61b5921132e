//! Holds a block against what the ledger says may stand there. Touches no device: bytes and promises
//! in, one verdict out, in the order integrity, identity, age.

use crate::base::Op;
use std::ops::Range;

use crate::base::atomic::{AtomicSource, AtomicWrites};
use crate::base::verify::{Finding, Method, RunId, Verdict};

use super::block::{BlockFormat, HEADER_BYTES, Header, MAGIC, Sealer, TAG_BYTES, TAG_VERSION, Tag, VERSION};
use super::checksum;
use super::damage::Damage;
use super::diagnose;
use super::payload::{Payload, SECTOR, STAMP_BYTES, Stamp, TAIL_BYTES, Writer};
use super::promises::State;

pub use super::allowed::{Allowed, Candidate, MOST_CANDIDATES};

/// What a part of a block shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The candidate at this position.
    Candidate(usize),
    /// What was there before the run.
    Before,
    /// Nothing that is known.
    Other,
}

/// What a target is, as far as judging goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetIdentity {
    /// The identity in tags.
    pub id: u64,
    /// Logical block in bytes.
    pub lba_bytes: u32,
    /// Which writes are stored whole or not at all if the power fails.
    pub atomic: AtomicWrites,
    /// The longest write of the job in bytes.
    pub longest_write: u32,
}

impl TargetIdentity {
    /// The logical block in bytes; 512 where the target has none of its own (a file).
    #[must_use]
    pub fn lba(&self) -> usize {
        (self.lba_bytes as usize).max(super::payload::SECTOR)
    }

    /// The part of the write of `len` bytes at `offset` that has byte `at` in it and is stored whole or not
    /// at all, and what promises that.
    #[must_use]
    pub fn whole(&self, offset: u64, len: u32, at: u64) -> (Range<u64>, AtomicSource) {
        self.atomic.whole(u32::try_from(self.lba()).unwrap_or(u32::MAX), offset, len, at)
    }

    /// What is whole inside one block, from its multiples on the target, in bytes.
    pub(super) fn atomic(&self) -> usize {
        let lba = u32::try_from(self.lba()).unwrap_or(u32::MAX);
        self.atomic.aligned_unit(lba, self.longest_write) as usize
    }
}

/// Judges the blocks of one worker.
#[derive(Clone, Debug)]
pub struct Judge {
    pub(super) sealer: Sealer,
    pub(super) targets: Box<[TargetIdentity]>,
    /// Whether the run's id is known; an audit knows none.
    pub(super) knows_run: bool,
    compare_sequence: bool,
    pub(super) compare_seed: bool,
    must_be_zero: bool,
    first_word: u64,
    front: usize,
}

/// Where a block was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Which of the worker's targets.
    pub target: u16,
    /// Byte offset on the target.
    pub offset: u64,
}

impl Judge {
    /// Judges what `sealer` makes, on `targets`.
    #[must_use]
    pub fn new(sealer: Sealer, targets: Box<[TargetIdentity]>, knows_run: bool) -> Judge {
        let format = &sealer.format;
        let first_word = u64::from(MAGIC)
            | u64::from(VERSION) << 16
            | u64::from(format.method as u8) << 24
            | u64::from(format.interval) << 32;
        let front = format.front_bytes();
        Judge {
            sealer,
            targets,
            knows_run,
            compare_sequence: true,
            compare_seed: true,
            must_be_zero: false,
            first_word,
            front,
        }
    }

    /// fio's `verify_write_sequence`, `verify_header_seed` and `trim_verify_zero`.
    #[must_use]
    pub fn comparing(mut self, sequence: bool, seed: bool, zeros: bool) -> Judge {
        (self.compare_sequence, self.compare_seed, self.must_be_zero) = (sequence, seed, zeros);
        self
    }

    /// Makes the run known that is judged.
    pub fn adopt(&mut self, run: RunId) {
        self.sealer.run = run;
        self.knows_run = true;
    }

    /// The format of the blocks.
    #[must_use]
    pub fn format(&self) -> &BlockFormat {
        &self.sealer.format
    }

    /// How many targets there are.
    #[must_use]
    pub fn targets(&self) -> u16 {
        u16::try_from(self.targets.len()).unwrap_or(u16::MAX)
    }

    /// What is known of target number `target`.
    #[must_use]
    pub fn target(&self, target: u16) -> &TargetIdentity {
        &self.targets[usize::from(target)]
    }

    /// Whether a write of several blocks, or of a part of a logical block, can be judged as a whole: each
    /// logical block names its write, and the sequence of writes counts.
    #[must_use]
    pub fn judges_whole_writes(&self, longest: u64) -> bool {
        let format = &self.sealer.format;
        let is_whole = |target: &TargetIdentity| {
            let block = u64::from(format.interval);
            let lba = target.lba() as u64;
            let atomic = &target.atomic;
            let most = atomic.unit_bytes.max(atomic.write_bytes).max(atomic.crossing_bytes);
            longest > lba && u64::from(most) > lba || !block.is_multiple_of(lba) && longest > block
        };
        format.has_tag()
            && format.method != Method::Null
            && self.compare_sequence
            && self.targets.iter().any(is_whole)
    }

    /// What the logical blocks of a block show of what may stand there.
    #[must_use]
    pub fn shown(&self, block: &[u8], place: Place, allowed: &Allowed) -> Vec<(Range<usize>, Shown)> {
        let sequence = Header::read(block).unwrap_or_default().sequence;
        let is_named = |c: &Candidate| c.op == Op::Write && c.sequence == sequence;
        if let Some(at) = allowed.candidates.iter().position(is_named)
            && self.is_write(block, place, sequence, allowed.candidates[at].io_offset)
        {
            return vec![(0..block.len(), Shown::Candidate(at))];
        }
        Damage::of(self, block, place, allowed).shown()
    }

    /// The identity of target number `target`.
    #[inline]
    #[must_use]
    pub fn target_id(&self, target: u16) -> u64 {
        self.targets[usize::from(target)].id
    }

    /// The block that write `sequence` would have left at `place`, with what does not follow from
    /// the workload (time, epoch) taken from the block that was `received`; as on the medium.
    #[must_use]
    pub fn expected(&self, received: &[u8], place: Place, sequence: u64, allowed: &Allowed) -> Vec<u8> {
        Damage::of(self, received, place, allowed).expected(sequence)
    }

    /// Whether trimmed blocks are judged at all.
    #[must_use]
    pub fn judges_trims(&self) -> bool {
        self.must_be_zero
    }

    /// Whether what is read is compared with anything: `verify = "null"` compares nothing.
    #[inline]
    #[must_use]
    pub fn compares(&self) -> bool {
        self.sealer.format.method != Method::Null
    }

    /// Whether some write, or zeros of a trim that is judged, must be found where `allowed` holds: what
    /// was there before the run would be a violation.
    #[must_use]
    pub fn demands(&self, allowed: &Allowed) -> bool {
        let is_known_trim = |candidate: &Candidate| candidate.op == Op::Deallocate && candidate.io_len > 0;
        let permits_all = !self.must_be_zero && allowed.candidates.iter().any(is_known_trim);
        self.compares() && allowed.has_floor && !permits_all
    }

    /// Whether plainly the write `sequence`, of the I/O at `io_offset`, stands in `block`: the usual
    /// case, at the speed of the checksum. Where the header has a place of its own
    /// ([`BlockFormat::unswap_front`]) it must have been put back.
    #[inline]
    #[must_use]
    pub fn is_write(&self, block: &[u8], place: Place, sequence: u64, io_offset: u64) -> bool {
        let format = &self.sealer.format;
        if format.method == Method::Null {
            return true;
        }
        if format.pattern.is_some() || !format.method.has_header() {
            return self.is_patterned(block, place, sequence, io_offset);
        }
        let Some(header) = Header::read(block) else { return false };
        let Some(tag) = block.get(self.front..).and_then(Tag::read) else { return false };
        self.starts_well(&header, place)
            && header.worker == self.sealer.worker
            && (!self.compare_sequence || header.sequence == sequence)
            && (!self.compare_seed || header.seed == self.sealer.seed(header.sequence))
            && tag.run == self.sealer.run
            && tag.target == self.targets[usize::from(place.target)].id
            && Header::crc_of(block) == Some(header.crc)
            && self.digest_fits(block)
    }

    /// The tag of a block, if blocks of this format have one. With a pattern anything may stand there.
    #[inline]
    pub(super) fn tag(&self, block: &[u8]) -> Option<Tag> {
        if !self.sealer.format.has_tag() {
            return None;
        }
        block.get(self.front..).and_then(Tag::read)
    }

    #[inline]
    fn starts_well(&self, header: &Header, place: Place) -> bool {
        let word = u64::from(header.magic)
            | u64::from(header.version) << 16
            | u64::from(header.method) << 24
            | u64::from(header.len) << 32;
        word == self.first_word && header.offset == place.offset
    }

    #[inline]
    pub(super) fn digest_fits(&self, block: &[u8]) -> bool {
        if let (Some(header), Some(tag)) = (Header::read(block), self.tag(block))
            && self.sealer.has_made(block, &header, &tag)
        {
            return true;
        }
        let Some((front, covered)) = block.split_at_checked(self.front.max(HEADER_BYTES)) else {
            return false;
        };
        let mut digest = [0; 128];
        let len = front.len() - HEADER_BYTES;
        checksum::digest(self.sealer.format.method, covered, &mut digest);
        digest[..len] == front[HEADER_BYTES..] && (len == 0 || self.is_of_one_write(block))
    }

    /// Whether the payload is that of the write in the header. The digest does not cover the header:
    /// where a block tears just behind it, both are right, and not of one write.
    #[inline]
    fn is_of_one_write(&self, block: &[u8]) -> bool {
        let (Some(tag), Some(header)) = (self.tag(block), Header::read(block)) else { return true };
        #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
        let of = Writer { run: tag.run.0 as u32, worker: header.worker, sequence: header.sequence };
        if let Some(second) = block.get(SECTOR..).filter(|second| second.len() >= STAMP_BYTES) {
            return Stamp::read(second).is_some_and(|stamp| stamp.writer == of);
        }
        let first = &block[..block.len().min(SECTOR)];
        if tag.version == TAG_VERSION && first.len() >= self.front + TAG_BYTES + TAIL_BYTES {
            return Stamp::sequence_of_tail(first, of, header.offset, 0) == Some(of.sequence);
        }
        let from = self.front + TAG_BYTES;
        block
            .get(from..block.len().min(from + 8))
            .is_some_and(|bytes| Payload::default().leaves(bytes, header.seed, header.offset, from))
    }

    /// Whether some write between `after` and `before` plainly stands in `block`, of whichever I/O of
    /// up to `longest` bytes: where blocks have no header to say which one, any does.
    #[must_use]
    pub fn is_write_between(
        &self,
        block: &[u8],
        place: Place,
        (after, before): (u64, u64),
        longest: u64,
    ) -> bool {
        let format = &self.sealer.format;
        let sequence = if format.method.has_header() {
            Header::read(block).unwrap_or_default().sequence
        } else {
            after.saturating_add(1)
        };
        if sequence <= after || sequence >= before {
            return false;
        }
        if format.pattern.is_none() {
            return self.is_write(block, place, sequence, place.offset);
        }
        // Where the I/O began shows in its pattern alone.
        let mut origins = self.origins(place, longest);
        self.header_fits(block, place, sequence)
            && origins.any(|origin| self.pattern_fits(block, place, origin))
    }

    /// Where an I/O of up to `longest` bytes may have begun that has `place` in it.
    pub(super) fn origins(&self, place: Place, longest: u64) -> impl Iterator<Item = u64> + use<> {
        let reach = longest.saturating_sub(1).min(place.offset);
        (0..=reach).step_by(self.sealer.format.interval as usize).map(move |back| place.offset - back)
    }

    #[inline(never)]
    fn is_patterned(&self, block: &[u8], place: Place, sequence: u64, io_offset: u64) -> bool {
        self.header_fits(block, place, sequence) && self.pattern_fits(block, place, io_offset)
    }

    /// Whether the header of a block with a pattern, if it has one, and its digest are those of write
    /// `sequence`.
    fn header_fits(&self, block: &[u8], place: Place, sequence: u64) -> bool {
        if !self.sealer.format.method.has_header() {
            return true;
        }
        let Some(header) = Header::read(block) else { return false };
        self.starts_well(&header, place)
            && header.worker == self.sealer.worker
            && (!self.compare_sequence || header.sequence == sequence)
            && (!self.compare_seed || header.seed == self.sealer.seed(header.sequence))
            && Header::crc_of(block) == Some(header.crc)
            && self.digest_fits(block)
    }

    /// Whether the pattern, if there is one, stands behind header and digest.
    pub(super) fn pattern_fits(&self, block: &[u8], place: Place, io_offset: u64) -> bool {
        let Some(pattern) = &self.sealer.format.pattern else { return true };
        let Some(filled) = block.get(self.front..) else { return false };
        pattern.fits(filled, place.offset + self.front as u64, io_offset)
    }

    /// Whether a part of `block` names a write of this worker and run, at its place.
    #[must_use]
    pub fn names_a_write(&self, block: &[u8], place: Place) -> bool {
        !diagnose::named_by(self, block, place).is_empty()
    }

    /// Adds to what may stand in `block` whatever stands there of writes that were issued after the
    /// last that is known of, of up to `longest` bytes; where the worker `trims`, zeros too.
    pub fn allow_later(
        &self,
        block: &[u8],
        place: Place,
        (trims, longest): (bool, u64),
        allowed: &mut Allowed,
    ) {
        allowed.later_bytes = longest;
        let mut later = diagnose::named_by(self, block, place);
        later.retain(|&(sequence, ..)| sequence >= allowed.issued);
        if self.sealer.format.pattern.is_some() {
            // Where such an I/O began shows in its pattern alone.
            let origin = self.origins(place, longest).find(|&origin| self.pattern_fits(block, place, origin));
            if !self.sealer.format.method.has_header() && origin.is_some() {
                later.push((allowed.issued, place.offset, 0));
            }
            later.iter_mut().for_each(|one| one.1 = origin.unwrap_or(one.1));
        }
        // What the header says of an I/O comes first, and counts.
        later.sort_by_key(|&(sequence, ..)| std::cmp::Reverse(sequence));
        later.dedup_by_key(|&mut (sequence, ..)| sequence);
        let of = |op: Op, sequence: u64, io_offset: u64, io_len: u32| Candidate {
            op,
            sequence,
            io_offset,
            io_len,
            state: State::InFlight,
        };
        let trim = trims.then(|| of(Op::Deallocate, allowed.issued, place.offset, 0));
        let writes = later.into_iter().map(|(number, at, len)| of(Op::Write, number, at, len));
        allowed.candidates.splice(0..0, writes.chain(trim));
    }

    /// `allowed`, of which some was left out, with whatever of that parts of `block` name.
    fn with_left_out(&self, block: &[u8], place: Place, allowed: &Allowed) -> Allowed {
        let mut whole = allowed.clone();
        let is_write = |candidate: &&Candidate| candidate.op == Op::Write;
        let oldest_kept = allowed.candidates.iter().take(MOST_CANDIDATES).rfind(is_write);
        let floor = allowed.candidates.last().filter(|floor| allowed.has_floor && floor.op == Op::Write);
        let at = whole.candidates.len() - usize::from(allowed.has_floor);
        let mut named = diagnose::named_by(self, block, place);
        named.retain(|&(sequence, ..)| {
            floor.is_none_or(|floor| sequence > floor.sequence)
                && oldest_kept.is_none_or(|kept| sequence < kept.sequence)
        });
        named.sort_by_key(|&(sequence, ..)| std::cmp::Reverse(sequence));
        named.dedup_by_key(|&mut (sequence, ..)| sequence);
        let left_out = named.into_iter().map(|(sequence, io_offset, io_len)| Candidate {
            op: Op::Write,
            sequence,
            io_offset,
            io_len,
            state: State::InFlight,
        });
        whole.candidates.splice(at..at, left_out);
        whole
    }

    /// The verdict on a block of which [`Judge::is_write`] did not say that all is well.
    #[must_use]
    pub fn judge(&self, block: &[u8], place: Place, allowed: &Allowed) -> Finding {
        let whole;
        let allowed = if allowed.is_cut_off() {
            whole = self.with_left_out(block, place, allowed);
            &whole
        } else {
            allowed
        };
        let mut finding = diagnose::examine(self, block, place, allowed);
        finding.allowed = allowed.describe();
        if finding.promise.is_empty() {
            finding.promise = allowed.promise();
        }
        finding
    }

    /// The verdict on a block about which no history is known, read as a part of an I/O at
    /// `io_offset`; `None` if it is plainly `ok`.
    #[must_use]
    pub fn audit(&self, block: &[u8], place: Place, io_offset: u64) -> Option<Finding> {
        if self.sealer.format.method == Method::Null || self.is_sound(block, place, io_offset) {
            return None;
        }
        Some(diagnose::audit(self, block, place, io_offset))
    }

    /// Whether a block is intact and where it says it should be, whoever wrote it.
    #[inline]
    fn is_sound(&self, block: &[u8], place: Place, io_offset: u64) -> bool {
        if !self.sealer.format.method.has_header() {
            return self.pattern_fits(block, place, io_offset);
        }
        let Some(header) = Header::read(block) else { return false };
        let target = self.targets[usize::from(place.target)].id;
        let tag = self.tag(block);
        self.starts_well(&header, place)
            && Header::crc_of(block) == Some(header.crc)
            && tag.is_none_or(|tag| tag.target == target && tag.is_known())
            && self.digest_fits(block)
            && self.pattern_fits(block, place, io_offset)
    }

    /// The run that wrote an intact block of ours at its own place, and when it was written
    /// (nanoseconds since 1970); for finding out which run there is to judge.
    #[must_use]
    pub fn run_of(&self, block: &[u8], place: Place) -> Option<(RunId, u64)> {
        if !self.sealer.format.has_tag() {
            return None;
        }
        let header = Header::read(block)?;
        let tag = block.get(self.front..).and_then(Tag::read)?;
        let ours = self.starts_well(&header, place)
            && tag.target == self.targets[usize::from(place.target)].id
            && header.worker == self.sealer.worker
            && Header::crc_of(block) == Some(header.crc)
            && self.digest_fits(block);
        let time = u64::from(header.seconds) * 1_000_000_000 + u64::from(header.nanoseconds);
        ours.then_some((tag.run, time))
    }

    /// Whether it is known which run is judged, or that makes no difference.
    #[must_use]
    pub fn knows_run(&self) -> bool {
        self.knows_run || !self.sealer.format.has_tag()
    }

    /// What is said of an intact block of this run at its own place: the verdict by age.
    pub(super) fn by_age(&self, sequence: u64, allowed: &Allowed) -> Verdict {
        if !self.compare_sequence {
            return Verdict::Ok;
        }
        let stands = |candidate: &Candidate| candidate.op == Op::Write && candidate.sequence == sequence;
        if let Some(at) = allowed.candidates.iter().position(stands) {
            return Judge::at_candidate(at, allowed);
        }
        // Without a known run in it, what stood there before is told by nothing but the lack of a promise.
        let is_ours = self.knows_run && self.format().has_tag();
        if !allowed.has_floor && (!is_ours || allowed.candidates.is_empty() && sequence < allowed.issued) {
            return Judge::before_all(allowed);
        }
        if sequence >= allowed.issued {
            return Verdict::FromTheFuture;
        }
        let floor = allowed.candidates.last().filter(|_| allowed.has_floor);
        let is_newer = floor.is_none_or(|floor| floor.op == Op::Deallocate || floor.sequence < sequence);
        let oldest_kept = allowed.candidates.iter().take(MOST_CANDIDATES).rfind(|c| c.op == Op::Write);
        if is_newer && allowed.is_cut_off() && oldest_kept.is_none_or(|kept| sequence < kept.sequence) {
            return Judge::at_candidate(allowed.candidates.len() - 1, allowed);
        }
        match floor {
            Some(floor) if floor.op == Op::Deallocate => Verdict::NotZero,
            Some(_) if !is_newer => Verdict::Lost,
            // Our function never put that write here.
            _ => Verdict::Corrupt,
        }
    }

    /// The verdict if the candidate at position `at` stands.
    pub(super) fn at_candidate(at: usize, allowed: &Allowed) -> Verdict {
        let newer = &allowed.candidates[..at];
        if newer.iter().any(|candidate| candidate.state.is_settled()) {
            Verdict::AllowedLoss
        } else if at > 0 || !allowed.candidates[at].state.is_settled() {
            Verdict::InFlight
        } else {
            Verdict::Ok
        }
    }

    /// The verdict if what stood there before the run still stands, where that is allowed.
    pub(super) fn before_all(allowed: &Allowed) -> Verdict {
        if allowed.candidates.iter().any(|candidate| candidate.state.is_settled()) {
            Verdict::AllowedLoss
        } else if allowed.candidates.is_empty() {
            Verdict::Unwritten
        } else {
            Verdict::InFlight
        }
    }
}
