//! What engines open, and how.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use fio_spdk::base::Op;
use fio_spdk::engine::{Engine, EngineOptions, Null, Psync, SPDK, Sim, Targets};

use super::{BLOCK, Hand, open};

/// Where a program with the real SPDK finds two namespaces of at least 256 blocks of 4096 bytes, whose
/// beginning is overwritten: transport ids with a `;` in between.
pub const REAL: &str = "FIO_SPDK_TEST_TARGETS";

thread_local! {
    /// A check has a thread of its own, and comes by all shapes in the same order each time.
    static TURN: Cell<usize> = const { Cell::new(0) };
}

/// Whether SPDK is the one in memory.
pub const MADE_UP: bool = cfg!(feature = "spdk-fake");

#[allow(clippy::disallowed_methods, reason = "a test's own command line is for the names of tests")]
fn real() -> Vec<PathBuf> {
    let text = std::env::var(REAL).unwrap_or_default();
    text.split(';').map(str::trim).filter(|id| !id.is_empty()).map(PathBuf::from).collect()
}

/// Why the engine has nothing to be tried on.
pub fn missing<E: Engine>() -> Option<String> {
    let wanting = E::TARGETS == Targets::Namespaces && !MADE_UP && real().len() < 2;
    wanting.then(|| format!("two namespaces in {REAL} are missing"))
}

/// The real namespaces, with zeros in their first `blocks` blocks.
fn zeroed<E: Engine>(count: usize, blocks: u64, options: &EngineOptions) -> Vec<PathBuf> {
    let mut paths = real();
    paths.truncate(count);
    let at_once = 4 * BLOCK;
    for path in &paths {
        let engine = open::<E>(std::slice::from_ref(path), options).unwrap();
        let mut hand = Hand::new(&engine, 1, 1).unwrap();
        for offset in (0..blocks * u64::from(BLOCK)).step_by(at_once as usize) {
            assert_eq!(hand.with_byte(Op::Write, offset, at_once, 0).0, 0, "{}", path.display());
        }
    }
    paths
}

/// A namespace that a controller at `path` does not have, and a controller that is not there.
pub fn absent(path: &Path) -> [String; 2] {
    if MADE_UP {
        return ["trtype=VFIOUSER traddr=/missing ns=1", "trtype=VFIOUSER traddr=/there ns=2"]
            .map(str::to_owned);
    }
    let path = path.to_string_lossy();
    let controller = path.split(" ns=").next().unwrap_or_default();
    ["trtype=VFIOUSER traddr=/missing ns=1".to_owned(), format!("{controller} ns=99")]
}

/// Names for `count` targets of `blocks` blocks that hold zeros: files in `dir`, or namespaces of a
/// controller that nobody has used before.
pub fn targets<E: Engine>(dir: &Path, count: usize, blocks: u64, options: &EngineOptions) -> Vec<PathBuf> {
    static CONTROLLERS: AtomicU32 = AtomicU32::new(0);
    if E::TARGETS == Targets::Namespaces && !MADE_UP {
        return zeroed::<E>(count, blocks, options);
    }
    if E::TARGETS == Targets::Namespaces {
        let number = CONTROLLERS.fetch_add(1, Ordering::Relaxed);
        let shapes = ["", ",lba4096,xfer8192", ",lba4096,md8,pi1", ",md16,ext,pi1,pifirst"];
        let shape = shapes[TURN.replace(TURN.get() + 1) % shapes.len()];
        let controller = format!("trtype=VFIOUSER traddr=/conformance/{number},ns{count},mb1{shape}");
        return (1..=count).map(|nsid| PathBuf::from(format!("{controller} ns={nsid}"))).collect();
    }
    let paths: Vec<PathBuf> = ["a", "b"][..count].iter().map(|name| dir.join(name)).collect();
    for path in &paths {
        std::fs::write(path, vec![0_u8; (blocks * u64::from(BLOCK)).try_into().unwrap()]).unwrap();
    }
    paths
}

/// The ways in which an engine is opened.
pub fn variants(name: &str) -> Vec<(&'static str, EngineOptions)> {
    let plain = EngineOptions { reads: true, writes: true, ..EngineOptions::default() };
    let direct = EngineOptions { direct: true, ..plain.clone() };
    let both = EngineOptions { fixed_buffers: true, registered_files: true, ..plain.clone() };
    match name {
        Null::NAME => vec![("plain", plain)],
        Sim::NAME => {
            let mut big = EngineOptions { dsync: true, ..plain.clone() };
            (big.sim.lba, big.sim.atomic_unit) = (4096, Some(16384));
            let mut slow = plain.clone();
            (slow.sim.cache, slow.sim.latency_ns) = (false, 20_000);
            vec![("plain", plain), ("dsync_4k", big), ("slow", slow)]
        }
        Psync::NAME => vec![("plain", plain), ("direct", direct)],
        SPDK => {
            let mut eager = EngineOptions { dsync: true, ..plain.clone() };
            eager.spdk.delay_cmd_submit = false;
            let mut narrow = plain.clone();
            (narrow.spdk.io_queue_size, narrow.spdk.io_queue_requests) = (Some(4), Some(512));
            let mut checked = plain.clone();
            checked.spdk.command_timeout_ns = 1_000_000_000;
            vec![("plain", plain), ("eager", eager), ("narrow", narrow), ("timeouts", checked)]
        }
        _ => vec![
            ("plain", plain.clone()),
            ("direct", direct.clone()),
            ("fixed_buffers", EngineOptions { fixed_buffers: true, ..plain.clone() }),
            ("registered_files", EngineOptions { registered_files: true, ..plain.clone() }),
            ("registered", both.clone()),
            ("registered_direct", EngineOptions { direct: true, ..both.clone() }),
            ("sqpoll", EngineOptions { sqpoll: true, ..plain.clone() }),
            ("sqpoll_registered", EngineOptions { sqpoll: true, ..both.clone() }),
            ("iopoll", EngineOptions { iopoll: true, ..direct }),
        ],
    }
}
