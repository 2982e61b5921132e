//! The words of verification: what jobs ask for, what the judge answers, what reports show.

use std::fmt;

use super::atomic::AtomicSource;
use super::shape::{BlockSizes, Mix};
use super::{Op, PerOp};

/// How a block is checked (fio: `verify`). The numbers are fio's, as they stand in headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Method {
    /// Header only.
    Meta = 1,
    /// MD5 (RFC 1321).
    Md5 = 2,
    /// CRC-64 of Jones' polynomial.
    Crc64 = 3,
    /// fio's CRC-32: not zlib's.
    Crc32 = 4,
    /// CRC-32C without the final inversion.
    Crc32c = 5,
    /// CRC-16/ARC.
    Crc16 = 7,
    /// CRC-7/MMC.
    Crc7 = 8,
    /// fio's SHA-256: 8 bytes of the state and what its buffer held.
    Sha256 = 9,
    /// SHA-512, and what fio's buffer held.
    Sha512 = 10,
    /// SHA3-224 (FIPS 202).
    Sha3_224 = 11,
    /// SHA3-256.
    Sha3_256 = 12,
    /// SHA3-384.
    Sha3_384 = 13,
    /// SHA3-512.
    Sha3_512 = 14,
    /// XXH32 with seed 1.
    Xxhash = 15,
    /// SHA-1, words in little-endian order.
    Sha1 = 16,
    /// Header, then a pattern.
    PatternHdr = 17,
    /// A pattern and no header.
    Pattern = 18,
    /// Pretends to check.
    Null = 19,
    /// CRC-64 of NVMe (NVM Command Set specification 1.0, 5.2.1.3.4: the 64-bit guard). Not fio's.
    Crc64Nvme = 128,
}

impl Method {
    /// All methods with their names in job files, the default first.
    pub const ALL: [(&'static str, Method); 19] = [
        ("crc32c", Method::Crc32c),
        ("crc32", Method::Crc32),
        ("crc64", Method::Crc64),
        ("crc16", Method::Crc16),
        ("crc7", Method::Crc7),
        ("crc64nvme", Method::Crc64Nvme),
        ("md5", Method::Md5),
        ("sha1", Method::Sha1),
        ("sha256", Method::Sha256),
        ("sha512", Method::Sha512),
        ("sha3-224", Method::Sha3_224),
        ("sha3-256", Method::Sha3_256),
        ("sha3-384", Method::Sha3_384),
        ("sha3-512", Method::Sha3_512),
        ("xxhash", Method::Xxhash),
        ("meta", Method::Meta),
        ("pattern", Method::Pattern),
        ("pattern_hdr", Method::PatternHdr),
        ("null", Method::Null),
    ];

    /// The method of that name in job files. fio's `crc32c-intel` is `crc32c`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Method> {
        let name = if name == "crc32c-intel" { "crc32c" } else { name };
        Method::ALL.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }

    /// The method of that number in headers.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Method> {
        Method::ALL.iter().map(|(_, method)| *method).find(|method| *method as u8 == number)
    }

    /// Its name in job files.
    #[must_use]
    pub fn name(self) -> &'static str {
        Method::ALL.iter().find(|(_, method)| *method == self).map_or("?", |(name, _)| name)
    }

    /// Length of the digest that stands behind the header, in bytes.
    #[must_use]
    pub const fn digest_bytes(self) -> usize {
        match self {
            Method::Meta | Method::PatternHdr | Method::Pattern | Method::Null => 0,
            Method::Crc7 => 1,
            Method::Crc16 => 2,
            Method::Crc32 | Method::Crc32c | Method::Xxhash => 4,
            Method::Crc64 | Method::Crc64Nvme => 8,
            Method::Md5 => 16,
            Method::Sha1 => 20,
            Method::Sha3_224 => 28,
            Method::Sha3_256 => 32,
            Method::Sha3_384 => 48,
            Method::Sha256 | Method::Sha3_512 => 64,
            Method::Sha512 => 128,
        }
    }

    /// Whether blocks begin with a header.
    #[must_use]
    pub const fn has_header(self) -> bool {
        !matches!(self, Method::Pattern)
    }
}

