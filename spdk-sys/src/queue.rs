//! A queue: one queue pair a target, used by one thread.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::bindings::{self, fs_done, fs_queue, fs_queue_options};
use crate::{Controller, errno};

/// Queue pairs of one thread, and the completions that they have brought.
#[derive(Debug)]
pub struct Queue {
    raw: NonNull<fs_queue>,
    /// Outlives the queue pairs.
    controllers: Vec<Arc<Controller>>,
}

/// Why an I/O was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// There is no room now.
    Full,
    /// The queue pair is dead.
    Dead,
    /// This I/O is refused: errno.
    Refused(i32),
}

impl Queue {
    /// A queue without targets.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(options: &fs_queue_options) -> Result<Queue, i32> {
        // SAFETY: `options` lives until the call returns, and is copied.
        let raw = unsafe { bindings::fs_queue_new(options) };
        NonNull::new(raw).map(|raw| Queue { raw, controllers: Vec::new() }).ok_or(12)
    }

    /// Adds a namespace as the next target.
    ///
    /// # Errors
    /// ENOENT: no such namespace; ENOMEM; EAGAIN: the controller has no queue left; ENXIO: it is dead.
    pub fn add(&mut self, controller: Arc<Controller>, nsid: u32) -> Result<(), i32> {
        // SAFETY: both handles are valid; the controller outlives the queue pair, as it is kept here.
        match unsafe { bindings::fs_queue_add(self.raw.as_ptr(), controller.raw(), nsid) } {
            0 => {
                self.controllers.push(controller);
                Ok(())
            }
            rc => {
                // The shim may refer to it until it is freed.
                self.controllers.push(controller);
                Err(errno(rc))
            }
        }
    }

    /// Entries of a target's submission queue.
    #[must_use]
    pub fn entries(&self, target: u32) -> u32 {
        // SAFETY: the handle is valid until `drop`.
        unsafe { bindings::fs_queue_entries(self.raw.as_ptr(), target) }
    }

    /// Submits one I/O; `op` is one of `FS_OP_*`.
    ///
    /// # Errors
    /// Why it was not taken.
    ///
    /// # Safety
    /// `target` was added; `tag` is below the depth and not in use; `buffer` came from `dma_alloc`, has
    /// as many bytes as the command moves, and nobody touches it until `tag` is among [`Queue::done`].
    #[inline]
    pub unsafe fn submit(
        &mut self,
        op: u32,
        target: u32,
        buffer: *mut u8,
        lba: u64,
        blocks: u32,
        tag: u32,
    ) -> Result<(), SubmitError> {
        // SAFETY: upheld by the caller.
        let rc = unsafe {
            bindings::fs_queue_submit(self.raw.as_ptr(), op, target, buffer.cast(), lba, blocks, tag)
        };
        match rc {
            0 => Ok(()),
            -11 => Err(SubmitError::Full),
            -6 => Err(SubmitError::Dead),
            rc => Err(SubmitError::Refused(errno(rc))),
        }
    }

    /// Rings doorbells and takes completions, about `max` a target. How many are in [`Queue::done`].
    ///
    /// # Errors
    /// A queue pair is dead: errno. What is in `done` counts all the same.
    #[inline]
    pub fn poll(&mut self, max: u32) -> Result<u32, i32> {
        // SAFETY: the handle is valid until `drop`.
        let count = unsafe { bindings::fs_queue_poll(self.raw.as_ptr(), max) };
        u32::try_from(count).map_err(|_| errno(count))
    }

    /// The completions that have not been consumed.
    #[inline]
    #[must_use]
    pub fn done(&self) -> &[fs_done] {
        let mut count = 0;
        // SAFETY: the handle is valid until `drop`.
        let done = unsafe { bindings::fs_queue_done(self.raw.as_ptr(), &raw mut count) };
        // SAFETY: the array has `count` entries, and changes only in functions that take `&mut self`.
        unsafe { std::slice::from_raw_parts(done, count as usize) }
    }

    /// Drops the first `count` of them.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        // SAFETY: the handle is valid until `drop`; more than there are is all of them.
        unsafe { bindings::fs_queue_consume(self.raw.as_ptr(), count) }
    }

    /// Commands in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        // SAFETY: the handle is valid until `drop`.
        unsafe { bindings::fs_queue_in_flight(self.raw.as_ptr()) }
    }

    /// Completions of I/Os that were not in flight.
    #[must_use]
    pub fn strays(&self) -> u64 {
        // SAFETY: the handle is valid until `drop`.
        unsafe { bindings::fs_queue_strays(self.raw.as_ptr()) }
    }

    /// Frees the queue pairs: what is in flight completes into [`Queue::done`], and nothing can be
    /// submitted any more. A controller that does not answer is given up for it.
    pub fn close(&mut self) {
        // SAFETY: the handle is valid until `drop`.
        unsafe { bindings::fs_queue_close(self.raw.as_ptr()) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the last use of the handle. The controllers are dropped after it.
        unsafe { bindings::fs_queue_free(self.raw.as_ptr()) }
    }
}
