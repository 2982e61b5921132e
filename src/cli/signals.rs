//! Signals: the first SIGINT, SIGTERM or SIGHUP ends the run in order, the second does not wait for
//! devices, the third does not wait at all. SIGUSR1 asks for the statistics so far,
//! SIGUSR2 fires the trigger.
//!
//! SIGHUP and SIGINT stay ignored where they were ignored when the program started, as in the programs of POSIX:
//! `nohup` ignores the first, a shell without job control ignores the second for what it runs in the background.
//! SIGTERM always ends a run.

use std::sync::atomic::Ordering;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::run::Requests;

/// Starts to listen.
pub fn listen() -> std::io::Result<Requests> {
    let requests = Requests::default();
    let heard = requests.clone();
    let mut signals = Signals::new(heard_of(ignored_signals()))?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGUSR1 {
                heard.dump.store(1, Ordering::Release);
                continue;
            }
            if signal == SIGUSR2 {
                heard.trigger.store(1, Ordering::Release);
                continue;
            }
            let number = usize::try_from(signal).unwrap_or(0);
            heard.end_signal.store(number, Ordering::Release);
            if heard.end_count.fetch_add(1, Ordering::AcqRel) >= 2 {
                std::process::exit(128 + signal);
            }
        }
    })?;
    Ok(requests)
}

/// The signals that are listened to, where those of the mask are ignored.
fn heard_of(ignored: u64) -> Vec<i32> {
    let may_stay_ignored = |signal: i32| matches!(signal, SIGHUP | SIGINT);
    let is_ignored = |signal: i32| ignored >> (signal - 1) & 1 == 1;
    let all = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2].into_iter();
    all.filter(|&signal| !(may_stay_ignored(signal) && is_ignored(signal))).collect()
}

/// The signals that this process ignores, a bit each from signal 1 on; none where the kernel does not say.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ignored_at_the_start_stays_so_except_the_signal_that_always_ends_a_run() {
        assert_eq!(heard_of(0), [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2]);
        assert_eq!(heard_of(1 << (SIGHUP - 1)), [SIGINT, SIGTERM, SIGUSR1, SIGUSR2]);
        assert_eq!(heard_of(1 << (SIGINT - 1)), [SIGTERM, SIGHUP, SIGUSR1, SIGUSR2]);
        assert_eq!(heard_of(u64::MAX), [SIGTERM, SIGUSR1, SIGUSR2]);
    }

    #[test]
    fn the_kernel_says_what_is_ignored() {
        // Rust ignores SIGPIPE before `main`.
        assert_eq!(ignored_signals() >> (signal_hook::consts::SIGPIPE - 1) & 1, 1);
    }
}
