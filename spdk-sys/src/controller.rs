//! A controller: attached, asked, watched, given up.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::bindings::{self, fs_ctrlr, fs_ctrlr_health, fs_ctrlr_info, fs_ctrlr_options, fs_ns_info};
use crate::errno;

/// An attached controller. Detached, with a shutdown notification, when it is dropped.
#[derive(Debug)]
pub struct Controller {
    raw: NonNull<fs_ctrlr>,
}

// SAFETY: the shim's controller functions may be called from any thread: SPDK's take the controller's
// lock, and the shim's own state is atomic or behind a mutex.
unsafe impl Send for Controller {}
// SAFETY: as above.
unsafe impl Sync for Controller {}

/// Which way the data of an admin command goes.
#[derive(Debug)]
pub enum Direction<'a> {
    /// There is none.
    None,
    /// From the device.
    From(&'a mut [u8]),
    /// To the device.
    To(&'a [u8]),
}

/// An admin command (NVMe Base 2.0, figure 87).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdminCommand {
    /// Opcode.
    pub opcode: u8,
    /// Namespace.
    pub nsid: u32,
    /// Command dwords 10 to 15.
    pub cdw: [u32; 6],
}

impl AdminCommand {
    fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0] = self.opcode;
        bytes[4..8].copy_from_slice(&self.nsid.to_le_bytes());
        for (to, word) in bytes[40..].chunks_exact_mut(4).zip(self.cdw) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// Why an admin command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminError {
    /// It was not answered, or could not be sent: errno.
    Errno(i32),
    /// The controller's status: SC in bits 0 to 7, SCT in 8 to 10, DNR in 14.
    Status(u16),
}

impl Controller {
    /// Attaches the controller that an SPDK transport id names.
    ///
    /// # Errors
    /// EINVAL: not a transport id; ENODEV: there is no such controller, or it does not come up. The log
    /// has more.
    pub fn attach(transport_id: &str, options: &fs_ctrlr_options) -> Result<Controller, i32> {
        let id = CString::new(transport_id).map_err(|_| 22)?;
        let mut raw = std::ptr::null_mut();
        // SAFETY: `id` and `options` live until the call returns; `raw` is written if it succeeds.
        match unsafe { bindings::fs_ctrlr_attach(id.as_ptr(), options, &raw mut raw) } {
            0 => NonNull::new(raw).map(|raw| Controller { raw }).ok_or(19),
            rc => Err(errno(rc)),
        }
    }

    /// The shim's handle.
    pub(crate) fn raw(&self) -> *mut fs_ctrlr {
        self.raw.as_ptr()
    }

    /// What it can do.
    #[must_use]
    pub fn info(&self) -> fs_ctrlr_info {
        let mut info = MaybeUninit::uninit();
        // SAFETY: the handle is valid until `drop`, and the function writes all of `info`.
        unsafe { bindings::fs_ctrlr_info(self.raw(), info.as_mut_ptr()) };
        // SAFETY: written above.
        unsafe { info.assume_init() }
    }

    /// Identify Controller.
    #[must_use]
    pub fn identify(&self) -> Box<[u8; 4096]> {
        let mut data = Box::new([0; 4096]);
        // SAFETY: the function writes 4096 bytes.
        unsafe { bindings::fs_ctrlr_identify(self.raw(), data.as_mut_ptr()) };
        data
    }

    /// Identify Namespace; `None` if there is none of that number, or it is not active.
    #[must_use]
    pub fn identify_namespace(&self, nsid: u32) -> Option<Box<[u8; 4096]>> {
        let mut data = Box::new([0; 4096]);
        // SAFETY: the function writes 4096 bytes, or nothing.
        let rc = unsafe { bindings::fs_ns_identify(self.raw(), nsid, data.as_mut_ptr()) };
        (rc == 0).then_some(data)
    }

