//! How one I/O ended: data, not an `Err`, because a failing I/O is an ordinary result of a test.

mod nvme;

use std::fmt;

/// Set in a status that an NVMe controller gave: then bits 0 to 7 are its status code, 8 to 10 its
/// type and 11 is Do Not Retry. Without it the number is an errno.
const NVME: u32 = 1 << 31;
const DNR: u32 = 1 << 11;

/// Success, or the reason the device or the kernel gave: an errno, or NVMe's own status.
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

    /// What an NVMe completion says (NVMe Base 2.0, 3.3.3.2): status code type (3 bits), status code,
    /// Do Not Retry. Type 0 with code 0 is [`Status::OK`].
    #[must_use]
    pub const fn from_nvme(sct: u8, sc: u8, dnr: bool) -> Status {
        let sct = sct & 7;
        if sct == 0 && sc == 0 {
            return Status::OK;
        }
        Status(NVME | if dnr { DNR } else { 0 } | (sct as u32) << 8 | sc as u32)
    }

    /// Status code type, status code and Do Not Retry, if an NVMe controller gave it.
    #[must_use]
    pub const fn nvme(self) -> Option<(u8, u8, bool)> {
        if self.0 & NVME == 0 {
            return None;
        }
        let [sc, sct, ..] = self.0.to_le_bytes();
        Some((sct & 7, sc, self.0 & DNR != 0))
    }

    /// NVMe's name of it, `Unrecovered Read Error`; `None` for an errno, and for codes that the
    /// specification does not name.
    #[must_use]
    pub fn nvme_name(self) -> Option<&'static str> {
        let (sct, sc, _) = self.nvme()?;
        nvme::name(sct, sc)
    }

    /// Whether a read found a block that is deallocated or was never written (2h/87h), on a device that is
    /// set to report that as an error (DULBE of feature 05h). The kernel makes ENODATA of it, as of other
    /// media errors: there it cannot be told.
    #[inline]
    #[must_use]
    pub const fn is_deallocated(self) -> bool {
        matches!(self.nvme(), Some((2, 0x87, _)))
    }

    /// Whether the I/O succeeded.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// The error number to report where only errno fits (fio's `error` fields); 0 for success. For
    /// NVMe's own status it is the one that Linux's block layer would give.
    #[must_use]
    pub const fn errno(self) -> i32 {
        match self.nvme() {
            Some((sct, sc, _)) => nvme::errno(sct, sc),
            None => self.0.cast_signed(),
        }
    }

    /// The symbolic name, `EIO` or `NVMe 2h/81h Unrecovered Read Error` for instance; `errno 123`
    /// or `NVMe 7h/c0h` where none is known.
    #[must_use]
    pub fn name(self) -> String {
        if let Some((sct, sc, _)) = self.nvme() {
            let numbers = format!("NVMe {sct:x}h/{sc:02x}h");
            return nvme::name(sct, sc).map_or(numbers.clone(), |name| format!("{numbers} {name}"));
        }
        errno_name(self.errno())
    }

    /// What the status means for a person, in a few words.
    #[must_use]
    pub fn meaning(self) -> String {
        if let Some((sct, _, dnr)) = self.nvme() {
            let retry = if dnr { ", do not retry" } else { "" };
            return format!("{}, {} to the kernel{retry}", nvme::kind(sct), errno_name(self.errno()));
        }
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

/// `EIO`, or `errno 123`.
fn errno_name(errno: i32) -> String {
    ERRNO_NAMES
        .iter()
        .find(|(code, _, _)| *code == errno)
        .map_or_else(|| format!("errno {errno}"), |(_, name, _)| (*name).to_owned())
}

/// The number of an error that storage returns, by its name in errno.h.
#[must_use]
pub fn errno_of(name: &str) -> Option<i32> {
    let also = [("EWOULDBLOCK", libc::EAGAIN), ("ENOTSUP", libc::EOPNOTSUPP)];
    let known = ERRNO_NAMES.iter().map(|(errno, name, _)| (*name, *errno)).chain(also);
    known.into_iter().find(|(known, _)| *known == name).map(|(_, errno)| errno)
}

/// The names that [`errno_of`] knows.
pub fn errno_names() -> impl Iterator<Item = &'static str> {
    ERRNO_NAMES.iter().map(|(_, name, _)| *name)
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
    (67, "ENOLINK", "the way to the device failed"),
    (75, "EOVERFLOW", "too many active zones"),
    (84, "EILSEQ", "data protection error"),
    (95, "EOPNOTSUPP", "not supported by this device or file"),
    (109, "ETOOMANYREFS", "too many open zones"),
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

    #[test]
    fn an_nvme_status_keeps_its_numbers_beside_its_errno() {
        for (sct, sc, dnr, name, errno) in [
            (2, 0x81, true, "NVMe 2h/81h Unrecovered Read Error", libc::ENODATA),
            (2, 0x85, true, "NVMe 2h/85h Compare Failure", libc::ENODATA),
            (2, 0x82, false, "NVMe 2h/82h End-to-end Guard Check Error", libc::EILSEQ),
            (0, 0x07, false, "NVMe 0h/07h Command Abort Requested", libc::ECANCELED),
            (0, 0x08, false, "NVMe 0h/08h Command Aborted due to SQ Deletion", libc::ECANCELED),
            (0, 0x0b, true, "NVMe 0h/0bh Invalid Namespace or Format", libc::EOPNOTSUPP),
            (0, 0x80, true, "NVMe 0h/80h LBA Out of Range", libc::EREMOTEIO),
            (0, 0x81, true, "NVMe 0h/81h Capacity Exceeded", libc::ENOSPC),
            (0, 0x83, true, "NVMe 0h/83h Reservation Conflict", libc::EBADE),
            (1, 0x82, true, "NVMe 1h/82h Attempted Write to Read Only Range", libc::ENODATA),
            (3, 0x70, false, "NVMe 3h/70h Host Pathing Error", libc::ENOLINK),
            (7, 0xc0, false, "NVMe 7h/c0h", libc::EIO),
            (5, 0x00, false, "NVMe 5h/00h", libc::EIO),
        ] {
            let status = Status::from_nvme(sct, sc, dnr);
            assert_eq!(status.nvme(), Some((sct, sc, dnr)), "{name}");
            assert_eq!((status.name().as_str(), status.errno()), (name, errno));
            assert_eq!(status.to_string().contains("do not retry"), dnr, "{status}");
            assert!(!status.is_ok());
        }
        let status = Status::from_nvme(2, 0x81, true);
        let said = "NVMe 2h/81h Unrecovered Read Error (media and data integrity, ENODATA to the kernel, do not retry)";
        assert_eq!(status.to_string(), said);
        assert_ne!(status, Status::from_nvme(2, 0x81, false));
        assert_eq!(Status::from_errno(libc::EIO).nvme(), None);
    }

    #[test]
    fn success_is_one_status_whatever_the_dnr_bit_says() {
        assert_eq!(Status::from_nvme(0, 0, true), Status::OK);
        assert_eq!(Status::from_nvme(0, 0, false).errno(), 0);
    }

    #[test]
    fn no_failure_is_taken_for_success_where_only_errno_fits() {
        for sct in 0..8 {
            for sc in 0..=255 {
                let status = Status::from_nvme(sct, sc, false);
                assert_eq!(status.errno() == 0, (sct, sc) == (0, 0), "{sct} {sc}");
                assert_eq!(status.name().starts_with("NVMe "), (sct, sc) != (0, 0));
            }
        }
    }
}
