//! Each verdict, at each length.

use super::*;
use crate::base::random;

use State::{Completed, Durable, Failed, InFlight};

const INTERVALS: [u32; 4] = [512, 1024, 4096, 16384];

fn benches(methods: &[Method]) -> Vec<Bench> {
    let mut benches = Vec::new();
    for &method in methods {
        for interval in INTERVALS {
            for lba in [512, 4096] {
                benches.push(Bench::new(method, interval, lba));
            }
        }
    }
    benches
}

const ALL: [Method; 7] = [
    Method::Crc32c,
    Method::Md5,
    Method::Sha512,
    Method::Meta,
    Method::Crc7,
    Method::PatternHdr,
    Method::Pattern,
];
/// Those whose digest covers the block well.
const STRONG: [Method; 3] = [Method::Crc32c, Method::Md5, Method::Sha512];
const TAGGED: [Method; 5] = [Method::Crc32c, Method::Md5, Method::Sha512, Method::Meta, Method::Crc7];
const HEADED: [Method; 6] =
    [Method::Crc32c, Method::Md5, Method::Sha512, Method::Meta, Method::Crc7, Method::PatternHdr];

#[test]
fn what_may_stand_is_told_by_age() {
    for bench in benches(&ALL) {
        let [w9, w5] = [9, 5].map(|sequence| bench.block(sequence));
        let write = |sequence, state| bench.write(sequence, state);
        bench.earns(Verdict::Ok, &w9, &floor(&[write(9, Completed)]));
        bench.earns(Verdict::Ok, &w9, &floor(&[write(9, Completed), write(5, Durable)]));
        bench.earns(Verdict::AllowedLoss, &w5, &floor(&[write(9, Completed), write(5, Durable)]));
        for state in [InFlight, Failed] {
            bench.earns(Verdict::InFlight, &w9, &floor(&[write(9, state), write(5, Completed)]));
            bench.earns(Verdict::InFlight, &w5, &floor(&[write(9, state), write(5, Completed)]));
            bench.earns(Verdict::InFlight, &vec![7; w9.len()], &no_floor(&[write(9, state)]));
        }
        bench.earns(Verdict::AllowedLoss, &vec![0; w9.len()], &no_floor(&[write(9, Completed)]));
        let mut damaged = w9.clone();
        damaged[w9.len() - 9] ^= 4;
        for block in [&w9, &damaged, &vec![0; w9.len()], &vec![7; w9.len()]] {
            assert!(!bench.ask(block, &no_floor(&[])).verdict.is_violation());
        }
    }
}

#[test]
fn older_than_what_must_stand_is_lost_and_newer_than_issued_from_the_future() {
    for bench in benches(&HEADED) {
        let allowed = floor(&[bench.write(9, InFlight), bench.write(5, Completed)]);
        bench.earns(Verdict::Lost, &bench.block(2), &allowed);
        bench.earns(Verdict::FromTheFuture, &bench.block(1000), &allowed);
        bench.earns(Verdict::Lost, &bench.block(2), &floor(&[bench.write(5, Durable)]));
    }
}

