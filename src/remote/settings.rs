//! `server.toml`: where a server listens, and what it allows.
