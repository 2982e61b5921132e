//! Nothing that can stand on a medium makes the judge panic.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_bytes_get_a_verdict(
        noise in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..40),
        len in prop_oneof![Just(0_usize), Just(1), Just(47), Just(48), Just(100), Just(511), Just(513), Just(520), Just(1000)],
        method in 0_usize..Method::ALL.len(),
        offset in prop_oneof![Just(0_u64), Just(HERE.offset), u64::MAX - 2000..=u64::MAX],
        floored: bool,
    ) {
        let bench = Bench::new(Method::ALL[method].1, 1000, 512);
        let mut block = bench.block(9);
        block.resize(len, 3);
        for (at, byte) in noise {
            if len > 0 {
                block[at % len] = byte;
            }
        }
        let (judge, place) = (bench.judge(), Place { target: 0, offset });
        let allowed = Allowed { has_floor: floored, ..floor(&[bench.write(9, State::InFlight), bench.write(5, State::Completed)]) };
        let _ = judge.is_write(&block, place, 9, HERE.offset);
        let _ = judge.judge(&block, place, &allowed);
        let _ = judge.audit(&block, place, HERE.offset);
        let _ = judge.run_of(&block, place);
    }
}