#[test]
fn other_runs_places_targets_and_workers_are_told_apart() {
    for bench in benches(&TAGGED) {
        let allowed = floor(&[bench.write(9, Completed)]);
        let other = |run, worker| Sealer::new(bench.format.clone(), run, worker);
        let (stale, ours, theirs) = (other(RunId(77), 1), other(RUN, 1), other(RUN, 2));
        let by = |sealer, target: usize, offset| bench.by(sealer, TARGETS[target], offset, 9);
        bench.earns(Verdict::StaleRun, &by(&stale, 0, HERE.offset), &allowed);
        bench.earns(Verdict::Foreign, &by(&ours, 1, HERE.offset), &allowed);
        bench.earns(Verdict::Foreign, &by(&theirs, 0, HERE.offset), &allowed);
        for (sealer, worker) in [(&ours, 1), (&theirs, 2)] {
            let found = bench.earns(Verdict::Misplaced, &by(sealer, 0, 1 << 16), &allowed);
            let text = found.details.join("\n");
            assert!(text.contains(&format!("culprit: write 9 of worker {worker}, meant for offset 65536")));
            assert!(text.contains(&format!("victim: write 9, at offset {}", HERE.offset)), "{text}");
        }
        // What stood there before may be anything, but not what this worker of this run wrote.
        bench.earns(Verdict::Misplaced, &by(&ours, 0, 1 << 16), &no_floor(&[]));
        bench.earns(Verdict::Unwritten, &by(&stale, 0, 1 << 16), &no_floor(&[]));
        bench.earns(Verdict::InFlight, &by(&stale, 0, HERE.offset), &no_floor(&[bench.write(9, InFlight)]));
        // Blocks of another method say of which run they are.
        let method = if bench.format.method == Method::Md5 { Method::Crc32c } else { Method::Md5 };
        let format = BlockFormat { method, ..bench.format.clone() };
        let sealer = Sealer::new(format, RunId(77), 1);
        bench.earns(Verdict::StaleRun, &by(&sealer, 0, HERE.offset), &allowed);
    }
}

#[test]
fn zeros_and_ones_are_blank() {
    for bench in benches(&ALL) {
        let allowed = floor(&[bench.write(9, InFlight), bench.write(5, Completed)]);
        for byte in [0, 0xff] {
            bench.earns(Verdict::Blank, &vec![byte; bench.format.interval as usize], &allowed);
        }
    }
}

#[test]
fn trimmed_blocks_read_as_zeros() {
    for bench in benches(&ALL) {
        let zeros = vec![0; bench.format.interval as usize];
        let (w5, w9) = (bench.block(5), bench.block(9));
        let trimmed = floor(&[bench.trim(2, Completed)]);
        bench.earns(Verdict::Ok, &zeros, &trimmed);
        bench.earns(Verdict::NotZero, &w5, &trimmed);
        bench.earns(Verdict::NotZero, &vec![0xff; zeros.len()], &trimmed);
        bench.earns(Verdict::NotZero, &vec![3; zeros.len()], &trimmed);
        bench.earns(Verdict::NotZero, &cut(&w5, &zeros, zeros.len() / 2), &trimmed);
        let trimming = floor(&[bench.trim(2, InFlight), bench.write(5, Completed)]);
        bench.earns(Verdict::InFlight, &zeros, &trimming);
        bench.earns(Verdict::InFlight, &w5, &trimming);
        let volatile = floor(&[bench.trim(2, Completed), bench.write(5, Durable)]);
        bench.earns(Verdict::Ok, &zeros, &volatile);
        bench.earns(Verdict::AllowedLoss, &w5, &volatile);
        if zeros.len() > bench.lba as usize {
            let lba = bench.lba as usize;
            bench.earns(Verdict::InFlight, &cut(&w5, &zeros, lba), &trimming);
            bench.earns(Verdict::AllowedLoss, &cut(&zeros, &w5, lba), &volatile);
        }
        let rewritten = floor(&[bench.write(9, InFlight), bench.trim(2, Completed)]);
        bench.earns(Verdict::InFlight, &zeros, &rewritten);
        bench.earns(Verdict::InFlight, &w9, &rewritten);
        // Nobody said that trimmed blocks read as zeros.
        let lax = Bench { zeros: false, ..bench.clone() };
        for block in [&w5, &zeros, &vec![3; zeros.len()], &cut(&w5, &w9, zeros.len() / 2)] {
            for allowed in [&trimmed, &trimming, &volatile, &rewritten] {
                assert!(!lax.ask(block, allowed).verdict.is_violation(), "{:?}", lax.ask(block, allowed));
            }
        }
    }
}

/// The first and the last places where multiples of `unit` cut a block: those between are like them.
fn cuts(unit: usize, len: usize) -> impl Iterator<Item = usize> {
    (unit..len).step_by(unit).filter(move |&at| at < 4 * unit || len - at <= 2 * unit)
}

