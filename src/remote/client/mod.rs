//! The client: drives runs on one or several servers, and keeps what they promise.
