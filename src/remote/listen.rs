//! Who may come in: sockets, handshakes, limits.
