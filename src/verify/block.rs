//! A block: header in fio's layout, digest, tag, payload. `docs/formats.md` has the bytes.

use crate::base::verify::{Method, RunId};

use super::checksum;
use super::payload::{PatternFill, Payload, Writer};

/// Length of fio's header (version 0x81, fio 3.41 and newer).
pub const HEADER_BYTES: usize = crate::base::verify::HEADER_BYTES as usize;
/// Bytes of the header that its own crc covers.
const HEADER_COVERED: usize = 44;
/// fio's magic.
pub const MAGIC: u16 = 0xacca;
/// fio's version of the header.
pub const VERSION: u8 = 0x81;
/// Length of the tag.
pub const TAG_BYTES: usize = crate::base::verify::TAG_BYTES as usize;
/// How a tag begins.
pub const TAG_MAGIC: [u8; 8] = *b"fio-spdk";
/// Version of the tag and of the payload. Version 1 had no tails in its payload, and no numbers of
/// sectors in its stamps; its tags are the same.
pub const TAG_VERSION: u16 = 2;
/// Longest header and digest together.
pub const MAX_FRONT: usize = HEADER_BYTES + 128;

/// How the blocks of a job are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockFormat {
    /// Length of a block in bytes.
    pub interval: u32,
    /// The checksum.
    pub method: Method,
    /// Where header and digest stand (fio: `verify_offset`): what was there stands at the start.
    pub header_at: u32,
    /// The payload, if it is a pattern. Then there is no tag.
    pub pattern: Option<PatternFill>,
}

impl BlockFormat {
    /// Length of header and digest.
    #[must_use]
    pub fn front_bytes(&self) -> usize {
        if self.method.has_header() { HEADER_BYTES + self.method.digest_bytes() } else { 0 }
    }

    /// Length of what the payload is not seen behind: header, digest and tag.
    #[inline]
    #[must_use]
    pub fn head_bytes(&self) -> usize {
        self.front_bytes() + if self.has_tag() { TAG_BYTES } else { 0 }
    }

    /// Whether blocks have a tag.
    #[must_use]
    pub fn has_tag(&self) -> bool {
        self.method.has_header() && self.pattern.is_none()
    }

    /// Puts header and digest to their place, or back from there: what stands there changes places
    /// with them, as fio has it.
    #[inline]
    pub fn swap_front(&self, block: &mut [u8]) {
        let at = self.header_at as usize;
        let front = self.front_bytes();
        if at == 0 || at + front > block.len() {
            return;
        }
        // Byte by byte in rising order, or where both overlap the way back would be another one.
        for index in 0..front {
            block.swap(index, at + index);
        }
    }

    /// The way back of [`BlockFormat::swap_front`].
    #[inline]
    pub fn unswap_front(&self, block: &mut [u8]) {
        let at = self.header_at as usize;
        let front = self.front_bytes();
        if at == 0 || at + front > block.len() {
            return;
        }
        for index in (0..front).rev() {
            block.swap(index, at + index);
        }
    }
}

/// fio's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// 0xacca.
    pub magic: u16,
    /// 0x81.
    pub version: u8,
    /// Number of the method.
    pub method: u8,
    /// Length of the block.
    pub len: u32,
    /// What the payload comes from.
    pub seed: u64,
    /// Byte offset of the block on its target.
    pub offset: u64,
    /// When the write was prepared: seconds since 1970 here, since its start with fio.
    pub seconds: u32,
    /// And nanoseconds.
    pub nanoseconds: u32,
    /// The worker's k-th write.
    pub sequence: u64,
    /// The worker's number, from 1.
    pub worker: u16,
    /// Zero here; anything with fio.
    pub padding: u16,
    /// [`checksum::header_crc`] of the bytes before.
    pub crc: u32,
}

