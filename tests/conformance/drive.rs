//! What is particular to a simulated drive.

use std::path::PathBuf;

use fio_spdk::base::Op;
use fio_spdk::base::sim::{Fault, FaultRates};
use fio_spdk::engine::{Engine, EngineOptions};
use libtest_mimic::Completion as Verdict;

use super::{BLOCK, Hand, Outcome, open};

/// A drive has no end to read up to; it gives less than was asked for when it is told to.
pub fn short<E: Engine>(paths: &[PathBuf], options: &EngineOptions) -> Outcome {
    let mut options = options.clone();
    options.sim.faults.set(Fault::Short, FaultRates::WHOLE);
    // What is written whole or not at all never comes back short.
    options.sim.atomic_unit = None;
    // A drive keeps its geometry for life: this is a new one.
    paths.iter().for_each(fio_spdk::engine::sim::forget);
    let engine = open::<E>(paths, &options)?;
    let mut hand = Hand::new(&engine, 4, 4)?;
    for op in [Op::Write, Op::Read] {
        let mut io = hand.io(op, 0, 4 * BLOCK);
        let byte = if op == Op::Write { 9 } else { 0 };
        io.buffer.fill(byte);
        let mut parts = 0;
        while io.moved < io.len {
            io.submit_ns = 77;
            hand.submit(vec![io]);
            let done = hand.wait_for(1).pop().unwrap();
            assert!(done.status.is_ok() && done.bytes > 0 && done.io.submit_ns == 77, "{done:?}");
            let end = (done.io.moved + done.bytes) as usize;
            assert!(done.io.buffer[..end].iter().all(|&byte| byte == 9), "as far as it went");
            assert!(done.io.buffer[end..].iter().all(|&seen| seen == byte), "and no further");
            io = done.io;
            io.moved += done.bytes;
            parts += 1;
        }
        assert!(parts > 1, "{op:?}");
        hand.free.push(io.buffer);
    }
    Ok(Verdict::Completed)
}