#[test]
fn whole_atomic_units_may_mix_while_in_flight() {
    for mut bench in benches(&[Method::Crc32c, Method::Sha512, Method::PatternHdr, Method::Pattern]) {
        for (atomic, header_at) in [(0, 0), (4096, 0), (8192, 0), (0, 256), (0, 300)] {
            bench.atomic = atomic;
            bench.format.header_at = if bench.format.method.has_header() { header_at } else { 0 };
            let unit = atomic.max(bench.lba) as usize;
            let len = bench.format.interval as usize;
            // A device mixes what stands on the medium.
            let medium = |sequence| {
                let mut block = bench.block(sequence);
                bench.format.swap_front(&mut block);
                block
            };
            let read = |mut block: Vec<u8>| {
                bench.format.unswap_front(&mut block);
                block
            };
            let (w9, w5) = (medium(9), medium(5));
            let flying = floor(&[bench.write(9, InFlight), bench.write(5, Completed)]);
            let volatile = floor(&[bench.write(9, Completed), bench.write(5, Durable)]);
            let first = no_floor(&[bench.write(9, Failed)]);
            let garbage: Vec<u8> = (0..len as u64).map(|at| random::at(5, at).to_le_bytes()[0]).collect();
            for at in cuts(unit, len) {
                for mix in [cut(&w9, &w5, at), cut(&w5, &w9, at)].map(read) {
                    bench.earns(Verdict::InFlight, &mix, &flying);
                    bench.earns(Verdict::AllowedLoss, &mix, &volatile);
                    if bench.format.method != Method::PatternHdr && bench.format.method != Method::Pattern {
                        bench.earns(Verdict::Torn, &mix, &floor(&[bench.write(9, Completed)]));
                    }
                }
                bench.earns(Verdict::InFlight, &read(cut(&w9, &garbage, at)), &first);
                bench.earns(Verdict::InFlight, &read(cut(&garbage, &w9, at)), &first);
            }
            let weak = bench.format.pattern.is_some();
            for at in cuts(512, len).filter(|at| at % unit != 0 && !weak) {
                for mix in [cut(&w9, &w5, at), cut(&w5, &w9, at)].map(read) {
                    bench.earns(Verdict::Torn, &mix, &flying);
                    bench.earns(Verdict::Torn, &mix, &volatile);
                }
                bench.earns(Verdict::Torn, &read(cut(&w9, &garbage, at)), &first);
                bench.earns(Verdict::Torn, &read(cut(&garbage, &w9, at)), &first);
            }
        }
    }
}

#[test]
fn old_blocks_of_any_kind_may_mix_with_a_first_write() {
    for bench in benches(&STRONG) {
        let (len, lba) = (bench.format.interval as usize, bench.lba as usize);
        let first = no_floor(&[bench.write(9, InFlight)]);
        let stale = Sealer::new(bench.format.clone(), RunId(77), 1);
        for sequence in 0..40 {
            let old = bench.by(&stale, TARGETS[0], HERE.offset, sequence);
            let w9 = bench.block(9);
            bench.earns(Verdict::InFlight, &old, &first);
            for at in (lba..len).step_by(lba) {
                bench.earns(Verdict::InFlight, &cut(&w9, &old, at), &first);
                bench.earns(Verdict::InFlight, &cut(&old, &w9, at), &first);
            }
        }
    }
}

