//! How one I/O ended: data, not an `Err`, because a failing I/O is an ordinary result of a test.

use std::fmt;

/// Success, or the reason the device or the kernel gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Status(u32);

impl Status {
    /// The I/O did what it should.
    pub const OK: Status = Status(0);

    /// A Linux error number (positive, as in errno.h).
    ///
    /// # Panics
    /// If `errno` is not positive: a success is [`Status::OK`].
    #[must_use]
    pub const fn from_errno(errno: i32) -> Status {
        assert!(errno > 0, "errno must be positive");
        Status(errno.unsigned_abs())
    }

    /// Whether the I/O succeeded.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// The error number to report where only errno fits (fio's `error` fields); 0 for success.
    #[must_use]
    pub const fn errno(self) -> i32 {
        self.0.cast_signed()
    }

    /// The symbolic name, `EIO` for instance; `errno 123` where none is known.
    #[must_use]
    pub fn name(self) -> String {
        ERRNO_NAMES
            .iter()
            .find(|(code, _, _)| *code == self.errno())
            .map_or_else(|| format!("errno {}", self.0), |(_, name, _)| (*name).to_owned())
    }

    /// What the status means for a person, in a few words.
    #[must_use]
    pub fn meaning(self) -> String {
        match ERRNO_NAMES.iter().find(|(code, _, _)| *code == self.errno()) {
            Some((_, _, meaning)) => (*meaning).to_owned(),
            None => std::io::Error::from_raw_os_error(self.errno()).to_string(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ok() { out.write_str("ok") } else { write!(out, "{} ({})", self.name(), self.meaning()) }
    }
}

/// The errors that storage returns, with what they mean there (Linux errno.h; the block layer's
/// mapping is in the kernel's block/blk-core.c, `blk_errors`).
const ERRNO_NAMES: &[(i32, &str, &str)] = &[
    (1, "EPERM", "operation not permitted"),
    (4, "EINTR", "interrupted"),
    (5, "EIO", "input/output error"),
    (6, "ENXIO", "no such device or address"),
    (9, "EBADF", "bad file descriptor"),
    (11, "EAGAIN", "would block"),
    (12, "ENOMEM", "out of memory"),
    (13, "EACCES", "permission denied"),
    (14, "EFAULT", "bad address"),
    (16, "EBUSY", "device busy"),
    (19, "ENODEV", "the device is gone"),
    (
        22,
        "EINVAL",
        "refused: with O_DIRECT, offset, length and memory must be multiples of the logical block",
    ),
    (27, "EFBIG", "beyond the largest file size allowed"),
    (28, "ENOSPC", "no space left on device"),
    (30, "EROFS", "read-only"),
    (38, "ENOSYS", "not implemented by this kernel"),
    (52, "EBADE", "reservation conflict"),
    (61, "ENODATA", "unrecovered medium error, or nothing left to read"),
    (62, "ETIME", "timer expired"),
    (84, "EILSEQ", "data protection error"),
    (95, "EOPNOTSUPP", "not supported by this device or file"),
    (110, "ETIMEDOUT", "timed out"),
    (121, "EREMOTEIO", "the device failed the command"),
    (122, "EDQUOT", "disk quota exceeded"),
    (125, "ECANCELED", "cancelled"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_itself_and_says_what_it_means() {
        assert!(Status::OK.is_ok());
        assert_eq!(Status::from_errno(5).to_string(), "EIO (input/output error)");
        assert!(Status::from_errno(28).meaning().contains("space"));
        assert_eq!(Status::from_errno(4000).name(), "errno 4000");
    }
}
