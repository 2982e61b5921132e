//! Buffers made by hand, and any bytes at all.

use super::*;
use crate::base::atomic::{AtomicSource, AtomicWrites};
use proptest::prelude::*;

fn put(raw: &mut [u8], at: usize, bytes: &[u8]) {
    raw[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A controller as a data sheet would have it.
fn controller() -> [u8; 4096] {
    let mut raw = [0; 4096];
    put(&mut raw, 0, &0x144d_u16.to_le_bytes());
    put(&mut raw, 4, b"S4EVNX0R123456      ");
    put(&mut raw, 24, b"A DRIVE \x1b[31m 1.9TB                       ");
    put(&mut raw, 64, b"EDA7602Q");
    raw[77] = 7;
    put(&mut raw, 80, &0x0001_0400_u32.to_le_bytes());
    put(&mut raw, 266, &343_u16.to_le_bytes());
    put(&mut raw, 268, &358_u16.to_le_bytes());
    put(&mut raw, 516, &128_u32.to_le_bytes());
    put(&mut raw, 520, &0x015d_u16.to_le_bytes());
    raw[525] = 7;
    put(&mut raw, 526, &1023_u16.to_le_bytes());
    put(&mut raw, 528, &7_u16.to_le_bytes());
    put(&mut raw, 536, &0x000f_0002_u32.to_le_bytes());
    put(&mut raw, 768, b"nqn.2014.08.org.nvmexpress:a");
    raw
}

fn namespace() -> [u8; 4096] {
    let mut raw = [0; 4096];
    for (at, blocks) in [(0, 1_000_000_u64), (8, 900_000), (16, 500_000)] {
        put(&mut raw, at, &blocks.to_le_bytes());
    }
    raw[24] = 0b1_0010;
    raw[25] = 2;
    raw[26] = 0x11;
    raw[29] = 0b1001;
    raw[33] = 0b1001;
    for (at, value) in [(34, 255_u16), (36, 3), (46, 256), (64, 31)] {
        put(&mut raw, at, &value.to_le_bytes());
    }
    raw[104] = 0xaa;
    raw[127] = 0xbb;
    put(&mut raw, 128, &[0, 0, 9, 2]);
    put(&mut raw, 132, &[8, 0, 12, 0]);
    put(&mut raw, 136, &[64, 0, 0, 0]);
    raw
}

fn health(units: u128, kelvin: u16) -> [u8; 512] {
    let mut raw = [0; 512];
    raw[0] = 0b1001;
    put(&mut raw, 1, &kelvin.to_le_bytes());
    put(&mut raw, 3, &[99, 10, 101]);
    for (number, at) in (32..192).step_by(16).enumerate() {
        put(&mut raw, at, &(units * (number as u128 + 1)).to_le_bytes());
    }
    raw
}

/// A controller that answers from memory, as far as it is asked to.
struct Made {
    cache: Result<u32, String>,
    log: Result<[u8; 512], String>,
}

impl Admin for Made {
    fn identify_controller(&self) -> Result<[u8; 4096], String> {
        Ok(controller())
    }

    fn identify_namespace(&self, nsid: u32) -> Result<[u8; 4096], String> {
        if nsid == 1 { Ok(namespace()) } else { Err("no such namespace".to_owned()) }
    }

    fn log_page(&self, id: u8, nsid: u32, into: &mut [u8]) -> Result<(), String> {
        assert_eq!((id, nsid), (LOG_SMART, NSID_ALL));
        into.copy_from_slice(&self.log.clone()?);
        Ok(())
    }

    fn get_feature(&self, id: u8) -> Result<u32, String> {
        assert_eq!(id, FEATURE_VOLATILE_WRITE_CACHE);
        self.cache.clone()
    }

    fn set_feature(&self, _: u8, _: u32) -> Result<(), String> {
        Err("read-only".to_owned())
    }
}

#[test]
fn a_controller_is_read_from_its_bytes() {
    let facts = ControllerFacts::parse(&controller());
    assert_eq!(facts.model, "A DRIVE ?[31m 1.9TB");
    assert_eq!((facts.serial.as_str(), facts.firmware.as_str()), ("S4EVNX0R123456", "EDA7602Q"));
    assert_eq!((facts.vendor_id, facts.version, facts.namespaces), (0x144d, (1, 4, 0), 128));
    assert_eq!(facts.subsystem_nqn, "nqn.2014.08.org.nvmexpress:a");
    assert_eq!((facts.most_bytes(None), facts.most_bytes(Some(65536))), (Some(512 << 10), Some(8 << 20)));
    assert!(facts.write_cache_present && facts.write_cache_enabled.is_none());
    assert_eq!((facts.atomic_blocks, facts.atomic_power_fail_blocks), (1024, 8));
    assert_eq!(facts.commands(), ["compare", "dataset management", "write zeroes", "copy"]);
    assert_eq!((facts.sgls, facts.warning_kelvin, facts.critical_kelvin), (0x000f_0002, 343, 358));
    assert_eq!(ControllerFacts::parse(&[0; 4096]).most_bytes(None), None, "no limit");
}

#[test]
fn a_namespace_is_read_from_its_bytes() {
    let facts = NamespaceFacts::parse(1, &namespace());
    assert_eq!((facts.size_blocks, facts.capacity_blocks, facts.used_blocks), (1_000_000, 900_000, 500_000));
    assert_eq!((facts.formats.len(), facts.format_index, facts.extended_lba), (3, 1, true));
    let format = LbaFormat { data_bytes: 4096, metadata_bytes: 8, relative_performance: 0 };
    assert_eq!(facts.format(), format);
    assert_eq!(facts.formats[0], LbaFormat { data_bytes: 512, metadata_bytes: 0, relative_performance: 2 });
    assert_eq!(facts.available().count(), 2, "a format without data is not available");
    assert_eq!(facts.size_bytes(), 4_096_000_000);
    assert_eq!(facts.protection, Some(Protection { kind: 1, first: true }));
    assert_eq!((facts.atomic_blocks, facts.atomic_power_fail_blocks), (Some(256), Some(4)));
    assert_eq!((facts.nguid[0], facts.eui64[7], facts.deallocated_reads_as), (0xaa, 0xbb, 1));
    assert_eq!((facts.io_boundary_blocks, facts.write_granularity_blocks), (256, Some(32)));
}

#[test]
fn what_nsfeat_does_not_promise_is_not_read() {
    let mut raw = namespace();
    raw[24] = 0;
    put(&mut raw, 44, &9_u16.to_le_bytes());
    let facts = NamespaceFacts::parse(1, &raw);
    assert_eq!((facts.atomic_blocks, facts.atomic_power_fail_blocks), (None, None));
    assert_eq!((facts.atomic_boundary_blocks, facts.write_granularity_blocks), (0, None));
}

#[test]
fn the_index_of_a_format_has_six_bits_where_there_are_more_than_sixteen() {
    let mut raw = namespace();
    raw[26] = 0b0100_0001;
    assert_eq!(NamespaceFacts::parse(1, &raw).format_index, 1);
    raw[25] = 40;
    put(&mut raw, 128 + 4 * 33, &[0, 0, 12, 0]);
    let facts = NamespaceFacts::parse(1, &raw);
    assert_eq!((facts.format_index, facts.format().data_bytes), (33, 4096));
}

#[test]
fn the_namespaces_atomic_unit_overrides_the_controllers() {
    let made = Made { cache: Ok(1), log: Ok(health(1, 300)) };
    let mut facts = DeviceFacts::collect(&made, 1).unwrap();
    assert_eq!(facts.atomic_write_bytes(), 4 * 4096);
    facts.namespace.atomic_power_fail_blocks = None;
    assert_eq!(facts.atomic_write_bytes(), 8 * 4096);
    assert_eq!(facts.atomic_writes(), AtomicWrites::up_to(8 * 4096, AtomicSource::Awupf));
    facts.namespace.atomic_boundary_blocks = 8;
    assert_eq!(facts.atomic_writes().boundaries.every, 0, "boundaries belong to NAWUPF");
}

#[test]
fn nawupf_counts_inside_the_boundaries_from_nabo_and_awupf_across_them() {
    let mut raw = namespace();
    put(&mut raw, 36, &15_u16.to_le_bytes());
    put(&mut raw, 42, &3_u16.to_le_bytes());
    put(&mut raw, 44, &31_u16.to_le_bytes());
    let facts = DeviceFacts {
        controller: ControllerFacts { atomic_power_fail_blocks: 2, ..ControllerFacts::default() },
        namespace: NamespaceFacts::parse(1, &raw),
        ..DeviceFacts::default()
    };
    let atomic = facts.atomic_writes();
    let whole = |block: u64, blocks: u32| atomic.whole_write(block * 4096, blocks * 4096);
    assert_eq!(whole(3, 16), Some(AtomicSource::Nawupf));
    assert_eq!(whole(3, 17), None, "longer than NAWUPF");
    assert_eq!(whole(19, 16), Some(AtomicSource::Nawupf), "up to the boundary at block 35");
    assert_eq!(whole(20, 16), None, "across it");
    assert_eq!(whole(34, 2), Some(AtomicSource::Awupf), "across it, and no longer than AWUPF");
    assert_eq!(whole(2, 3), None, "the first boundary is at NABO");
}

#[test]
fn health_is_read_from_its_bytes() {
    let smart = Smart::parse(&health(3, 318));
    assert_eq!((smart.celsius(), smart.spare_percent, smart.used_percent), (Some(45), 99, 101));
    assert_eq!(smart.warnings(), ["spare below its threshold", "media read-only"]);
    assert_eq!((smart.data_units_read, smart.data_units_written), (3, 6));
    assert_eq!((smart.host_reads, smart.host_writes, smart.busy_minutes), (9, 12, 15));
    assert_eq!((smart.power_cycles, smart.power_on_hours, smart.unsafe_shutdowns), (18, 21, 24));
    assert_eq!((smart.media_errors, smart.error_log_entries), (27, 30));
    assert_eq!(Smart::parse(&health(3, 0)).celsius(), None);
}

#[test]
fn a_difference_is_in_bytes_and_never_negative() {
    let (before, after) = (Smart::parse(&health(10, 300)), Smart::parse(&health(12, 300)));
    let between = after.since(&before);
    assert_eq!((between.read_bytes, between.written_bytes), (1_024_000, 2_048_000));
    assert_eq!((between.unsafe_shutdowns, between.media_errors), (16, 18));
    assert_eq!(before.since(&after), SmartDifference::default());
    let most = Smart { data_units_read: u128::MAX, ..before };
    assert_eq!(most.since(&before).read_bytes, u128::MAX);
}

#[test]
fn two_looks_make_a_before_and_an_after() {
    let look = |units| {
        let mut facts = DeviceFacts::collect(&Made { cache: Ok(0), log: Ok(health(units, 300)) }, 1).unwrap();
        facts.link = (units == 1).then(PcieLink::default);
        facts
    };
    let both = look(1).followed_by(look(3));
    assert_eq!(both.smart_difference().unwrap().read_bytes, 1_024_000);
    assert_eq!((both.volatile_cache(), both.link.is_some()), (Some(false), true));
}

#[test]
fn what_a_controller_does_not_say_is_left_out_with_a_note() {
    let made = Made { cache: Err("refused".to_owned()), log: Err("refused too".to_owned()) };
    let facts = DeviceFacts::collect(&made, 1).unwrap();
    assert_eq!((facts.volatile_cache(), facts.smart_before), (None, None));
    assert_eq!(facts.notes.len(), 2, "{:?}", facts.notes);
    assert!(DeviceFacts::collect(&made, 2).is_err());
}

#[test]
fn a_link_below_its_best_is_seen() {
    let link = |speed: &str, width| PcieLink {
        speed: Some(speed.to_owned()),
        width: Some(width),
        max_speed: Some("16.0 GT/s PCIe".to_owned()),
        max_width: Some(4),
    };
    assert!(!link("16.0 GT/s PCIe", 4).is_reduced());
    assert!(link("8.0 GT/s PCIe", 4).is_reduced() && link("16.0 GT/s PCIe", 2).is_reduced());
    assert!(!PcieLink::default().is_reduced() && !link("Unknown", 4).is_reduced());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(
        mut raw in prop::collection::vec(any::<u8>(), 4096),
        other in prop::collection::vec(any::<u8>(), 512),
        len in 0_usize..4097,
    ) {
        raw.truncate(len);
        let facts = DeviceFacts {
            controller: ControllerFacts::parse(&raw),
            namespace: NamespaceFacts::parse(1, &raw),
            smart_before: Some(Smart::parse(&raw)),
            smart_after: Some(Smart::parse(&other)),
            ..DeviceFacts::default()
        };
        let _ = (facts.smart_difference(), facts.atomic_write_bytes(), facts.namespace.size_bytes());
        let _ = (facts.controller.most_bytes(None), facts.controller.commands());
        prop_assert!(facts.controller.model.chars().all(|c| !c.is_control()));
        prop_assert!(facts.namespace.formats.len() <= 64);
    }
}
