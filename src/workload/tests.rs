//! What a workload promises, for any size, block size and pattern.

use proptest::prelude::*;

use super::*;

fn spec(mix: Mix, random: bool, bytes: u64, sizes: BlockSizes) -> WorkloadSpec {
    WorkloadSpec {
        regions: vec![Region { target: 0, start: 0, bytes }],
        service: FileService::default(),
        mix,
        read_percent: 50,
        random,
        coverage: true,
        modifier: None,
        sizes: PerOp::all(sizes),
        align: PerOp::all(0),
        distribution: PerOp::all(Distribution::Random),
        percentage_random: PerOp::all(100),
        places: crate::base::shape::Places::default(),
        trim: None,
        log: None,
        seed: 1,
        limit: Limit { passes: Some(1), ..Limit::default() },
    }
}

fn steps(spec: &WorkloadSpec) -> Vec<Step> {
    let mut workload = Workload::new(spec).unwrap();
    std::iter::from_fn(|| workload.next()).collect()
}

fn any_sizes() -> impl Strategy<Value = BlockSizes> {
    prop_oneof![
        (1_u32..3000).prop_map(BlockSizes::Fixed),
        (1_u32..300, 1_u32..20).prop_map(|(min, n)| BlockSizes::Range { min, max: min * n }),
        (1_u32..2000, 1_u32..2000, 1_u32..99)
            .prop_map(|(a, b, share)| BlockSizes::Split(vec![(a, share), (b, 100 - share)])),
    ]
}

proptest! {
    /// Every byte that a block can hold is visited exactly once a pass, whatever the pattern.
    #[test]
    fn a_pass_visits_every_block_exactly_once(
        bytes in 3000_u64..200_000, sizes in any_sizes(), random: bool, seed: u64, run in prop::option::of(1_u64..9),
        passes in 1_u64..4, start in 0_u64..1 << 50,
    ) {
        let mut spec = spec(Mix::Write, random, bytes, sizes.clone());
        spec.seed = seed;
        spec.modifier = if random { run } else { None };
        spec.limit.passes = Some(passes);
        spec.regions[0].start = start;
        let all = steps(&spec);
        let mut from = 0;
        for _ in 0..passes {
            let mut covered = 0;
            let mut pass: Vec<(u64, u32)> = Vec::new();
            while covered + u64::from(sizes.min()) <= bytes && from < all.len() {
                covered += u64::from(all[from].len);
                pass.push((all[from].offset - start, all[from].len));
                from += 1;
            }
            pass.sort_unstable();
            let mut end = 0;
            for (offset, len) in pass {
                prop_assert_eq!(offset, end);
                end = offset + u64::from(len);
            }
            prop_assert!(end <= bytes && bytes - end < u64::from(sizes.min()));
        }
        prop_assert_eq!(from, all.len());
    }

    #[test]
    fn the_same_seed_gives_the_same_sequence_and_another_seed_another(
        bytes in 100_000_u64..1 << 45, random_distribution in 0..4, coverage: bool, seed: u64,
    ) {
        let mut spec = spec(Mix::ReadWrite, true, bytes, BlockSizes::Fixed(512));
        spec.seed = seed;
        spec.coverage = coverage;
        spec.limit = Limit { ios: Some(500), ..Limit::default() };
        spec.distribution = PerOp::all(match random_distribution {
            0 => Distribution::Random,
            1 => Distribution::Zipf(1.1),
            2 => Distribution::Pareto(0.2),
            _ => Distribution::Normal(10.0),
        });
        let first = steps(&spec);
        prop_assert_eq!(&first, &steps(&spec));
        prop_assert_eq!(first.len(), 500);
        spec.seed = seed.wrapping_add(1);
        prop_assert_ne!(&first, &steps(&spec));
        prop_assert!(first.iter().all(|step| step.offset % 512 == 0 && step.offset + 512 <= bytes));
    }

    #[test]
    fn a_mix_has_exactly_its_percentage_in_every_hundred(percent in 0_u32..=100, hundreds in 1_u64..20, seed: u64) {
        let mut spec = spec(Mix::ReadWrite, true, 1 << 30, BlockSizes::Fixed(4096));
        spec.read_percent = percent;
        spec.seed = seed;
        spec.limit = Limit { ios: Some(100 * hundreds), ..Limit::default() };
        let reads = steps(&spec).iter().filter(|step| step.op == Op::Read).count() as u64;
        prop_assert_eq!(reads, u64::from(percent) * hundreds);
    }

    #[test]
    fn blockalign_is_kept(align_log in 0_u32..14, size in 1_u32..9000, seed: u64, coverage: bool) {
        let mut spec = spec(Mix::Read, true, 1 << 20, BlockSizes::Fixed(size));
        spec.align = PerOp::all(1 << align_log);
        spec.coverage = coverage;
        spec.seed = seed;
        spec.limit = Limit { ios: Some(64), ..Limit::default() };
        for step in steps(&spec) {
            prop_assert_eq!(step.offset % (1 << align_log), 0);
            prop_assert!(step.offset + u64::from(step.len) <= 1 << 20);
        }
    }
}

