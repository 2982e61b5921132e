//! The made-up SPDK of tests: drives in memory, and the faults they can be told to have
//! (`fake/fake.h`, which says what each knob does).

use std::ffi::{CString, c_char};
use std::ptr::NonNull;

#[repr(C)]
struct FakeDrive {
    _unused: [u8; 0],
}

unsafe extern "C" {
    fn fake_drive(transport_id: *const c_char) -> *mut FakeDrive;
    fn fake_set(drive: *mut FakeDrive, knob: u32, value: u64);
    fn fake_spoil(drive: *mut FakeDrive, nsid: u32, byte: u64);
    fn fake_get(drive: *mut FakeDrive, knob: u32) -> u64;
}

/// What can be set and read: `FAKE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Knob {
    /// One of [`Death`].
    Death = 0,
    /// So many submits return ENOMEM.
    Refusals = 1,
    /// The n-th command from now ends with [`Knob::Status`].
    FailAt = 2,
    /// SC in bits 0 to 7, SCT in 8 to 10, DNR in 14.
    Status = 3,
    /// The n-th command from now never completes.
    StuckAt = 4,
    /// So many completions are delivered twice.
    Strays = 5,
    /// A poll delivers up to so many completions too many.
    Excess = 6,
    /// So many polls that deliver something lose the connection then.
    PollErrors = 7,
    /// While not 0, no I/O completes.
    Hold = 8,
    /// While not 0, no admin command is answered.
    AdminSilent = 9,
    /// An asynchronous event.
    Event = 10,
    /// This namespace is gone.
    RemoveNamespace = 11,
    /// Whether resets fail.
    ResetFails = 12,
    /// How long a reset takes.
    ResetUs = 13,
    /// Whether aborts fail.
    AbortsFail = 14,
    /// CSTS.
    Csts = 15,
    /// Rules of SPDK's that were broken.
    Misuses = 16,
    /// I/O commands accepted.
    Commands = 17,
    /// Accepted and not completed.
    Outstanding = 18,
    /// Shutdown notifications.
    Shutdowns = 19,
    /// Resets.
    Resets = 20,
    /// Queue pairs.
    QueuePairs = 21,
    /// The most commands that one doorbell was rung for.
    BiggestBatch = 22,
    /// The most ranges that one deallocate had.
    MostRanges = 23,
    /// Not 0: the next attach or reset finds another drive at the address, with this number in its serial
    /// number.
    Swap = 24,
}

/// How a drive dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Death {
    /// As a vfio-user target: nothing is heard of it any more.
    Silent = 1,
    /// As a TCP target: its connections end.
    Disconnected = 2,
}

/// A drive.
#[derive(Clone, Copy, Debug)]
pub struct Drive(NonNull<FakeDrive>);

// SAFETY: a drive lives as long as the process, and its functions take its lock.
unsafe impl Send for Drive {}
// SAFETY: as above.
unsafe impl Sync for Drive {}

impl Drive {
    /// The drive of a transport id without a namespace, made now if there is none yet; `None` if the
    /// text is no transport id.
    #[must_use]
    pub fn at(transport_id: &str) -> Option<Drive> {
        let id = CString::new(transport_id).ok()?;
        // SAFETY: the string lives until the call returns.
        NonNull::new(unsafe { fake_drive(id.as_ptr()) }).map(Drive)
    }

    /// Turns a knob.
    pub fn set(self, knob: Knob, value: u64) {
        // SAFETY: drives live as long as the process.
        unsafe { fake_set(self.0.as_ptr(), knob as u32, value) }
    }

    /// Reads one.
    #[must_use]
    pub fn get(self, knob: Knob) -> u64 {
        // SAFETY: drives live as long as the process.
        unsafe { fake_get(self.0.as_ptr(), knob as u32) }
    }

    /// Turns a bit of a byte that a namespace stores: one of its namespaces, and within it.
    pub fn spoil(self, nsid: u32, byte: u64) {
        // SAFETY: drives live as long as the process, and what is not there is not touched.
        unsafe { fake_spoil(self.0.as_ptr(), nsid, byte) }
    }

    /// Kills it.
    pub fn die(self, death: Death) {
        self.set(Knob::Death, death as u64);
    }
}