/// A pattern that fills payloads (fio: `verify_pattern`): bytes, and where in them the byte offset
/// of the I/O stands (`%o`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// The bytes, never none; 8 (or what is left at the end) at each of `offsets` are placeholders.
    pub bytes: Vec<u8>,
    /// Where the offset stands as a little-endian number of 64 bits, rising.
    pub offsets: Vec<usize>,
}

/// What must be found after a loss of power (`verify_policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// `Fsynced` where the target has a volatile write cache that is on, else `Completed`.
    #[default]
    Auto,
    /// Every write that completed.
    Completed,
    /// Every write that a flush has made durable.
    Fsynced,
}

/// What an audit makes of blocks that this tool and fio have not written (`verify_unwritten`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnwritten {
    /// They are violations if any block of the region was written.
    #[default]
    Fail,
    /// They are counted and allowed.
    Allow,
}

/// The order in which written blocks are read back (`verify_order`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyOrder {
    /// By offset.
    #[default]
    Sequential,
    /// In the order in which they were written.
    Written,
}

/// The verification that a job asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifySpec {
    /// `verify`; none if nothing is verified.
    pub method: Option<Method>,
    /// `do_verify`: read back what was written when the job has written it.
    pub do_verify: bool,
    /// `verify_only`: write nothing, judge what an earlier run of this job wrote.
    pub only: bool,
    /// `verify_interval`: length of a block in bytes.
    pub interval: Option<u32>,
    /// `verify_offset`: where in the block the header stands.
    pub offset: u32,
    /// `verify_pattern`.
    pub pattern: Option<Pattern>,
    /// `verify_pattern_interval`: the pattern begins anew after this many bytes.
    pub pattern_interval: Option<u32>,
    /// `verify_fatal`: the first violation ends the job.
    pub fatal: bool,
    /// `verify_dump`: leave blocks in violation in files.
    pub dump: bool,
    /// `verify_async`: threads a worker that check what was read.
    pub async_threads: u32,
    /// `verify_async_cpus`.
    pub async_cpus: Option<Vec<u32>>,
    /// `verify_backlog`: after this many writes read some of them back; 0 for never.
    pub backlog: u64,
    /// `verify_backlog_batch`: how many of them; 0 for as many as `backlog`.
    pub backlog_batch: u64,
    /// `verify_write_sequence`: compare the write sequence.
    pub write_sequence: bool,
    /// `verify_header_seed`: compare the seed.
    pub header_seed: bool,
    /// `verify_policy`.
    pub policy: Policy,
    /// `verify_order`.
    pub order: VerifyOrder,
    /// `verify_unwritten`: what an audit makes of blocks that were never written.
    pub unwritten: OnUnwritten,
    /// `trim_percentage`: share of the writes whose blocks are trimmed afterwards.
    pub trim_percentage: u32,
    /// `trim_verify_zero`: trimmed blocks must read as zeros.
    pub trim_verify_zero: bool,
    /// `trim_backlog`: a write is trimmed after this many further writes.
    pub trim_backlog: u64,
    /// `trim_backlog_batch`: trims come in groups of this many writes; 0 for as many as `trim_backlog`.
    pub trim_backlog_batch: u64,
}

impl Default for VerifySpec {
    fn default() -> VerifySpec {
        VerifySpec {
            method: None,
            do_verify: true,
            only: false,
            interval: None,
            offset: 0,
            pattern: None,
            pattern_interval: None,
            fatal: false,
            dump: false,
            async_threads: 0,
            async_cpus: None,
            backlog: 0,
            backlog_batch: 0,
            write_sequence: true,
            header_seed: true,
            policy: Policy::Auto,
            order: VerifyOrder::Sequential,
            unwritten: OnUnwritten::Fail,
            trim_percentage: 0,
            trim_verify_zero: false,
            trim_backlog: 0,
            trim_backlog_batch: 0,
        }
    }
}