impl Header {
    /// The header that begins `block`, whatever stands there.
    #[inline]
    #[must_use]
    pub fn read(block: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_BYTES] = block.first_chunk()?;
        Some(Header {
            magic: u16::from_le_bytes(part(bytes, 0)),
            version: bytes[2],
            method: bytes[3],
            len: u32::from_le_bytes(part(bytes, 4)),
            seed: u64::from_le_bytes(part(bytes, 8)),
            offset: u64::from_le_bytes(part(bytes, 16)),
            seconds: u32::from_le_bytes(part(bytes, 24)),
            nanoseconds: u32::from_le_bytes(part(bytes, 28)),
            sequence: u64::from_le_bytes(part(bytes, 32)),
            worker: u16::from_le_bytes(part(bytes, 40)),
            padding: u16::from_le_bytes(part(bytes, 42)),
            crc: u32::from_le_bytes(part(bytes, 44)),
        })
    }

    /// Writes the header with its crc, which replaces `crc`.
    #[inline]
    pub fn write(&self, out: &mut [u8; HEADER_BYTES]) {
        out[0..2].copy_from_slice(&self.magic.to_le_bytes());
        out[2] = self.version;
        out[3] = self.method;
        out[4..8].copy_from_slice(&self.len.to_le_bytes());
        out[8..16].copy_from_slice(&self.seed.to_le_bytes());
        out[16..24].copy_from_slice(&self.offset.to_le_bytes());
        out[24..28].copy_from_slice(&self.seconds.to_le_bytes());
        out[28..32].copy_from_slice(&self.nanoseconds.to_le_bytes());
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        out[40..42].copy_from_slice(&self.worker.to_le_bytes());
        out[42..44].copy_from_slice(&self.padding.to_le_bytes());
        let crc = checksum::header_crc(&out[..HEADER_COVERED]);
        out[44..48].copy_from_slice(&crc.to_le_bytes());
    }

    /// The crc that the bytes in front of it should have.
    #[must_use]
    pub fn crc_of(block: &[u8]) -> Option<u32> {
        block.get(..HEADER_COVERED).map(checksum::header_crc)
    }

    /// How many of five things say that a header of fio's kind stands here: magic, version, the
    /// length, the offset, the crc.
    #[must_use]
    pub fn likeness(block: &[u8], interval: u32, offset: u64) -> u32 {
        let Some(header) = Header::read(block) else { return 0 };
        let crc = Header::crc_of(block) == Some(header.crc);
        [
            header.magic == MAGIC,
            header.version == VERSION,
            header.len == interval,
            header.offset == offset && offset != 0,
            crc && header.magic != 0,
        ]
        .into_iter()
        .map(u32::from)
        .sum()
    }
}

/// What this tool adds to fio's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// [`TAG_VERSION`].
    pub version: u16,
    /// The run that wrote the block.
    pub run: RunId,
    /// Identity of the target: a hash of what names it.
    pub target: u64,
    /// Which pass over the region.
    pub pass: u64,
    /// Flushes that had completed when the write was prepared.
    pub flush_epoch: u64,
    /// Where the whole write begins on the target.
    pub io_offset: u64,
    /// Length of the whole write.
    pub io_len: u32,
}

impl Tag {
    /// Whether this program can read the payload behind it.
    #[inline]
    #[must_use]
    pub fn is_known(&self) -> bool {
        (1..=TAG_VERSION).contains(&self.version)
    }

    /// The tag that begins `bytes`; `None` if none of ours does.
    #[inline]
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Tag> {
        let bytes: &[u8; TAG_BYTES] = bytes.first_chunk()?;
        if bytes[..8] != TAG_MAGIC {
            return None;
        }
        Some(Tag {
            version: u16::from_le_bytes(part(bytes, 8)),
            run: RunId(u128::from_le_bytes(part(bytes, 16))),
            target: u64::from_le_bytes(part(bytes, 32)),
            pass: u64::from_le_bytes(part(bytes, 40)),
            flush_epoch: u64::from_le_bytes(part(bytes, 48)),
            io_offset: u64::from_le_bytes(part(bytes, 56)),
            io_len: u32::from_le_bytes(part(bytes, 64)),
        })
    }

    /// Writes the tag.
    #[inline]
    pub fn write(&self, out: &mut [u8; TAG_BYTES]) {
        out[..8].copy_from_slice(&TAG_MAGIC);
        out[8..10].copy_from_slice(&self.version.to_le_bytes());
        out[10..16].fill(0);
        out[16..32].copy_from_slice(&self.run.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.target.to_le_bytes());
        out[40..48].copy_from_slice(&self.pass.to_le_bytes());
        out[48..56].copy_from_slice(&self.flush_epoch.to_le_bytes());
        out[56..64].copy_from_slice(&self.io_offset.to_le_bytes());
        out[64..68].copy_from_slice(&self.io_len.to_le_bytes());
        out[68..72].fill(0);
    }
}

#[inline]
fn part<const LEN: usize, const OF: usize>(bytes: &[u8; OF], at: usize) -> [u8; LEN] {
    std::array::from_fn(|index| bytes[at + index])
}

/// What of a write's blocks does not follow from the write's place in its workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteFacts {
    /// Byte offset of the whole write on its target.
    pub io_offset: u64,
    /// Length of the whole write.
    pub io_len: u32,
    /// The worker's k-th write.
    pub sequence: u64,
    /// When it was prepared, nanoseconds since 1970.
    pub time_unix_ns: u64,
    /// Which pass over the region.
    pub pass: u64,
    /// Flushes that had completed.
    pub flush_epoch: u64,
}

