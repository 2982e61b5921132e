//! One block byte for byte, in each version of the payload.

use super::*;

fn pinned(version: u16) -> String {
    let bench = Bench::new(Method::Crc32c, 512, 512);
    let facts = WriteFacts {
        io_offset: 0x10000,
        io_len: 4096,
        sequence: 0x0102_0304,
        time_unix_ns: 1_700_000_000_123_456_789,
        pass: 2,
        flush_epoch: 3,
    };
    let mut block = vec![0; 512];
    let sealer = Sealer { version, ..bench.sealer() };
    sealer.seal_block(&mut block, 0x10200, TARGETS[0], &facts);
    let hex: Vec<String> =
        block.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    hex.join("\n")
}

#[test]
fn a_block_is_pinned() {
    assert_eq!(pinned(2), include_str!("golden-2.txt").trim_end());
}

#[test]
fn a_block_of_version_1_can_be_made_again() {
    assert_eq!(pinned(1), include_str!("golden-1.txt").trim_end());
}