/// Length of the header that a block begins with, in bytes.
pub const HEADER_BYTES: u32 = 48;
/// Length of the tag behind header and digest, where no pattern fills the block, in bytes.
pub const TAG_BYTES: u32 = 72;
/// Blocks have this length where nothing is said, unless I/Os are shorter.
const USUAL_INTERVAL: u64 = 4096;
/// Lengths of blocks are multiples of this.
const UNIT: u32 = 8;

/// Why a job cannot be cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadInterval {
    /// Not a multiple of 8.
    Uneven,
    /// Without room for what a block begins with.
    TooSmall {
        /// The length in question.
        interval: u32,
        /// The shortest that would do.
        least: u32,
        /// For a length that nobody chose: one that could be.
        instead: Option<u32>,
    },
    /// It does not divide this length or distance of I/Os.
    DoesNotDivide {
        /// The length or distance.
        length: u64,
    },
}

impl VerifySpec {
    /// How many bytes of a block belong to header, digest and tag.
    #[must_use]
    pub fn head_bytes(&self) -> u32 {
        let tag = if self.pattern.is_some() { 0 } else { TAG_BYTES };
        match self.front_bytes() {
            0 => 0,
            front => front + tag,
        }
    }

    /// How many bytes of a block belong to header and digest: those that `verify_offset` moves.
    #[must_use]
    pub fn front_bytes(&self) -> u32 {
        let Some(method) = self.method.filter(|method| method.has_header()) else { return 0 };
        // A digest has 128 bytes at most.
        HEADER_BYTES + u32::try_from(method.digest_bytes()).unwrap_or(0)
    }

    /// The shortest block that has room for its beginning.
    #[must_use]
    pub fn least_interval(&self) -> u32 {
        self.head_bytes().max(1).next_multiple_of(UNIT)
    }

    /// The length of a block: what `verify_interval` says, or else the longest, up to 4096 bytes,
    /// that divides all of `lengths` (see [`lengths`]).
    ///
    /// # Errors
    /// If that length cannot be.
    pub fn effective_interval(&self, lengths: &[u64]) -> Result<u32, BadInterval> {
        let least = self.least_interval();
        let common = lengths.iter().copied().fold(0, gcd);
        let Some(interval) = self.interval else {
            let interval = u32::try_from(gcd(common, USUAL_INTERVAL)).unwrap_or(0);
            if interval >= least {
                return Ok(interval);
            }
            let instead = u32::try_from(common).ok().filter(|&whole| fits(whole, least));
            return Err(BadInterval::TooSmall { interval, least, instead });
        };
        if !interval.is_multiple_of(UNIT) {
            return Err(BadInterval::Uneven);
        }
        if interval < least {
            return Err(BadInterval::TooSmall { interval, least, instead: None });
        }
        match lengths.iter().find(|length| !length.is_multiple_of(u64::from(interval))) {
            Some(&length) => Err(BadInterval::DoesNotDivide { length }),
            None => Ok(interval),
        }
    }
}

fn fits(interval: u32, least: u32) -> bool {
    interval >= least && interval.is_multiple_of(UNIT)
}

/// What blocks must divide: lengths of the I/Os that are judged, and the distances between them.
/// A job that writes is judged by its writes, one that does not by its reads or trims.
#[must_use]
pub fn lengths(
    mix: Mix,
    random: bool,
    sizes: &PerOp<BlockSizes>,
    align: &PerOp<u32>,
    modifier: Option<u64>,
) -> Vec<u64> {
    let op = match mix {
        Mix::Trim => Op::Deallocate,
        Mix::Write | Mix::ReadWrite | Mix::TrimWrite => Op::Write,
        Mix::Replayed { writes: true, .. } => Op::Write,
        Mix::Replayed { trims: true, .. } => Op::Deallocate,
        Mix::Read | Mix::Replayed { .. } => Op::Read,
    };
    let mut lengths: Vec<u64> = match sizes.get(op) {
        // All of a range are multiples of its smallest.
        BlockSizes::Fixed(size) | BlockSizes::Range { min: size, .. } => vec![u64::from(*size)],
        BlockSizes::Split(list) => list.iter().map(|&(size, _)| u64::from(size)).collect(),
        BlockSizes::Unaligned { .. } => vec![1],
    };
    lengths.push(if random { u64::from(*align.get(op)) } else { modifier.unwrap_or(0) });
    lengths.retain(|&length| length > 0);
    lengths
}

