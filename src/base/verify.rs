//! The words of verification: what jobs ask for, what the judge answers, what reports show.

use std::fmt;

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
            trim_percentage: 0,
            trim_verify_zero: false,
            trim_backlog: 0,
            trim_backlog_batch: 0,
        }
    }
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
    /// The verdicts of the re-reads, in order; none for what is no violation.
    pub rereads: Vec<Verdict>,
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

    #[test]
    fn ten_verdicts_are_violations() {
        assert_eq!(Verdict::ALL.iter().filter(|verdict| verdict.is_violation()).count(), 10);
    }
}
