//! Signals: the first SIGINT, SIGTERM or SIGHUP ends the run in order, the second does not wait for
//! devices, the third does not wait at all. SIGUSR1 asks for the statistics so far,
//! SIGUSR2 fires the trigger.

use std::sync::atomic::Ordering;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::run::Requests;

/// Starts to listen.
pub fn listen() -> std::io::Result<Requests> {
    let requests = Requests::default();
    let heard = requests.clone();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2])?;
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
