//! Ways to a server.