proptest! {
    /// Whatever chooses the file, a pass does every block of every file once, and a turn is as long as
    /// asked for as long as nothing has ended.
    #[test]
    fn every_service_does_every_file_once_a_pass(
        sizes in prop::collection::vec(1_u64..40, 1..7), which in 0..6, ios in 1_u64..9, seed: u64, random: bool,
        passes in 1_u64..4,
    ) {
        let mut spec = spec(Mix::Write, random, 512, BlockSizes::Fixed(512));
        spec.regions = (0..).zip(&sizes).map(|(target, size)| Region { target, start: 512, bytes: size * 512 }).collect();
        spec.service = match which {
            0 => FileService::RoundRobin { ios },
            1 => FileService::Sequential,
            2 => FileService::Random { ios },
            3 => FileService::Shaped(Distribution::Zipf(1.3)),
            4 => FileService::Shaped(Distribution::Pareto(0.1)),
            _ => FileService::Shaped(Distribution::Normal(10.0)),
        };
        spec.seed = seed;
        spec.limit.passes = Some(passes);
        let all = steps(&spec);
        let of_pass: u64 = sizes.iter().sum();
        prop_assert_eq!(all.len() as u64, of_pass * passes);
        for pass in all.chunks(usize::try_from(of_pass).unwrap()) {
            let mut seen: Vec<(u16, u64)> = pass.iter().map(|step| (step.target, step.offset)).collect();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), pass.len());
        }
        if which == 1 {
            prop_assert!(all[..usize::try_from(of_pass).unwrap()].is_sorted_by_key(|step| step.target));
        }
        if which == 0 && sizes[0] >= ios && sizes.len() > 1 {
            let turn = usize::try_from(ios).unwrap();
            prop_assert!(all[..turn].iter().all(|step| step.target == 0) && all[turn].target == 1);
        }
    }
}

#[test]
fn each_of_256_blocks_is_visited_once() {
    let all = steps(&spec(Mix::Read, true, 256 * 4096, BlockSizes::Fixed(4096)));
    let mut blocks: Vec<u64> = all.iter().map(|step| step.offset / 4096).collect();
    assert_ne!(blocks, (0..256).collect::<Vec<_>>(), "a random order");
    blocks.sort_unstable();
    assert_eq!(blocks, (0..256).collect::<Vec<_>>());
}

#[test]
fn a_second_pass_has_another_order() {
    let mut spec = spec(Mix::Read, true, 256 * 4096, BlockSizes::Fixed(4096));
    spec.limit.passes = Some(2);
    let all = steps(&spec);
    assert_ne!(
        all[..256].iter().map(|s| s.offset).collect::<Vec<_>>(),
        all[256..].iter().map(|s| s.offset).collect::<Vec<_>>()
    );
}

#[test]
fn a_region_of_more_than_2_to_the_32_blocks_has_every_offset_in_reach() {
    let mut spec = spec(Mix::Read, true, 100 << 40, BlockSizes::Fixed(512));
    spec.limit = Limit { ios: Some(10_000), ..Limit::default() };
    let all = steps(&spec);
    let mut offsets: Vec<u64> = all.iter().map(|step| step.offset).collect();
    assert!(
        offsets.iter().any(|&offset| offset > 99 << 40) && offsets.iter().any(|&offset| offset < 1 << 40)
    );
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets.len(), 10_000);
}

#[test]
fn holes_are_skipped_and_the_amount_goes_on_from_the_start() {
    let mut spec = spec(Mix::Read, false, 8 * 4096, BlockSizes::Fixed(4096));
    spec.modifier = Some(4096);
    spec.limit = Limit { bytes: Some(8 * 4096), ..Limit::default() };
    let blocks: Vec<u64> = steps(&spec).iter().map(|step| step.offset / 4096).collect();
    assert_eq!(blocks, [0, 2, 4, 6, 0, 2, 4, 6]);
}

#[test]
fn a_random_modifier_visits_neighbours_of_each_offset_drawn() {
    let mut spec = spec(Mix::Read, true, 64 * 4096, BlockSizes::Fixed(4096));
    spec.modifier = Some(4);
    for group in steps(&spec).chunks(4) {
        assert_eq!(group[0].offset % (4 * 4096), 0);
        assert!(group.windows(2).all(|pair| pair[1].offset == pair[0].offset + 4096));
    }
}

#[test]
fn trimwrite_trims_each_block_and_then_writes_it() {
    let all = steps(&spec(Mix::TrimWrite, true, 32 * 4096, BlockSizes::Fixed(4096)));
    assert_eq!(all.len(), 64);
    for pair in all.chunks(2) {
        assert_eq!((pair[0].op, pair[1].op), (Op::Deallocate, Op::Write));
        assert_eq!((pair[0].offset, pair[0].len), (pair[1].offset, pair[1].len));
    }
}

