//! Server and client: the same run, driven from another machine.
//!
//! A server ([`server`]) starts a process for each run ([`session`]), which does it as the command line
//! would, and tells what happens; the server passes that on to the client that drives the run, and to
//! those that watch. A client ([`client`]) keeps what counts: the snapshots, and the report.

pub mod address;
pub mod client;
pub mod connect;
pub mod keys;
pub mod listen;
pub mod server;
pub mod session;
pub mod settings;
pub mod wire;

use std::time::Duration;

use wire::bench::ProtocolVersion;

/// The port of a server, as fio's.
pub const PORT: u16 = 8765;

/// No message is longer: jobs with their files, a snapshot, a report.
pub const MOST_MESSAGE_BYTES: usize = 16 << 20;

/// Who has nothing else to say says so this often.
pub const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// Who is silent for so long has vanished, unless the user says another time.
pub const VANISHED_AFTER: Duration = Duration::from_secs(10);

/// The protocol that is spoken here, major and minor.
pub const PROTOCOL: (u32, u32) = (1, 0);

/// What is said first.
#[must_use]
pub fn protocol() -> ProtocolVersion {
    ProtocolVersion { major: PROTOCOL.0, minor: PROTOCOL.1, program: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Whether the other side and this one understand each other: minors at most one apart.
///
/// # Errors
/// A sentence that names both versions.
pub fn check_protocol(peer: Option<&ProtocolVersion>, who: &str) -> Result<(), String> {
    let Some(peer) = peer else { return Err(format!("{who} did not say which protocol it speaks")) };
    if peer.major == PROTOCOL.0 && peer.minor.abs_diff(PROTOCOL.1) <= 1 {
        return Ok(());
    }
    Err(format!(
        "{who} speaks protocol {}.{} (fio-spdk {}), and this one {}.{} (fio-spdk {}): they must be the same \
         but for one minor version",
        peer.major,
        peer.minor,
        crate::base::host::printable(&peer.program),
        PROTOCOL.0,
        PROTOCOL.1,
        env!("CARGO_PKG_VERSION"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_minor_version_apart_is_fine_and_no_more() {
        let peer = |major, minor| ProtocolVersion { major, minor, program: "9.9.9".to_owned() };
        let (major, minor) = PROTOCOL;
        for fine in [minor, minor + 1, minor.saturating_sub(1)] {
            assert_eq!(check_protocol(Some(&peer(major, fine)), "dut1"), Ok(()));
        }
        for (major, minor) in [(major, minor + 2), (major + 1, minor), (major - 1, minor)] {
            let why = check_protocol(Some(&peer(major, minor)), "dut1").unwrap_err();
            assert!(why.contains(&format!("dut1 speaks protocol {major}.{minor} (fio-spdk 9.9.9)")), "{why}");
        }
        assert!(check_protocol(None, "dut1").is_err());
    }
}
