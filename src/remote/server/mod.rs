//! The server: runs, those who drive them and those who watch.
