//! Memory that cannot be had ends the program with a sentence, and not by `abort`.
//!
//! Most allocations cannot report a failure: the standard library aborts the process, which looks like a crash. The
//! allocator of the command says what could not be had and exits with code 4 instead. Where a caller has a better
//! answer, such as for the buffers of I/O, [`may_fail`] gives it the failure.

#![allow(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, Ordering};

/// The exit code: at first that of an environment that lacks something, as in `report::exit`.
static EXIT_CODE: AtomicI32 = AtomicI32::new(4);

thread_local! {
    static MAY_FAIL: Cell<bool> = const { Cell::new(false) };
    static PURPOSE: Cell<&'static str> = const { Cell::new("") };
}

/// The system's allocator, for the command.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExitWithoutMemory;

/// Sets the exit code for memory that cannot be had.
pub fn exit_with(code: i32) {
    EXIT_CODE.store(code, Ordering::Relaxed);
}

/// Does what knows how to go on if memory cannot be had: its allocations fail as those of any allocator.
pub fn may_fail<T>(allocate: impl FnOnce() -> T) -> T {
    let before = MAY_FAIL.replace(true);
    let made = allocate();
    MAY_FAIL.set(before);
    made
}

/// Says what memory is for, should it fail: `for the histograms`.
pub fn naming<T>(purpose: &'static str, allocate: impl FnOnce() -> T) -> T {
    let before = PURPOSE.replace(purpose);
    let made = allocate();
    PURPOSE.set(before);
    made
}

// SAFETY: every call goes to the system's allocator as it is; where that fails, the process ends or the caller is
// given the null that it gave.
unsafe impl GlobalAlloc for ExitWithoutMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        checked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        checked(unsafe { System.realloc(start, layout, bytes) }, bytes)
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) }
    }
}

#[inline]
fn checked(start: *mut u8, bytes: usize) -> *mut u8 {
    if start.is_null() { failed(bytes) } else { start }
}

#[cold]
fn failed(bytes: usize) -> *mut u8 {
    // A thread whose storage is gone is about to end.
    if MAY_FAIL.try_with(Cell::get).unwrap_or(false) {
        return null_mut();
    }
    let purpose = PURPOSE.try_with(Cell::get).unwrap_or("");
    let mut digits = [0; 20];
    let parts: [&[u8]; 5] = [
        b"error: out of memory: ",
        decimal(bytes, &mut digits),
        b" bytes more could not be had ",
        purpose.as_bytes(),
        b"\n  lower numjobs, iodepth, bs or size, or allow more (ulimit -v, the control group's memory.max)\n",
    ];
    for part in parts {
        // SAFETY: the bytes are there for as long as the call takes; what cannot be written is not said.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    // SAFETY: it does not come back. Nothing is run or flushed at the end: that could need memory.
    unsafe { libc::_exit(EXIT_CODE.load(Ordering::Relaxed)) }
}

/// A number in digits, without an allocation.
fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_an_allocation() {
        for number in [0, 7, 10, 4096, usize::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_caller_that_can_go_on_is_given_the_failure() {
        assert!(may_fail(|| checked(null_mut(), 1)).is_null());
        assert!(!MAY_FAIL.get());
        naming("for a test", || assert_eq!(PURPOSE.get(), "for a test"));
        assert_eq!(PURPOSE.get(), "");
    }
}
