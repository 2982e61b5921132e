//! Histories against a model that remembers everything.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::base::PerOp;
use crate::base::shape::{BlockSizes, Zone};

const BLOCK: u32 = 512;

/// Every mutation of every block, oldest first.
type Model = BTreeMap<(u16, u64), Vec<Mutation>>;

fn remember(model: &mut Model, step: &Step) {
    let mutation = Mutation { op: step.op, sequence: step.sequence, offset: step.offset, len: step.len };
    for block in (step.offset..step.offset + u64::from(step.len)).step_by(BLOCK as usize) {
        model.entry((step.target, block)).or_default().push(mutation);
    }
}

fn any_sizes() -> impl Strategy<Value = BlockSizes> {
    prop_oneof![
        (1_u32..5).prop_map(|n| BlockSizes::Fixed(n * BLOCK)),
        (1_u32..3, 1_u32..5)
            .prop_map(|(min, n)| BlockSizes::Range { min: min * BLOCK, max: min * n * BLOCK }),
        (1_u32..9, 1_u32..9, 1_u32..99)
            .prop_map(|(a, b, share)| BlockSizes::Split(vec![(a * BLOCK, share), (b * BLOCK, 100 - share)])),
    ]
}

fn any_distribution() -> impl Strategy<Value = Distribution> {
    prop_oneof![
        4 => Just(Distribution::Random),
        1 => Just(Distribution::Zipf(1.1)),
        1 => Just(Distribution::Pareto(0.2)),
        1 => Just(Distribution::Normal(20.0)),
        1 => Just(Distribution::Zoned(vec![
            Zone { access_percent: 80.0, range_percent: 20.0 },
            Zone { access_percent: 20.0, range_percent: 80.0 },
        ])),
    ]
}

fn any_regions() -> impl Strategy<Value = Vec<Region>> {
    prop_oneof![
        2 => (0_u64..4, 9 * 512_u64..60_000).prop_map(|(start, bytes)| {
            vec![Region { target: 0, start: start * 4096, bytes }]
        }),
        1 => prop::collection::vec((9 * 512_u64..12_000, 0_u16..3), 1..5).prop_map(|list| {
            list.into_iter().enumerate().map(|(at, (bytes, target))| {
                Region { target, start: at as u64 * 16_384, bytes }
            }).collect()
        }),
    ]
}

prop_compose! {
    fn any_spec()(
        regions in any_regions(),
        mix in prop::sample::select(vec![Mix::Read, Mix::Write, Mix::Trim, Mix::ReadWrite, Mix::TrimWrite]),
        sizes in any_sizes(),
        random in prop::bool::weighted(0.8),
        coverage in prop::bool::weighted(0.8),
        modifier in prop::option::weighted(0.4, prop_oneof![1_u64..6, Just(1000), Just(u64::MAX)]),
        align in prop_oneof![3 => Just(0), 1 => (1_u32..4).prop_map(|n| n * BLOCK)],
        distribution in any_distribution(),
        percentage_random in prop_oneof![3 => Just(100), 1 => 0_u32..100],
        read_percent in 0_u32..100,
        seed: u64,
        passes in prop::option::of(1_u64..6),
    ) -> WorkloadSpec {
        let modifier = if random { modifier } else { modifier.map(|hole| (hole % 7) * u64::from(BLOCK)) };
        WorkloadSpec {
            regions, mix, read_percent, random, coverage, modifier,
            sizes: PerOp::all(sizes),
            align: PerOp::all(align),
            distribution: PerOp::all(distribution),
            percentage_random: PerOp::all(percentage_random),
            seed,
            limit: Limit { passes, ios: Some(1200), bytes: None },
        }
    }
}

fn prepared(spec: &WorkloadSpec, issued: Issued, unsettled: &[(Op, u64)]) -> History {
    let mut history = History::new(spec, issued, BLOCK, unsettled).unwrap();
    while !history.prepare(7) {}
    history
}

fn check(spec: &WorkloadSpec, issued: Issued, model: &Model, unsettled: &[(Op, u64)]) {
    let mut history = prepared(spec, issued, unsettled);
    for region in &spec.regions {
        let blocks = (region.start..region.start + region.bytes).step_by(BLOCK as usize);
        for block in blocks {
            let all = model.get(&(region.target, block)).map_or(&[][..], |list| list);
            let mut found = history.newest(region.target, block);
            assert_eq!(found, all.last().copied(), "newest of {block} after {issued:?}");
            for wanted in all.iter().rev() {
                assert_eq!(found, Some(*wanted), "block {block} after {issued:?}");
                let settled = !unsettled.contains(&(wanted.op, wanted.sequence));
                found = history.older(region.target, block, wanted);
                if settled && found.is_none() {
                    break;
                }
            }
            assert_eq!(found, None, "block {block} after {issued:?}");
        }
    }
    for target in 0..3 {
        let wanted: Vec<(u64, Mutation)> = model
            .iter()
            .filter(|((on, _), _)| *on == target)
            .map(|((_, block), list)| (*block, *list.last().unwrap()))
            .collect();
        let mut touched = Vec::new();
        let mut from = 0;
        while let Some(found) = history.next_touched(target, from, 1 << 20) {
            touched.push((found.offset, found.newest));
            from = found.offset + u64::from(BLOCK);
        }
        assert_eq!(touched, wanted, "target {target} after {issued:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 100 } else { 3000 }))]

    #[test]
    fn a_history_answers_as_one_who_remembers_everything(
        spec in any_spec(), cuts in prop::collection::btree_set(0_usize..1300, 1..4),
        loose in prop::collection::vec((any::<bool>(), 0_u64..1200), 0..60),
    ) {
        let Ok(mut workload) = Workload::new(&spec) else { return Ok(()) };
        let (mut model, mut issued, mut done) = (Model::new(), Issued::default(), Vec::new());
        let unsettled: Vec<(Op, u64)> = loose
            .iter()
            .map(|&(write, sequence)| (if write { Op::Write } else { Op::Deallocate }, sequence))
            .collect();
        for number in 0..=1200 {
            if cuts.contains(&number) {
                check(&spec, issued, &model, &unsettled);
                prop_assert!(Mutations::new(&spec, issued).unwrap().eq(done.iter().copied()));
            }
            let Some(step) = workload.next() else { break };
            match step.op {
                Op::Write => issued.writes += 1,
                Op::Deallocate => issued.trims += 1,
                _ => continue,
            }
            remember(&mut model, &step);
            done.push(step);
        }
        check(&spec, issued, &model, &unsettled);
    }
}