    /// Geometry of a namespace; `None` if there is none of that number, or it is not active.
    #[must_use]
    pub fn namespace(&self, nsid: u32) -> Option<fs_ns_info> {
        let mut info = MaybeUninit::uninit();
        // SAFETY: the function writes all of `info` if it returns 0.
        let rc = unsafe { bindings::fs_ns_info(self.raw(), nsid, info.as_mut_ptr()) };
        // SAFETY: written if 0 was returned.
        (rc == 0).then(|| unsafe { info.assume_init() })
    }

    /// Runs an admin command to its end; returns dword 0 of the completion.
    ///
    /// # Errors
    /// If there was no answer within `timeout_us`, or one that says no.
    pub fn admin(
        &self,
        command: &AdminCommand,
        data: Direction<'_>,
        timeout_us: u64,
    ) -> Result<u32, AdminError> {
        let bytes = command.bytes();
        let (pointer, len, direction) = match data {
            Direction::None => (std::ptr::null_mut(), 0, bindings::FS_DIR_NONE),
            Direction::From(data) => (data.as_mut_ptr(), data.len(), bindings::FS_DIR_FROM_DEVICE),
            // Only read by the shim.
            Direction::To(data) => (data.as_ptr().cast_mut(), data.len(), bindings::FS_DIR_TO_DEVICE),
        };
        let len = u32::try_from(len).map_err(|_| AdminError::Errno(22))?;
        let (mut cdw0, mut status) = (0, 0);
        let (raw, cdw0_at, status_at) = (self.raw(), &raw mut cdw0, &raw mut status);
        // SAFETY: `bytes` has 64 bytes; `pointer` has `len`, writable where data comes from the device;
        // the shim copies and keeps none of them.
        let rc = unsafe {
            bindings::fs_ctrlr_admin(
                raw,
                bytes.as_ptr(),
                pointer,
                len,
                direction,
                timeout_us,
                cdw0_at,
                status_at,
            )
        };
        match (rc, status & 0x7ff) {
            (0, 0) => Ok(cdw0),
            (0, _) => Err(AdminError::Status(status)),
            (rc, _) => Err(AdminError::Errno(errno(rc))),
        }
    }

    /// Polls admin completions, events and keep-alives.
    ///
    /// # Errors
    /// If the controller is dead: errno.
    pub fn poll(&self) -> Result<(), i32> {
        // SAFETY: the handle is valid until `drop`.
        match unsafe { bindings::fs_ctrlr_poll(self.raw()) } {
            0 => Ok(()),
            rc => Err(errno(rc)),
        }
    }

    /// Registers and counters.
    #[must_use]
    pub fn health(&self) -> fs_ctrlr_health {
        let mut health = MaybeUninit::uninit();
        // SAFETY: the function writes all of `health`.
        unsafe { bindings::fs_ctrlr_health(self.raw(), health.as_mut_ptr()) };
        // SAFETY: written above.
        unsafe { health.assume_init() }
    }

    /// The asynchronous events since the last call, as dword 0 of their completions.
    #[must_use]
    pub fn events(&self) -> Vec<u32> {
        let mut events = vec![0; 32];
        // SAFETY: `events` has room for 32.
        let count = unsafe { bindings::fs_ctrlr_events(self.raw(), events.as_mut_ptr(), 32) };
        events.truncate(count as usize);
        events
    }

    /// Gives the controller up: its queues report that they are dead.
    pub fn fail(&self) {
        // SAFETY: the handle is valid until `drop`.
        unsafe { bindings::fs_ctrlr_fail(self.raw()) }
    }

    /// Resets it and brings it up again; queues lose what is in flight.
    ///
    /// # Errors
    /// If it does not come up again: then it has been given up.
    pub fn reset(&self) -> Result<(), i32> {
        // SAFETY: the handle is valid until `drop`.
        match unsafe { bindings::fs_ctrlr_reset(self.raw()) } {
            0 => Ok(()),
            rc => Err(errno(rc)),
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // SAFETY: the last use of the handle; queues hold the controller, so none is left.
        unsafe { bindings::fs_ctrlr_detach(self.raw.as_ptr()) }
    }
}
