//! What an earlier run left, in whichever format, below writes that were never flushed: old data and
//! nothing else where it is whole, and torn where it shares a logical block with a new write.

use super::*;
use crate::base::random;

use State::{Completed, Failed, InFlight};

/// What the region held before: a name, and the bytes around [`HERE`], [`MARGIN`] before it and behind.
type Old = (String, Vec<u8>);
const MARGIN: usize = 1 << 16;

/// Content of an earlier run in many formats: versions of the payload, methods, lengths of blocks, places of
/// headers, grids; random bytes and a counter, which no format explains.
fn old_content() -> Vec<Old> {
    let mut all = Vec::new();
    let mut lay = |name: String, format: BlockFormat, version: u16, shift: usize, run: u128| {
        let sealer = Sealer { version, ..Sealer::new(format, RunId(run), 1) };
        let len = sealer.format.interval as usize;
        let mut bytes = vec![0; 2 * MARGIN];
        for (number, block) in bytes[shift..].chunks_mut(len).enumerate() {
            let offset = HERE.offset - MARGIN as u64 + (shift + number * len) as u64;
            let facts = WriteFacts {
                io_offset: offset,
                io_len: sealer.format.interval,
                sequence: number as u64 % 40,
                time_unix_ns: 1_600_000_000_000_000_000,
                ..WriteFacts::default()
            };
            sealer.seal_block(block, offset, TARGETS[0], &facts);
        }
        all.push((name, bytes));
    };
    for (method, name) in [(Method::Crc32c, "crc32c"), (Method::Md5, "md5")] {
        for interval in [128_u32, 512, 1000, 4096, 32768] {
            for header_at in [0_u32, 300] {
                let room = Bench::new(method, interval, 512).format.head_bytes() as u32;
                if interval < room + header_at {
                    continue;
                }
                let format = BlockFormat { interval, method, header_at, pattern: None };
                for version in [1, 2] {
                    for shift in [0, 512] {
                        let name = format!(
                            "{name}, {interval} bytes, header at {header_at}, version {version}, from {shift}"
                        );
                        lay(name, format.clone(), version, shift, 77);
                    }
                }
            }
        }
    }
    let noise = (0..2 * MARGIN as u64).map(|at| random::at(11, at).to_le_bytes()[0]).collect();
    all.push(("random bytes".to_owned(), noise));
    all.push(("a counter".to_owned(), (0..=255).cycle().take(2 * MARGIN).collect()));
    all
}

fn benches() -> Vec<Bench> {
    let mut benches = Vec::new();
    for (interval, lba, header_at) in
        [(512, 512, 0), (1024, 512, 256), (4096, 512, 0), (4096, 4096, 0), (4096, 4096, 256), (8192, 4096, 0)]
    {
        let mut bench = Bench::new(Method::Crc32c, interval, lba);
        bench.format.header_at = header_at;
        benches.push(bench);
    }
    benches
}

/// Header first, as the judge is asked.
fn read(bench: &Bench, mut medium: Vec<u8>) -> Vec<u8> {
    bench.format.unswap_front(&mut medium);
    medium
}

#[test]
fn an_intact_older_block_of_any_format_is_old_data() {
    let old_content = old_content();
    for bench in benches() {
        let len = bench.format.interval as usize;
        let candidates: Vec<Candidate> =
            (0..4).map(|sequence| bench.write(40 - sequence, Completed)).collect();
        for (name, bytes) in &old_content {
            for at in [0, 1, 3].map(|k| MARGIN - 2048 + k * len.min(512)) {
                // At this place, from wherever it was: the judge sees many stretches of the old content.
                let block = read(&bench, bytes[at..at + len].to_vec());
                let found = bench.ask(&block, &no_floor(&candidates));
                assert_eq!(found.verdict, Verdict::AllowedLoss, "{name}, {:?}: {found:#?}", bench.format);
            }
        }
    }
}

#[test]
fn whole_logical_blocks_of_old_content_and_of_a_first_write_may_mix() {
    let old_content = old_content();
    for bench in benches() {
        let (len, lba) = (bench.format.interval as usize, bench.lba as usize);
        let mut w9 = bench.block(9);
        bench.format.swap_front(&mut w9);
        for (name, bytes) in &old_content {
            let old = &bytes[MARGIN..MARGIN + len];
            for at in (lba..len).step_by(lba) {
                for mix in [cut(&w9, old, at), cut(old, &w9, at)] {
                    let found = bench.ask(&read(&bench, mix), &no_floor(&[bench.write(9, Failed)]));
                    assert_eq!(
                        found.verdict,
                        Verdict::InFlight,
                        "{name}, {at}, {:?}: {found:#?}",
                        bench.format
                    );
                }
            }
        }
    }
}

#[test]
fn a_tear_inside_a_logical_block_is_found_from_both_ends_over_any_old_content() {
    let old_content = old_content();
    for bench in benches() {
        let len = bench.format.interval as usize;
        let mut w9 = bench.block(9);
        bench.format.swap_front(&mut w9);
        let first = no_floor(&[bench.write(9, InFlight)]);
        let header_at = bench.format.header_at as usize;
        for (number, (name, bytes)) in old_content.iter().enumerate() {
            let old = &bytes[MARGIN..MARGIN + len];
            for k in 0..12 {
                let drawn = random::below(random::at(number as u64, k), len as u64 - 1) + 1;
                let at = usize::try_from(drawn).unwrap();
                let inside = at % bench.lba as usize;
                // So near an end that too few bytes of the write are there that only it has.
                let near = inside < 16 || bench.lba as usize - inside < 8 || at + 8 > len;
                if inside == 0 || near || header_at > 0 && at < header_at + 64 {
                    continue;
                }
                for mix in [cut(&w9, old, at), cut(old, &w9, at)] {
                    let found = bench.ask(&read(&bench, mix), &first);
                    assert_eq!(found.verdict, Verdict::Torn, "{name}, {at}, {:?}: {found:#?}", bench.format);
                }
            }
        }
    }
}

#[test]
fn a_tear_is_found_although_very_many_writes_may_stand_there() {
    let bench = Bench::new(Method::Crc32c, 4096, 512);
    let candidates: Vec<Candidate> =
        (0..5000).rev().map(|sequence| bench.write(sequence, Completed)).collect();
    let allowed = Allowed::gather(candidates.into_iter(), |_| false, 5000);
    let old = vec![7; 4096];
    for sequence in [4999, 4900, 2000, 100] {
        for at in [700, 1500, 4000] {
            for mix in [cut(&bench.block(sequence), &old, at), cut(&old, &bench.block(sequence), at)] {
                bench.earns(Verdict::Torn, &mix, &allowed);
            }
        }
    }
}

#[test]
fn parts_of_old_blocks_of_any_method_where_data_was_promised_are_torn() {
    let bench = Bench::new(Method::Crc32c, 4096, 512);
    let of = |method, run, sequence| {
        let sealer = Sealer::new(BlockFormat { method, ..bench.format.clone() }, RunId(run), 1);
        bench.by(&sealer, TARGETS[0], HERE.offset, sequence)
    };
    let promised = floor(&[bench.write(9, Completed)]);
    for method in [Method::Md5, Method::Sha512, Method::Crc32c, Method::Xxhash] {
        let (old, older) = (of(method, 77, 3), of(Method::Crc64, 78, 4));
        for at in [512, 1024, 2048, 3584] {
            for mix in [cut(&bench.block(9), &old, at), cut(&old, &bench.block(9), at), cut(&old, &older, at)]
            {
                bench.earns(Verdict::Torn, &mix, &promised);
            }
        }
    }
}