#[test]
fn a_cut_inside_an_lba_is_torn_wherever_it_is() {
    for bench in benches(&STRONG) {
        let len = bench.format.interval as usize;
        let (w9, w5, w2) = (bench.block(9), bench.block(5), bench.block(2));
        let (zeros, settled) = (vec![0; len], floor(&[bench.write(9, Completed)]));
        let flying = floor(&[bench.write(9, InFlight), bench.write(5, Completed)]);
        let lba = bench.lba as usize;
        for at in [300, 450, 700, 1000, 3000, 12300].into_iter().filter(|&at| at < len.min(16000)) {
            let text = bench.earns(Verdict::Torn, &cut(&w9, &w5, at), &flying).details.join("\n");
            assert!(text.contains("write 9") && text.contains("LBA"), "{text}");
            bench.earns(Verdict::Torn, &cut(&w5, &w9, at), &flying);
            bench.earns(Verdict::Torn, &cut(&w9, &zeros, at), &settled);
            bench.earns(Verdict::Torn, &cut(&w9, &zeros, at), &flying);
            // The older write is known only by what it left.
            bench.earns(Verdict::Torn, &cut(&w9, &w2, at), &settled);
            bench.earns(Verdict::Torn, &cut(&w9, &w2, at), &flying);
            bench.earns(Verdict::Torn, &cut(&w9, &vec![7; len], at), &no_floor(&[bench.write(9, InFlight)]));
        }
        for at in (lba..len).step_by(lba) {
            let found = bench.earns(Verdict::Torn, &cut(&w9, &w2, at), &settled);
            let lbas = (HERE.offset + at as u64) / lba as u64;
            let text = found.details.join("\n");
            assert!(text.contains(&format!("{lbas}")) && text.contains(": write 2"), "{text}");
            let stale = Sealer::new(bench.format.clone(), RunId(77), 1);
            let stale = bench.by(&stale, TARGETS[0], HERE.offset, 3);
            bench.earns(Verdict::Torn, &cut(&w9, &stale, at), &settled);
            bench.earns(Verdict::Torn, &cut(&stale, &w9, at), &settled);
        }
    }
}

#[test]
fn a_cut_in_the_last_sector_is_torn_also_between_writes_with_the_same_stretch_of_the_pool() {
    for bench in benches(&STRONG) {
        let len = bench.format.interval as usize;
        // In the last sector, behind tag or stamp and before the tail.
        let (at, tail) = (len - 200, len - 16);
        let blocks: Vec<Vec<u8>> = (0..150).map(|sequence| bench.block(sequence)).collect();
        let alike = |older: &usize, newer: usize| blocks[*older][at..tail] == blocks[newer][at..tail];
        let mut pairs =
            (0..150).filter_map(|newer| Some(((0..newer).find(|older| alike(older, newer))?, newer)));
        let (older, newer) =
            pairs.next().expect("some of 11175 pairs of writes draw the same of 1024 stretches");
        let (new, old) = (bench.write(newer as u64, InFlight), bench.write(older as u64, Completed));
        for at in [at, tail] {
            let [begins_new, begins_old] =
                [(newer, older), (older, newer)].map(|(first, then)| cut(&blocks[first], &blocks[then], at));
            for block in [&begins_new, &begins_old] {
                bench.earns(Verdict::Torn, block, &floor(&[new, old]));
                bench.earns(Verdict::Torn, block, &floor(&[Candidate { state: Completed, ..new }]));
            }
        }
    }
}

#[test]
fn a_cut_inside_the_head_of_a_block_or_of_an_lba_is_torn() {
    for bench in benches(&STRONG) {
        let (w9, w5) = (bench.block(9), bench.block(5));
        let flying = floor(&[bench.write(9, InFlight), bench.write(5, Completed)]);
        let first = no_floor(&[bench.write(9, InFlight)]);
        // Up to byte 8 all writes are the same; then comes the seed.
        for at in [13, 16, 20, 24, 28, 32, 40, 44, 48, 50, 52, 64, 80, 100, 120, 124] {
            bench.earns(Verdict::Torn, &cut(&w9, &w5, at), &flying);
            bench.earns(Verdict::Torn, &cut(&w5, &w9, at), &flying);
            if at >= 16 {
                bench.earns(Verdict::Torn, &cut(&w9, &vec![7; w9.len()], at), &first);
                bench.earns(Verdict::Torn, &cut(&w9, &vec![0; w9.len()], at), &flying);
            }
        }
        let lba = bench.lba as usize;
        for start in (lba..w9.len()).step_by(lba).take(2) {
            for at in [5, 8, 12, 16, 24, 31, 32, 40].map(|at| start + at) {
                bench.earns(Verdict::Torn, &cut(&w9, &w5, at), &flying);
                bench.earns(Verdict::Torn, &cut(&w5, &w9, at), &flying);
            }
        }
    }
}