#[test]
fn files_take_turns_and_a_finished_one_waits_for_the_others() {
    let mut spec = spec(Mix::Read, false, 0, BlockSizes::Fixed(10));
    spec.regions =
        [(0, 20), (1, 40), (2, 10)].map(|(target, bytes)| Region { target, start: 0, bytes }).to_vec();
    let turns: Vec<(u16, u64)> = steps(&spec).iter().map(|step| (step.target, step.offset / 10)).collect();
    assert_eq!(turns, [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (1, 2), (1, 3)]);
}

#[test]
fn percentage_random_is_the_share_of_jumps() {
    let mut spec = spec(Mix::Read, true, 1 << 40, BlockSizes::Fixed(4096));
    spec.percentage_random = PerOp::all(30);
    spec.limit = Limit { ios: Some(20_000), ..Limit::default() };
    let all = steps(&spec);
    let jumps = all.windows(2).filter(|pair| pair[1].offset != pair[0].offset + 4096).count();
    assert!((5700..6300).contains(&jumps), "{jumps} of 20000");
}

#[test]
fn bssplit_shares_hold_with_and_without_coverage() {
    for coverage in [true, false] {
        let sizes = BlockSizes::Split(vec![(4096, 50), (16384, 25), (65536, 25)]);
        let mut spec = spec(Mix::Write, true, 1 << 34, sizes);
        spec.coverage = coverage;
        spec.limit = Limit { ios: Some(40_000), ..Limit::default() };
        let all = steps(&spec);
        for (size, share) in [(4096, 0.5), (16384, 0.25), (65536, 0.25)] {
            let got = all.iter().filter(|step| step.len == size).count() as f64 / all.len() as f64;
            assert!((got - share).abs() < 0.01, "{size}: {got} (coverage {coverage})");
        }
    }
}

#[test]
fn a_region_without_room_for_a_block_is_refused() {
    let error = Workload::new(&spec(Mix::Read, true, 4095, BlockSizes::Fixed(4096))).unwrap_err();
    assert!(error.to_string().contains("holds no block of 4096"), "{error}");
}

#[test]
fn a_modifier_of_more_neighbours_than_the_region_has_does_not_stall_the_end_of_a_pass() {
    let mut spec = spec(Mix::Read, true, 64 * 4096, BlockSizes::Fixed(4096));
    for modifier in [65, 1 << 40, u64::MAX] {
        spec.modifier = Some(modifier);
        spec.limit.passes = Some(2);
        assert_eq!(steps(&spec).len(), 128);
    }
}

#[test]
fn a_hole_beyond_all_bounds_leaves_one_block() {
    for sizes in [BlockSizes::Fixed(4096), BlockSizes::Range { min: 512, max: 4096 }] {
        let mut spec = spec(Mix::Read, false, 64 * 4096, sizes);
        for hole in [1 << 40, u64::MAX - 4095, u64::MAX] {
            spec.modifier = Some(hole);
            assert_eq!(steps(&spec).iter().map(|step| step.offset).collect::<Vec<_>>(), [0], "hole {hole}");
        }
    }
}

/// Where blocks are drawn with repeats, a pass is the region's bytes.
#[test]
fn passes_end_where_offsets_are_drawn_too() {
    let blocks = 64;
    let mut drawn = spec(Mix::Read, true, blocks * 8192, BlockSizes::Fixed(8192));
    drawn.limit = Limit { ios: Some(100_000), passes: Some(3), bytes: None };
    // An alignment below the block: blocks overlap, so none can be visited exactly once.
    drawn.align = PerOp::all(4096);
    let all = steps(&drawn);
    assert_eq!(all.len() as u64, 3 * blocks);
    let pass = |n: usize| all[64 * n..64 * (n + 1)].iter().map(|step| step.offset).collect::<Vec<_>>();
    assert_ne!(pass(0), pass(1), "each pass has draws of its own");
}

#[test]
fn regions_of_2_to_the_63_bytes_and_of_one_block_do_not_overflow() {
    for bytes in [1, 512, 1 << 63, u64::MAX] {
        for sizes in [
            BlockSizes::Fixed(1),
            BlockSizes::Range { min: 1, max: 1 << 20 },
            BlockSizes::Split(vec![(1, 33), (7, 33), (1 << 20, 34)]),
        ] {
            for (random, coverage) in [(false, true), (true, true), (true, false)] {
                let mut spec = spec(Mix::Read, random, bytes, sizes.clone());
                spec.coverage = coverage;
                spec.limit = Limit { ios: Some(300), passes: Some(1), bytes: None };
                let Ok(mut workload) = Workload::new(&spec) else { continue };
                while let Some(step) = workload.next() {
                    assert!(step.offset.checked_add(u64::from(step.len)).is_some_and(|end| end <= bytes));
                }
            }
        }
    }
}
