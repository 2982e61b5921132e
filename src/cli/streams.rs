//! The standard streams: writing to them without losing what is written, and without a panic.
//!
//! A process can be started with its standard output closed. Rust opens `/dev/null` on a descriptor from 0 to 2 that
//! is closed, before `main`: no file that is opened later, such as a target, gets one of these numbers. What is
//! printed would then be lost without an error, so the program looks at the descriptors even earlier.

#![allow(
    unsafe_code,
    reason = "what is looked at before `main` takes a function in `.init_array` and fcntl(2)"
)]

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl};

use crate::base::printable::printable_lines;

/// Whether standard output was closed when the process started.
static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

// SAFETY: the loader calls the functions of this section once, on the only thread, before `main`. This one calls
// nothing but fcntl(2) and stores to a static, neither of which needs what Rust sets up later.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_AT_STDOUT: extern "C" fn() = {
    extern "C" fn look() {
        // SAFETY: F_GETFD takes no further argument, and any number may be asked about.
        let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
        STDOUT_WAS_CLOSED.store(flags < 0, Ordering::Relaxed);
    }
    look
};

/// Whether anything that is written to standard output can get anywhere.
///
/// # Errors
/// If it was closed when the process started, or is open for reading only.
pub fn check_stdout() -> io::Result<()> {
    if STDOUT_WAS_CLOSED.load(Ordering::Relaxed) {
        return Err(io::Error::other("standard output is closed"));
    }
    let mode = fcntl_getfl(io::stdout()).map_or(OFlags::empty(), |flags| flags & OFlags::ACCMODE);
    if mode == OFlags::RDONLY {
        return Err(io::Error::other("standard output is open for reading only"));
    }
    Ok(())
}

/// Writes all of a text to standard output. Control characters in it, of names of files or devices, are escaped.
///
/// # Errors
/// If standard output is closed, nobody reads it any more (`BrokenPipe`), or it cannot take the text. [`std::io::Stdout`]
/// takes a descriptor that cannot be written to for one that takes everything.
pub fn write_stdout(text: &str) -> io::Result<()> {
    check_stdout()?;
    let text = printable_lines(text);
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut left = text.as_bytes();
    while !left.is_empty() {
        match stdout.write(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => left = &left[written..],
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            // Another program that has the same terminal or pipe may have set O_NONBLOCK on it.
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None)?;
            }
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

/// Writes to standard error, or nowhere: what cannot be written there cannot be reported either, and must not end
/// the program, as [`std::eprintln`] does.
pub fn write_stderr(text: fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_all(text.to_string().as_bytes());
}

/// The same with a newline behind it, and control characters in it escaped: names of files, devices and servers.
pub fn write_stderr_line(text: fmt::Arguments<'_>) {
    write_stderr(format_args!("{}\n", printable_lines(&text.to_string())));
}

/// [`std::eprint`] that does not panic. For text whose control characters are the program's own: colours, and the
/// live line.
macro_rules! stderr {
    ($($text:tt)*) => { $crate::cli::streams::write_stderr(format_args!($($text)*)) };
}

/// [`std::eprintln`] that does not panic, and escapes control characters.
macro_rules! stderr_line {
    () => { $crate::cli::streams::write_stderr(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::streams::write_stderr_line(format_args!($($text)*)) };
}

pub(crate) use {stderr, stderr_line};
