//! Words that every other floor shares. Knows nothing of jobs, engines or reports.

pub mod atomic;
pub mod clock;
pub mod cut;
pub mod errno_set;
pub mod host;
pub mod ioprio;
pub mod nvme;
pub mod op;
pub mod pause;
pub mod permutation;
pub mod premises;
pub mod printable;
pub mod random;
pub mod replay;
pub mod seqlock;
pub mod shape;
pub mod sim;
pub mod spdk;
pub mod status;
pub mod steady;
pub mod transport_id;
pub mod units;
pub mod verify;

pub use op::{Op, PerOp};
pub use status::Status;