#[test]
fn one_bit_anywhere_is_corruption_and_said_where() {
    for bench in benches(&STRONG).into_iter().filter(|bench| bench.lba == 512) {
        let (len, front) = (bench.format.interval as usize, bench.format.front_bytes());
        let allowed = floor(&[bench.write(9, Completed)]);
        let header = [0, 2, 3, 4, 8, 16, 24, 28, 32, 40, 42, 44].map(|at| (at, "header"));
        let tag = [0, 8, 12, 16, 30, 32, 40, 48, 56, 64, 70].map(|at| (front + at, "tag"));
        let payload = [front + 72, len / 2 + 3, len - 1].map(|at| (at, "payload"));
        for (at, part) in
            header.into_iter().chain([(48, "digest"), (front - 1, "digest")]).chain(tag).chain(payload)
        {
            for bit in [0, 7] {
                let mut block = bench.block(9);
                block[at] ^= 1 << bit;
                let allowed_too = no_floor(&[bench.write(9, InFlight)]);
                bench.earns(Verdict::Corrupt, &block, &allowed);
                let text = bench.earns(Verdict::Corrupt, &block, &allowed_too).details.join("\n");
                let place = format!("1 bytes (1 bits) differ, the first at byte {at} ({part})");
                assert!(text.contains(&place), "{place}: {text}");
            }
        }
    }
    // Here nothing guards the tag but the header.
    for bench in benches(&[Method::Meta]) {
        let mut block = bench.block(9);
        block[48 + 17] ^= 1;
        bench.earns(Verdict::Corrupt, &block, &floor(&[bench.write(9, Completed)]));
    }
    // With a pattern there is no tag, but the header's own crc.
    for bench in benches(&[Method::PatternHdr]) {
        for at in [0, 2, 3, 4, 8, 16, 24, 28, 32, 40, 42, 44] {
            let mut block = bench.block(9);
            block[at] ^= 1;
            let found = bench.earns(Verdict::Corrupt, &block, &floor(&[bench.write(9, Completed)]));
            let place = format!("1 bytes (1 bits) differ, the first at byte {at} (header)");
            assert!(found.details.join("\n").contains(&place), "{place}: {found:?}");
        }
    }
    for bench in benches(&[Method::PatternHdr, Method::Pattern]) {
        let mut block = bench.block(9);
        block[400] ^= 1;
        bench.earns(Verdict::Corrupt, &block, &floor(&[bench.write(9, Completed)]));
    }
}

#[test]
fn what_fits_no_write_is_corrupt() {
    for bench in benches(&STRONG) {
        let len = bench.format.interval as usize;
        let allowed = floor(&[bench.write(9, InFlight), bench.write(5, Completed)]);
        let good = bench.block(9);
        let noise = |at: usize, bytes: usize| {
            let mut block = good.clone();
            for (index, byte) in block[at..at + bytes].iter_mut().enumerate() {
                *byte = random::at(1, index as u64).to_le_bytes()[0];
            }
            block
        };
        for at in [0, 30, 60, 250, len / 2, len - 100] {
            let at = at.min(len - 100);
            bench.earns(Verdict::Corrupt, &noise(at, 100), &allowed);
        }
        bench.earns(Verdict::Corrupt, &noise(0, len), &allowed);
        for by in [1, 8, 13, 100] {
            let left = [&good[by..], &vec![0; by][..]].concat();
            let text = bench.earns(Verdict::Corrupt, &left, &allowed).details.join("\n");
            assert!(text.contains(&format!("write 9, shifted by -{by} bytes")), "{text}");
            let right = [&vec![0; by][..], &good[..len - by]].concat();
            let text = bench.earns(Verdict::Corrupt, &right, &allowed).details.join("\n");
            assert!(text.contains(&format!("write 9, shifted by {by} bytes")), "{text}");
        }
        if len >= 1536 {
            let elsewhere = bench.by(&bench.sealer(), TARGETS[0], 1 << 16, 4);
            let middle = len / 1024 * 512;
            let mut block = good.clone();
            block[middle..middle + 512].copy_from_slice(&elsewhere[middle..middle + 512]);
            let text = bench.earns(Verdict::Corrupt, &block, &allowed).details.join("\n");
            let offset = (1 << 16) + middle;
            assert!(
                text.contains(&format!("write 4 of worker 1 of run ...55667788 for offset {offset}")),
                "{text}"
            );
        }
        let mut header = crate::verify::block::Header::read(&good).unwrap();
        header.version = 3;
        let mut other = good.clone();
        header.write(other.first_chunk_mut().unwrap());
        let found = bench.earns(Verdict::Corrupt, &other, &allowed);
        assert!(found.stands.contains("version"), "{found:?}");
    }
}

