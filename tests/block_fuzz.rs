//! Spoilt blocks: whatever stands on a medium gets a verdict and never a panic, and a block of which
//! a byte was changed that header, digest or pattern cover is never judged to be right. The same
//! checks serve `cargo fuzz run block`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "block_fuzz/case.rs"]
mod case;

use std::collections::BTreeMap;

use fio_spdk::base::random;
use fio_spdk::base::verify::{Method, RunId, Verdict};
use fio_spdk::verify::block::{BlockFormat, Sealer, WriteFacts};
use fio_spdk::verify::judge::{Allowed, Candidate, Judge, Place, TargetIdentity};
use fio_spdk::verify::promises::State;

#[test]
fn whatever_stands_there_gets_a_verdict() {
    let mut seen: BTreeMap<Verdict, u32> = BTreeMap::new();
    for key in 0..1500_u64 {
        let len = random::below(random::at(key, 0), 80);
        let bytes: Vec<u8> = (1..=len).map(|at| random::at(key, at).to_le_bytes()[0]).collect();
        *seen.entry(case::check(&bytes)).or_default() += 1;
    }
    for verdict in [Verdict::Ok, Verdict::InFlight, Verdict::Lost, Verdict::Torn, Verdict::Corrupt] {
        assert!(seen.get(&verdict).is_some_and(|&count| count > 2), "{verdict:?} is rare: {seen:?}");
    }
}

/// What the fuzzer found, once.
#[test]
fn what_was_found_stays_found() {
    for bytes in [
        // A header with a seed of its own, before a pattern.
        &b"\x4a\0\0\0\0\0\x01\x4a\x03\0\x0b\0\0\x0e\x95\0"[..],
        // The header of one write before digest, tag and payload of another.
        b"\xe5\xe4\xe4\0\xe4\x9e\x9f\xbf\x30\x22\xb3\xb3\x30\x22\xff\x45",
    ] {
        case::check(bytes);
    }
}

/// Flips one bit of each byte of the beginning, and of every `step`th behind it.
fn flip_bits_of(method: Method, step: usize) {
    let format = BlockFormat { interval: 512, method, header_at: 0, pattern: None };
    let sealer = Sealer::new(format, RunId(77), 1);
    let place = Place { target: 0, offset: 1 << 20 };
    let facts = WriteFacts { io_offset: place.offset, io_len: 512, sequence: 3, ..WriteFacts::default() };
    let mut block = vec![0; 512];
    sealer.seal_block(&mut block, place.offset, 5, &facts);
    let identity = TargetIdentity { id: 5, lba_bytes: 512, ..TargetIdentity::default() };
    let judge = Judge::new(sealer, [identity].into(), true);
    let op = fio_spdk::base::Op::Write;
    let written =
        Candidate { op, sequence: 3, io_offset: place.offset, io_len: 512, state: State::Completed };
    let allowed = Allowed { candidates: vec![written], has_floor: true, issued: 4, later_bytes: 0 };
    assert_eq!(judge.judge(&block, place, &allowed).verdict, Verdict::Ok);
    for at in (0..block.len()).filter(|at| *at < 48 || at % step == 0) {
        let bit = at % 8;
        block[at] ^= 1 << bit;
        let verdict = judge.judge(&block, place, &allowed).verdict;
        assert_eq!(verdict, Verdict::Corrupt, "{method:?}, bit {bit} of byte {at}");
        assert!(!judge.is_write(&block, place, 3, place.offset), "{method:?}, bit {bit} of byte {at}");
        assert!(judge.audit(&block, place, place.offset).is_some_and(|found| found.verdict != Verdict::Ok));
        block[at] ^= 1 << bit;
    }
}

#[test]
fn no_flipped_bit_passes() {
    for (_, method) in Method::ALL {
        match method {
            Method::Meta | Method::Null | Method::Pattern | Method::PatternHdr => {}
            Method::Crc32c => flip_bits_of(method, 3),
            _ => flip_bits_of(method, 17),
        }
    }
}