/// The greatest common divisor; 0 divides nothing and is divided by all.
#[must_use]
pub const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Names one run that writes: random, new for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub u128);

impl fmt::Display for RunId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

/// What the judge says of one block. Each block that should be judged gets exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// What must stand there stands there.
    Ok,
    /// A completed but not durable write is gone, and what stands there may stand there.
    AllowedLoss,
    /// A write in flight or failed: old, new, or a mix of whole atomic units.
    InFlight,
    /// Nothing was promised here and nothing of ours stands here.
    Unwritten,
    /// An intact block of this run, older than the oldest that may stand here.
    Lost,
    /// An intact block of another run where this run's was promised.
    StaleRun,
    /// An intact block that names another offset.
    Misplaced,
    /// An intact block of another target or worker.
    Foreign,
    /// Parts of several writes where one must stand whole.
    Torn,
    /// Zeros or ones where data was promised.
    Blank,
    /// No write of ours fits.
    Corrupt,
    /// A write that was never issued.
    FromTheFuture,
    /// Trimmed, but it does not read as zeros.
    NotZero,
    /// The device returned an error or did not answer.
    Unreadable,
    /// Promised, but not read.
    NotChecked,
}

impl Verdict {
    /// All verdicts, in the order of reports.
    pub const ALL: [Verdict; 15] = [
        Verdict::Ok,
        Verdict::AllowedLoss,
        Verdict::InFlight,
        Verdict::Unwritten,
        Verdict::Lost,
        Verdict::StaleRun,
        Verdict::Misplaced,
        Verdict::Foreign,
        Verdict::Torn,
        Verdict::Blank,
        Verdict::Corrupt,
        Verdict::FromTheFuture,
        Verdict::NotZero,
        Verdict::Unreadable,
        Verdict::NotChecked,
    ];

