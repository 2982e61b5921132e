//! One block byte for byte.

use super::*;

#[test]
fn a_block_is_pinned() {
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
    bench.sealer().seal_block(&mut block, 0x10200, TARGETS[0], &facts);
    let hex: Vec<String> =
        block.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    assert_eq!(hex.join("\n"), include_str!("golden.txt").trim_end());
}
