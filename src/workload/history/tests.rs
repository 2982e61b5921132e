//! Histories against a model that remembers everything.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::base::PerOp;
use crate::base::shape::{BlockSizes, FileService, Places, SpRandom, Strides, Zone};
use crate::workload::TrimRule;

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
        1 => (prop::collection::vec(0_u64..9, 1..5), any::<bool>())
            .prop_map(|(blocks, strides)| Distribution::Sequence { blocks, strides }),
    ]
}

fn any_places() -> impl Strategy<Value = Places> {
    let strides = (1_u64..30, 9_u64..30, 0_u64..30).prop_map(|(amount, range, skip)| {
        let bytes = |blocks: u64| blocks * u64::from(BLOCK);
        Strides { amount: bytes(amount), range: bytes(range), skip: bytes(skip) }
    });
    prop_oneof![
        8 => Just(Places::default()),
        1 => strides.prop_map(|strides| Places { strides: Some(strides), ..Places::default() }),
        1 => Just(Places { identical: true, ..Places::default() }),
        1 => any_sizes().prop_map(|sizes| Places { sequential_sizes: Some(sizes), ..Places::default() }),
        1 => (0.05..0.9, 1_u32..9, 0_u64..2).prop_map(|(over_provisioning, parts, cache_bytes)| Places {
            sprandom: Some(SpRandom { over_provisioning, parts, cache_bytes }),
            ..Places::default()
        }),
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

fn any_trim() -> impl Strategy<Value = TrimRule> {
    let percent = prop_oneof![1_u32..=100, Just(100)];
    let writes = || prop_oneof![Just(0), 1_u64..20, 1_u64..400];
    (percent, writes(), writes()).prop_map(|(percent, backlog, batch)| TrimRule { percent, backlog, batch })
}

fn any_service() -> impl Strategy<Value = FileService> {
    prop_oneof![
        3 => Just(FileService::default()),
        1 => (1_u64..40).prop_map(|ios| FileService::RoundRobin { ios }),
        1 => Just(FileService::Sequential),
        1 => (1_u64..40).prop_map(|ios| FileService::Random { ios }),
        1 => prop::sample::select(vec![Distribution::Zipf(1.2), Distribution::Pareto(0.2), Distribution::Normal(0.0)])
            .prop_map(FileService::Shaped),
    ]
}

prop_compose! {
    fn any_spec()(
        regions in any_regions(),
        service in any_service(),
        mix in prop::sample::select(vec![Mix::Read, Mix::Write, Mix::Trim, Mix::ReadWrite, Mix::TrimWrite]),
        sizes in any_sizes(),
        random in prop::bool::weighted(0.8),
        coverage in prop::bool::weighted(0.8),
        modifier in prop::option::weighted(0.4, prop_oneof![1_u64..6, Just(1000), Just(u64::MAX)]),
        align in prop_oneof![3 => Just(0), 1 => (1_u32..4).prop_map(|n| n * BLOCK)],
        distribution in any_distribution(),
        percentage_random in prop_oneof![3 => Just(100), 1 => 0_u32..100],
        read_percent in 0_u32..100,
        trim in prop::option::of(any_trim()),
        seed: u64,
        passes in prop::option::of(1_u64..6),
        places in any_places(),
    ) -> WorkloadSpec {
        let modifier = if random { modifier } else { modifier.map(|hole| (hole % 7) * u64::from(BLOCK)) };
        WorkloadSpec {
            regions, service, mix, read_percent, random, coverage, modifier,
            sizes: PerOp::all(sizes),
            align: PerOp::all(align),
            distribution: PerOp::all(distribution),
            percentage_random: PerOp::all(percentage_random),
            places,
            trim,
            log: None,
            seed,
            limit: Limit { passes, ios: Some(1200), bytes: None },
        }
    }
}

/// A job of 4 KiB random writes over so many bytes.
fn randwrite(bytes: u64) -> WorkloadSpec {
    WorkloadSpec {
        regions: vec![Region { target: 0, start: 0, bytes }],
        service: FileService::default(),
        mix: Mix::Write,
        read_percent: 0,
        random: true,
        coverage: true,
        modifier: None,
        sizes: PerOp::all(BlockSizes::Fixed(4096)),
        align: PerOp::all(0),
        distribution: PerOp::all(Distribution::Random),
        percentage_random: PerOp::all(100),
        places: crate::base::shape::Places::default(),
        trim: None,
        log: None,
        seed: 1,
        limit: Limit::default(),
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
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_history_answers_as_one_who_remembers_everything(
        spec in any_spec(), cuts in prop::collection::btree_set(0_usize..2000, 1..4),
        loose in prop::collection::vec((any::<bool>(), 0_u64..1200), 0..60),
    ) {
        let Ok(mut workload) = Workload::new(&spec) else { return Ok(()) };
        let (mut model, mut issued, mut done) = (Model::new(), Issued::default(), Vec::new());
        let unsettled: Vec<(Op, u64)> = loose
            .iter()
            .map(|&(write, sequence)| (if write { Op::Write } else { Op::Deallocate }, sequence))
            .collect();
        for number in 0..=2400 {
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

proptest! {
    #[test]
    fn what_a_whole_workload_issues_is_known_without_issuing_it(
        spec in any_spec(), ios in prop::option::of(0_u64..1500), bytes in prop::option::of(0_u64..1 << 20),
    ) {
        let spec = WorkloadSpec { limit: Limit { ios, bytes, passes: spec.limit.passes }, ..spec };
        let Ok(mut workload) = Workload::new(&spec) else { return Ok(()) };
        let Some(said) = Issued::at_end(&spec).unwrap() else {
            prop_assert_eq!(spec.limit, Limit::default());
            return Ok(());
        };
        let mut issued = Issued::default();
        while let Some(step) = workload.next() {
            issued.writes += u64::from(step.op == Op::Write);
            issued.trims += u64::from(step.op == Op::Deallocate);
        }
        prop_assert_eq!(said, issued);
    }

    #[test]
    fn a_rule_of_trims_changes_no_other_command_and_no_limit(
        spec in any_spec(), trim in any_trim(), bytes in prop::option::of(0_u64..1 << 20),
    ) {
        let steps = |trim: Option<TrimRule>| -> Option<Vec<Step>> {
            let limit = Limit { bytes, ..spec.limit };
            let mix = if spec.mix == Mix::ReadWrite { Mix::ReadWrite } else { Mix::Write };
            let mut workload = Workload::new(&WorkloadSpec { trim, limit, mix, ..spec.clone() }).ok()?;
            Some(std::iter::from_fn(|| workload.next()).collect())
        };
        let (Some(with), Some(without)) = (steps(Some(trim)), steps(None)) else { return Ok(()) };
        let others = with.iter().filter(|step| step.op != Op::Deallocate);
        prop_assert!(others.eq(&without));
        let mut writes: Vec<Step> = Vec::new();
        for (number, step) in with.iter().filter(|step| step.op == Op::Deallocate).enumerate() {
            prop_assert_eq!(step.sequence, number as u64);
        }
        for step in with {
            match step.op {
                Op::Write => writes.push(step),
                Op::Deallocate => {
                    let place = |other: &Step| (other.target, other.offset, other.len);
                    prop_assert!(writes.iter().any(|write| place(write) == place(&step)));
                    prop_assert!(writes.len() as u64 >= trim.backlog);
                }
                _ => {}
            }
        }
    }
}

#[test]
fn trims_without_a_backlog_follow_their_writes() {
    let mut spec = randwrite(1 << 20);
    spec.trim = Some(TrimRule { percent: 100, backlog: 0, batch: 0 });
    spec.limit.passes = Some(1);
    let mut workload = Workload::new(&spec).unwrap();
    let steps: Vec<Step> = std::iter::from_fn(|| workload.next()).collect();
    assert_eq!(steps.len(), 512);
    for pair in steps.chunks(2) {
        assert_eq!((pair[0].op, pair[1].op), (Op::Write, Op::Deallocate));
        assert_eq!((pair[0].offset, pair[0].sequence), (pair[1].offset, pair[1].sequence));
    }
}

#[test]
fn a_drive_of_more_than_2_to_the_32_blocks_takes_no_memory_for_its_history() {
    for trim in [None, Some(TrimRule { percent: 30, backlog: 1000, batch: 10 })] {
        let spec = WorkloadSpec { trim, ..randwrite(100 << 40) };
        let blocks = (100_u64 << 40) / 4096;
        let issued =
            Issued { writes: 2 * blocks + blocks / 2, trims: if trim.is_some() { 1 << 33 } else { 0 } };
        let mut history = History::new(&spec, issued, 4096, &[]).unwrap();
        assert!(history.prepare(1));
        assert_eq!(History::bytes_needed(&spec, 4096), 0);
        let before = format!("{history:?}").len();
        let mut of_pass = [0; 3];
        for block in 0..1000 {
            let offset = (block << 24) * 4096 % (100 << 40);
            let mut next = history.newest(0, offset);
            while let Some(mutation) = next {
                assert_eq!((mutation.offset, mutation.len), (offset, 4096));
                if mutation.op == Op::Write {
                    of_pass[usize::try_from(mutation.sequence / blocks).unwrap()] += 1;
                }
                next = history.older(0, offset, &mutation);
            }
        }
        assert!(of_pass[0] == 1000 && of_pass[1] == 1000 && (400..600).contains(&of_pass[2]), "{of_pass:?}");
        assert!(format!("{history:?}").len() < before + 200, "nothing grew");
    }
}

#[test]
fn a_history_with_repeats_takes_eight_bytes_a_block() {
    let mut spec = randwrite(1 << 30);
    spec.coverage = false;
    assert_eq!(History::bytes_needed(&spec, 4096), 8 << 18);
    spec.mix = Mix::Read;
    assert_eq!(History::bytes_needed(&spec, 4096), 0);
}

#[test]
fn regions_that_overlap_are_refused() {
    let mut spec = randwrite(1 << 20);
    spec.regions.push(Region { target: 0, start: 4096, bytes: 1 << 20 });
    let error = History::new(&spec, Issued::default(), 4096, &[]).unwrap_err();
    assert!(error.to_string().contains("overlap at byte 4096"), "{error}");
}
