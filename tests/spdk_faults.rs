//! Faults of drives behind the spdk engine.
