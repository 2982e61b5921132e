//! Where a server listens, and a client goes to.