/// Makes blocks: of one run, one worker, one target.
#[derive(Clone, Debug)]
pub struct Sealer {
    /// How blocks are made.
    pub format: BlockFormat,
    /// The run.
    pub run: RunId,
    /// The worker's number, from 1.
    pub worker: u16,
    /// Which version of the tag and of the payload it makes: [`TAG_VERSION`], or an older one to compare
    /// with.
    pub version: u16,
    pub(super) payload: Payload,
}

impl Sealer {
    /// Makes blocks of the given format.
    #[must_use]
    pub fn new(format: BlockFormat, run: RunId, worker: u16) -> Sealer {
        Sealer { format, run, worker, version: TAG_VERSION, payload: Payload::default() }
    }

    /// The writer of the worker's k-th write.
    #[inline]
    #[must_use]
    pub fn writer(&self, sequence: u64) -> Writer {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
        let run = self.run.0 as u32;
        Writer { run, worker: self.worker, sequence }
    }

    /// The seed in the headers of the k-th write; with a pattern 0, as in fio.
    #[inline]
    #[must_use]
    pub fn seed(&self, sequence: u64) -> u64 {
        if self.format.pattern.is_some() { 0 } else { self.writer(sequence).seed() }
    }

    /// Whether `block` is to the last byte what the write that header and tag name has left, as far as
    /// a quick look tells: if not, the digest has to.
    #[inline]
    #[must_use]
    pub fn has_made(&self, block: &[u8], header: &Header, tag: &Tag) -> bool {
        if self.format.method != Method::Crc32c || tag.version != TAG_VERSION {
            return false;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
        let writer = Writer { run: tag.run.0 as u32, worker: header.worker, sequence: header.sequence };
        if header.seed != writer.seed() {
            return false;
        }
        let crc = self.payload.crc32c_as_left(block, writer, header.seed, header.offset);
        crc.is_some_and(|crc| block[HEADER_BYTES..HEADER_BYTES + 4] == crc.to_le_bytes())
    }

    /// Fills `buffer`, the whole of one write, with its blocks. `target` is the identity of the
    /// target that stands in tags.
    #[inline]
    pub fn seal(&self, buffer: &mut [u8], target: u64, facts: &WriteFacts) {
        let mut offset = facts.io_offset;
        for block in buffer.chunks_mut(self.format.interval as usize) {
            self.seal_block(block, offset, target, facts);
            offset = offset.wrapping_add(block.len() as u64);
        }
    }

    /// Fills the one block of a write that begins at `offset`.
    #[inline]
    pub fn seal_block(&self, block: &mut [u8], offset: u64, target: u64, facts: &WriteFacts) {
        let writer = self.writer(facts.sequence);
        let seed = match &self.format.pattern {
            Some(pattern) => {
                pattern.fill(block, offset, facts.io_offset);
                0
            }
            None => {
                let seed = writer.seed();
                if self.version == TAG_VERSION {
                    self.payload.fill_seeded(block, writer, seed, offset, self.format.head_bytes());
                } else {
                    self.payload.fill_of_version_1(block, writer, offset);
                }
                seed
            }
        };
        if !self.format.method.has_header() || block.len() < self.format.front_bytes() {
            return;
        }
        let front = self.format.front_bytes();
        if self.format.has_tag()
            && let Some(tag) = block[front..].first_chunk_mut()
        {
            let WriteFacts { io_offset, io_len, pass, flush_epoch, .. } = *facts;
            Tag { version: self.version, run: self.run, target, pass, flush_epoch, io_offset, io_len }
                .write(tag);
        }
        let quick = match self.format.method {
            Method::Crc32c if self.format.has_tag() && self.version == TAG_VERSION => {
                self.payload.crc32c(block, seed, offset)
            }
            _ => None,
        };
        let (head, covered) = block.split_at_mut(front);
        match quick {
            Some(crc) => head[HEADER_BYTES..].copy_from_slice(&crc.to_le_bytes()),
            None => checksum::digest(self.format.method, covered, &mut head[HEADER_BYTES..]),
        }
        #[expect(clippy::cast_possible_truncation, reason = "seconds until 2106; nanoseconds below 1e9")]
        let (seconds, nanoseconds) =
            ((facts.time_unix_ns / 1_000_000_000) as u32, (facts.time_unix_ns % 1_000_000_000) as u32);
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            method: self.format.method as u8,
            len: u32::try_from(head.len() + covered.len()).unwrap_or(u32::MAX),
            seed,
            offset,
            seconds,
            nanoseconds,
            sequence: facts.sequence,
            worker: self.worker,
            padding: 0,
            crc: 0,
        };
        if let Some(out) = head.first_chunk_mut() {
            header.write(out);
        }
        if self.format.header_at > 0 {
            self.format.swap_front(block);
        }
    }
}
