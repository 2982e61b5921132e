//! Is this right: blocks and what stands in them, checksums, the ledger of promises, and the judge.
//! Knows neither engines nor workloads.

mod allowed;
pub mod block;
pub mod board;
pub mod checksum;
mod damage;
mod diagnose;
pub mod failures;
pub mod flush_credit;
pub mod judge;
pub mod ledger;
mod owner;
pub mod payload;
pub mod promises;
pub mod snapshot;
#[cfg(test)]
mod tests;