#[test]
fn audits_know_no_history() {
    for bench in benches(&TAGGED) {
        let mut judge = bench.judge();
        judge.knows_run = false;
        judge.sealer.run = RunId(0);
        let audit = |block: &[u8]| judge.audit(block, HERE, HERE.offset).map(|found| found.verdict);
        let good = bench.block(9);
        assert_eq!(audit(&good), None);
        for nothing in [vec![0; good.len()], vec![0xff; good.len()], vec![3; good.len()]] {
            assert_eq!(audit(&nothing), Some(Verdict::Unwritten));
        }
        let by = |target: usize, offset| bench.by(&bench.sealer(), TARGETS[target], offset, 9);
        assert_eq!(audit(&by(0, 1 << 16)), Some(Verdict::Misplaced));
        assert_eq!(audit(&by(1, HERE.offset)), Some(Verdict::Foreign));
        let mut bad = good.clone();
        bad[9] ^= 1;
        assert_eq!(audit(&bad), Some(Verdict::Corrupt));
        assert_eq!(judge.run_of(&good, HERE), Some((RUN, bench.facts(9).time_unix_ns)));
    }
}

#[test]
fn of_any_later_write_any_io_will_do() {
    for bench in benches(&ALL) {
        let (judge, all) = (bench.judge(), 16 * u64::from(bench.format.interval));
        let stands = |block: &[u8], between, longest| judge.is_write_between(block, HERE, between, longest);
        for sequence in 5..40 {
            let mut block = bench.block(sequence);
            assert!(stands(&block, (4, 40), all), "{bench:?} {sequence}");
            if bench.format.method.has_header() {
                assert!(!stands(&block, (sequence, 40), all) && !stands(&block, (4, sequence), all));
            }
            if bench.format.pattern.is_some() && sequence % 16 > 0 {
                let short = HERE.offset - bench.io_offset(sequence);
                assert!(!stands(&block, (4, 40), short) && stands(&block, (4, 40), short + 1));
            }
            if bench.format.method != Method::Meta {
                let last = block.len() - 1;
                block[last] ^= 1;
                assert!(!stands(&block, (4, 40), all), "{bench:?} {sequence}");
            }
        }
        assert!(!stands(&bench.block(7), (6, 7), all), "none was issued");
    }
}

#[test]
fn of_very_many_writes_that_may_stand_none_is_forgotten() {
    let bench = Bench::new(Method::Crc32c, 4096, 512);
    let failed = (2..=6000).rev().map(|sequence| bench.write(sequence, State::Failed));
    let chain = failed.chain([bench.write(1, State::Durable)]);
    let allowed = Allowed::gather(chain, |candidate| candidate.state == State::Durable, 6001);
    assert!(allowed.candidates.len() < 6000, "some were left out");
    // Whole, and mixed with another by whole logical blocks.
    bench.earns(Verdict::InFlight, &bench.block(500), &allowed);
    bench.earns(Verdict::InFlight, &cut(&bench.block(500), &bench.block(6000), 1536), &allowed);
    bench.earns(Verdict::InFlight, &cut(&bench.block(6000), &bench.block(500), 1536), &allowed);
    bench.earns(Verdict::Lost, &bench.block(0), &allowed);
    bench.earns(Verdict::Torn, &cut(&bench.block(0), &bench.block(6000), 1536), &allowed);
}