    /// Its name in reports and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::AllowedLoss => "allowed_loss",
            Verdict::InFlight => "in_flight",
            Verdict::Unwritten => "unwritten",
            Verdict::Lost => "lost",
            Verdict::StaleRun => "stale_run",
            Verdict::Misplaced => "misplaced",
            Verdict::Foreign => "foreign",
            Verdict::Torn => "torn",
            Verdict::Blank => "blank",
            Verdict::Corrupt => "corrupt",
            Verdict::FromTheFuture => "from_the_future",
            Verdict::NotZero => "not_zero",
            Verdict::Unreadable => "unreadable",
            Verdict::NotChecked => "not_checked",
        }
    }

    /// Whether a promise was broken.
    #[must_use]
    pub const fn is_violation(self) -> bool {
        !matches!(
            self,
            Verdict::Ok | Verdict::AllowedLoss | Verdict::InFlight | Verdict::Unwritten | Verdict::NotChecked
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A block that is not plainly `ok`, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The verdict.
    pub verdict: Verdict,
    /// Which of the worker's targets.
    pub target: u16,
    /// Byte offset of the block on the target.
    pub offset: u64,
    /// Length of the block in bytes.
    pub len: u32,
    /// What stands there.
    pub stands: String,
    /// What may stand there.
    pub allowed: String,
    /// Which promise it is about.
    pub promise: String,
    /// Further facts, one a line: which LBA is whose, first bad byte, the other half of a pair.
    pub details: Vec<String>,
    /// The offset that an intact block names, where that is another one.
    pub named_offset: Option<u64>,
    /// The verdicts of the re-reads, in order; none for what is no violation.
    pub rereads: Vec<Verdict>,
    /// Of a write that is not whole: what promised that it would be.
    pub atomic: Option<AtomicSource>,
}

impl Finding {
    /// Whether a re-read found something else.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.rereads.iter().any(|verdict| *verdict != self.verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_fios_names_and_numbers() {
        for (name, method) in Method::ALL {
            assert_eq!(Method::from_name(name), Some(method));
            assert_eq!(Method::from_number(method as u8), Some(method));
            assert_eq!(method.name(), name);
        }
        assert_eq!(Method::from_name("crc32c-intel"), Some(Method::Crc32c));
        assert_eq!((Method::from_name("crc33"), Method::from_number(6)), (None, None));
    }

    fn asked(method: Method, interval: Option<u32>) -> VerifySpec {
        VerifySpec { method: Some(method), interval, ..VerifySpec::default() }
    }

    #[test]
    fn a_block_is_the_greatest_that_divides_all_and_4096() {
        let crc = asked(Method::Crc32c, None);
        for (lengths, interval) in [
            (&[4096][..], 4096),
            (&[512], 512),
            (&[1 << 20], 4096),
            (&[4096, 65536, 6144], 2048),
            (&[12288], 4096),
            (&[4096, 512], 512),
        ] {
            assert_eq!(crc.effective_interval(lengths), Ok(interval), "{lengths:?}");
        }
        let bad = |interval, instead| Err(BadInterval::TooSmall { interval, least: 128, instead });
        assert_eq!(crc.effective_interval(&[1000]), bad(8, Some(1000)));
        assert_eq!(crc.effective_interval(&[4097]), bad(1, None));
        assert_eq!(crc.effective_interval(&[1000, 64]), bad(8, None));
    }

    #[test]
    fn an_interval_that_was_chosen_holds_its_head_and_divides_all() {
        let chosen = |interval| asked(Method::Crc32c, Some(interval));
        assert_eq!(chosen(1000).effective_interval(&[1000, 3000]), Ok(1000));
        assert_eq!(chosen(128).effective_interval(&[4096]), Ok(128));
        assert_eq!(chosen(1001).effective_interval(&[1001]), Err(BadInterval::Uneven));
        let small = BadInterval::TooSmall { interval: 120, least: 128, instead: None };
        assert_eq!(chosen(120).effective_interval(&[1200]), Err(small));
        assert_eq!(
            chosen(4096).effective_interval(&[4096, 6144]),
            Err(BadInterval::DoesNotDivide { length: 6144 })
        );
    }

    #[test]
    fn heads_have_room_for_header_digest_and_tag() {
        let least = |method| asked(method, None).least_interval();
        assert_eq!((least(Method::Meta), least(Method::Crc7), least(Method::Sha512)), (120, 128, 248));
        assert_eq!(least(Method::Pattern), 8);
        let pattern = Some(Pattern { bytes: vec![1], offsets: Vec::new() });
        let with = VerifySpec { pattern, ..asked(Method::Md5, None) };
        assert_eq!((with.head_bytes(), with.least_interval()), (64, 64));
    }

    #[test]
    fn lengths_are_those_of_the_judged_direction_and_its_distances() {
        let sizes = PerOp {
            read: BlockSizes::Fixed(512),
            write: BlockSizes::Split(vec![(4096, 50), (8192, 50)]),
            trim: BlockSizes::Range { min: 1024, max: 5000 },
        };
        let align = PerOp { read: 512, write: 2048, trim: 1024 };
        let of = |mix, random, modifier| lengths(mix, random, &sizes, &align, modifier);
        assert_eq!(of(Mix::Read, true, None), [512, 512]);
        assert_eq!(of(Mix::ReadWrite, true, Some(8)), [4096, 8192, 2048]);
        assert_eq!(of(Mix::TrimWrite, false, Some(65536)), [4096, 8192, 65536]);
        assert_eq!(of(Mix::Trim, false, None), [1024]);
    }

    #[test]
    fn ten_verdicts_are_violations() {
        assert_eq!(Verdict::ALL.iter().filter(|verdict| verdict.is_violation()).count(), 10);
    }
}
