//! Where a server listens, and a client goes to.

use std::path::PathBuf;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `dut1`, `dut1:8765`, `10.0.0.5`, `[::1]:8765`.
    Tcp {
        /// A name or an address.
        host: String,
        /// [`super::PORT`] unless told.
        port: u16,
    },
    /// `unix:/run/fio-spdk.sock`.
    Unix(PathBuf),
}
