//! Signatures of file systems, partition tables, raids and volume managers. Reads only.
//!
//! This answers "does somebody's data seem to be here?", not "is this file system healthy?": a magic
//! number in its place is enough. Offsets and magics are those of the formats' own headers.

use std::io;

/// A signature that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `ext4`, `GPT`, `LVM2`.
    pub name: &'static str,
    /// Where, in bytes.
    pub offset_bytes: u64,
}

/// What was found, and whether all places could be read.
#[derive(Debug, Default)]
pub struct Found {
    /// One entry a name.
    pub signatures: Vec<Signature>,
    /// The first error of reading, if any: then there may be more than was found.
    pub unreadable: Option<io::Error>,
}

impl Found {
    /// `ext4`, `GPT and LVM2`; `None` if nothing was found.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let mut names: Vec<&str> = self.signatures.iter().map(|signature| signature.name).collect();
        let last = names.pop()?;
        Some(if names.is_empty() { last.to_owned() } else { format!("{} and {last}", names.join(", ")) })
    }

    fn add(&mut self, name: &'static str, offset_bytes: u64) {
        if !self.signatures.iter().any(|signature| signature.name == name) {
            self.signatures.push(Signature { name, offset_bytes });
        }
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// The front that is read at once; most signatures are in it.
const HEAD_BYTES: u64 = 264 * KIB;

/// Signatures that are a magic at an offset from the start: (name, offset, magic).
const AT_START: &[(&str, u64, &[u8])] = &[
    ("xfs", 0, b"XFSB"),
    ("xfs log", 0, b"\xfe\xed\xba\xbe"),
    ("btrfs", 0x1_0040, b"_BHRfS_M"),
    ("f2fs", 0x400, b"\x10\x20\xf5\xf2"),
    ("vfat", 0x36, b"FAT12   "),
    ("vfat", 0x36, b"FAT16   "),
    ("vfat", 0x36, b"MSDOS"),
    ("vfat", 0x52, b"FAT32   "),
    ("exfat", 3, b"EXFAT   "),
    ("ntfs", 3, b"NTFS    "),
    ("ReFS", 3, b"ReFS\0\0\0\0"),
    ("BitLocker", 3, b"-FVE-FS-"),
    ("iso9660", 0x8001, b"CD001"),
    ("udf", 0x8001, b"BEA01"),
    ("squashfs", 0, b"hsqs"),
    ("squashfs", 0, b"sqsh"),
    ("erofs", 0x400, b"\xe2\xe1\xf5\xe0"),
    ("cramfs", 0, b"\x45\x3d\xcd\x28"),
    ("romfs", 0, b"-rom1fs-"),
    ("bcache", 0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    ("bcachefs", 0x1018, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("LUKS", 0x4000, b"SKUL\xba\xbe"),
    ("LUKS", 0x8000, b"SKUL\xba\xbe"),
    ("LUKS", 0x1_0000, b"SKUL\xba\xbe"),
    ("VMFS", 0x10_0000, b"\x0d\xd0\x01\xc0"),
    ("VMFS", 0x20_0000, b"\x5e\xf1\xab\x2f"),
    ("ocfs2", 0x400, b"OCFSV2"),
    ("ocfs2", 0x800, b"OCFSV2"),
    ("ocfs2", 0x1000, b"OCFSV2"),
    ("ocfs2", 0x2000, b"OCFSV2"),
    ("gfs2", 0x1_0000, b"\x01\x16\x19\x70"),
    ("jfs", 0x8000, b"JFS1"),
    ("reiserfs", 0x1_0034, b"ReIsEr"),
    ("reiserfs", 0x2034, b"ReIsEr"),
    ("hfs+", 0x400, b"H+\0\x04"),
    ("hfsx", 0x400, b"HX\0\x05"),
    ("apfs", 0x20, b"NXSB"),
    ("nilfs2", 0x400, b"\x02\0\0\0\0\0\x34\x34"),
    ("stratis", 0x204, b"!Stra0tis\x86\xff\x02^\x41rh"),
    ("VDO", 0, b"dmvdo001"),
    ("Ceph BlueStore", 0, b"bluestore block device"),
    ("Oracle ASM", 0x20, b"ORCLDISK"),
    ("qcow2", 0, b"QFI\xfb"),
    ("md raid", 0, b"\xfc\x4e\x2b\xa9\x01\0\0\0"),
    ("md raid", 0x1000, b"\xfc\x4e\x2b\xa9\x01\0\0\0"),
    ("GPT", 512, b"EFI PART"),
    ("GPT", 4096, b"EFI PART"),
];

/// Reads at an offset; fewer bytes than asked for means the end of the device.
pub type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<usize> + 'a;

/// Looks for signatures on a device of `size_bytes` that `read_at` reads.
pub fn detect(size_bytes: u64, read_at: &mut ReadAt<'_>) -> Found {
    let mut source = Source { size_bytes, read_at, head: Vec::new(), error: None };
    source.head = source.read(0, HEAD_BYTES.min(size_bytes)).unwrap_or_default();
    let mut found = Found::default();
    for (name, offset, magic) in AT_START {
        if source.holds(*offset, magic) {
            found.add(name, *offset);
        }
    }
    ext(&mut source, &mut found);
    swap(&mut source, &mut found);
    lvm(&mut source, &mut found);
    zfs(&mut source, &mut found);
    at_the_end(&mut source, &mut found);
    // A boot sector of a file system ends as a partition table does.
    let boot_sector = ["vfat", "exfat", "ntfs", "ReFS", "BitLocker", "GPT"];
    if !found.signatures.iter().any(|signature| boot_sector.contains(&signature.name)) && mbr(&mut source) {
        found.add("MBR", 0);
    }
    found.unreadable = source.error.take();
    found
}

struct Source<'a, 'b> {
    size_bytes: u64,
    read_at: &'a mut ReadAt<'b>,
    head: Vec<u8>,
    error: Option<io::Error>,
}

impl Source<'_, '_> {
    /// `length` bytes at `offset`, or nothing if the device is too short or cannot be read there.
    fn read(&mut self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let end = offset.checked_add(length)?;
        if end > self.size_bytes {
            return None;
        }
        let length = usize::try_from(length).ok()?;
        if let Some(bytes) =
            usize::try_from(offset).ok().and_then(|at| self.head.get(at..at.checked_add(length)?))
        {
            return Some(bytes.to_vec());
        }
        let mut buffer = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match (self.read_at)(offset + filled as u64, &mut buffer[filled..]) {
                Ok(0) => return None,
                Ok(count) => filled += count.min(length - filled),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.error.get_or_insert(error);
                    return None;
                }
            }
        }
        Some(buffer)
    }

    fn holds(&mut self, offset: u64, magic: &[u8]) -> bool {
        self.read(offset, magic.len() as u64).is_some_and(|bytes| bytes == magic)
    }

    /// Whether `magic` lies `distance` before the end.
    fn holds_before_end(&mut self, distance: u64, magic: &[u8]) -> Option<u64> {
        let offset = self.size_bytes.checked_sub(distance)?;
        self.holds(offset, magic).then_some(offset)
    }

    fn u32_le(&mut self, offset: u64) -> Option<u32> {
        Some(u32::from_le_bytes(self.read(offset, 4)?.try_into().ok()?))
    }
}

/// ext2, ext3 and ext4 share a magic and differ in features.
fn ext(source: &mut Source<'_, '_>, found: &mut Found) {
    const SUPERBLOCK: u64 = KIB;
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    /// The features that ext2 and ext3 know: filetype, needs_recovery, meta_bg.
    const OLD_INCOMPATIBLE: u32 = 0x2 | 0x4 | 0x10;
    /// sparse_super, large_file, btree_dir.
    const OLD_READ_ONLY: u32 = 0x1 | 0x2 | 0x4;
    if !source.holds(SUPERBLOCK + 0x38, b"\x53\xef") {
        return;
    }
    // Two bytes are found by chance in random data; block size and revision must make sense too.
    let sane = |value: Option<u32>, most: u32| value.is_some_and(|value| value <= most);
    if !sane(source.u32_le(SUPERBLOCK + 0x18), 6) || !sane(source.u32_le(SUPERBLOCK + 0x4C), 1) {
        return;
    }
    let compatible = source.u32_le(SUPERBLOCK + 0x5C).unwrap_or(0);
    let incompatible = source.u32_le(SUPERBLOCK + 0x60).unwrap_or(0);
    let read_only = source.u32_le(SUPERBLOCK + 0x64).unwrap_or(0);
    let name = if incompatible & JOURNAL_DEVICE != 0 {
        "ext journal"
    } else if incompatible & !OLD_INCOMPATIBLE != 0 || read_only & !OLD_READ_ONLY != 0 {
        "ext4"
    } else if compatible & HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    };
    found.add(name, SUPERBLOCK + 0x38);
}

/// The signature ends the first page, whatever size pages had where it was made.
fn swap(source: &mut Source<'_, '_>, found: &mut Found) {
    for page in [4, 8, 16, 32, 64].map(|kib| kib * KIB) {
        for (name, magic) in [
            ("swap", b"SWAPSPACE2"),
            ("swap", b"SWAP-SPACE"),
            ("suspended system", b"S1SUSPEND\0"),
            ("suspended system", b"S2SUSPEND\0"),
            ("suspended system", b"LINHIB0001"),
        ] {
            if source.holds(page - 10, magic) {
                found.add(name, page - 10);
            }
        }
    }
}

/// The label is in one of the first four sectors.
fn lvm(source: &mut Source<'_, '_>, found: &mut Found) {
    for sector in [0, 512, 1024, 1536] {
        if source.holds(sector, b"LABELONE") && source.holds(sector + 24, b"LVM2 001") {
            found.add("LVM2", sector);
        }
    }
}

/// A label at each end, two of either; in its second half a ring of uberblocks.
fn zfs(source: &mut Source<'_, '_>, found: &mut Found) {
    const LABEL: u64 = 256 * KIB;
    const RING: u64 = 128 * KIB;
    const MAGIC: u64 = 0x00ba_b10c;
    let whole = source.size_bytes / LABEL * LABEL;
    for label in [Some(0), whole.checked_sub(2 * LABEL)].into_iter().flatten() {
        let Some(ring) = source.read(label + RING, RING) else { continue };
        let uberblock = ring.chunks_exact(1024).position(|slot| {
            let word = slot.first_chunk::<8>();
            word.is_some_and(|word| {
                *word == MAGIC.to_le_bytes() || u64::from_le_bytes(*word).swap_bytes() == MAGIC
            })
        });
        if let Some(slot) = uberblock {
            found.add("zfs", label + RING + slot as u64 * KIB);
        }
    }
}

/// Backups and formats that keep their header at the end.
fn at_the_end(source: &mut Source<'_, '_>, found: &mut Found) {
    for (name, distance, magic) in [
        ("GPT", 512, &b"EFI PART"[..]),
        ("GPT", 4096, b"EFI PART"),
        ("Intel raid", 1024, b"Intel Raid ISM Cfg Sig. "),
        ("Intel raid", 8192, b"Intel Raid ISM Cfg Sig. "),
        ("DDF raid", 512, b"\xde\x11\xde\x11"),
        ("DRBD", 4096 - 60, b"\x83\x74\x02\x6b"),
        ("DRBD", 4096 - 60, b"\x83\x74\x02\x6c"),
    ] {
        if let Some(offset) = source.holds_before_end(distance, magic) {
            found.add(name, offset);
        }
    }
    // md 1.0: at least 8 KiB before the end, on a multiple of 4 KiB.
    let old_end = (source.size_bytes / 512).checked_sub(16).map(|sector| sector / 8 * 8 * 512);
    if let Some(offset) = old_end.filter(|at| source.holds(*at, b"\xfc\x4e\x2b\xa9\x01\0\0\0")) {
        found.add("md raid", offset);
    }
    // md 0.90: the last 64 KiB that are whole, in the byte order of the machine that made it.
    let oldest = (source.size_bytes / (64 * KIB) * (64 * KIB)).checked_sub(64 * KIB);
    for magic in [b"\xfc\x4e\x2b\xa9\0\0\0\0", b"\xa9\x2b\x4e\xfc\0\0\0\0"] {
        if let Some(offset) = oldest.filter(|at| source.holds(*at, magic)) {
            found.add("md raid", offset);
        }
    }
    // The second superblock of btrfs, for those who wiped only the first.
    if source.holds(64 * MIB + 0x40, b"_BHRfS_M") {
        found.add("btrfs", 64 * MIB + 0x40);
    }
}

/// A partition table of the old kind: the mark, and entries of which all could be and one is.
fn mbr(source: &mut Source<'_, '_>) -> bool {
    let Some(sector) = source.read(0, 512) else { return false };
    if sector[510..] != [0x55, 0xaa] {
        return false;
    }
    let entries = || sector[446..510].chunks_exact(16);
    let word = |entry: &[u8], at: usize| entry[at..at + 4].iter().any(|byte| *byte != 0);
    entries().all(|entry| entry[0] & 0x7f == 0)
        && entries().any(|entry| entry[4] != 0 && word(entry, 8) && word(entry, 12))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn look(image: &[u8]) -> Vec<&'static str> {
        let found = detect(image.len() as u64, &mut |offset, buffer| {
            let rest = image.get(usize::try_from(offset).unwrap()..).unwrap_or(&[]);
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        });
        assert!(found.unreadable.is_none());
        found.signatures.iter().map(|signature| signature.name).collect()
    }

    fn with(size: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut image = vec![0; size];
        for (offset, bytes) in parts {
            image[*offset..*offset + bytes.len()].copy_from_slice(bytes);
        }
        image
    }

    #[test]
    fn an_empty_device_holds_nothing() {
        assert_eq!(look(&vec![0; 3 << 20]), [""; 0]);
        assert_eq!(look(&vec![0xff; 3 << 20]), [""; 0]);
        for size in [0, 1, 511, 512, 1024, 4095, 65_536] {
            assert_eq!(look(&vec![0; size]), [""; 0], "{size}");
        }
    }

    #[test]
    fn every_magic_of_the_table_is_found_in_its_place() {
        for (name, offset, magic) in AT_START {
            let image = with(4 << 20, &[(usize::try_from(*offset).unwrap(), magic)]);
            assert_eq!(look(&image), [*name], "{name} at {offset}");
        }
    }

    #[test]
    fn the_three_of_ext_are_told_apart() {
        let size = 1 << 20;
        let magic: (usize, &[u8]) = (0x438, b"\x53\xef");
        assert_eq!(look(&with(size, &[magic])), ["ext2"]);
        assert_eq!(look(&with(size, &[magic, (0x45C, b"\x04")])), ["ext3"]);
        assert_eq!(look(&with(size, &[magic, (0x45C, b"\x04"), (0x460, b"\x42")])), ["ext4"]);
        assert_eq!(look(&with(size, &[magic, (0x460, b"\x08")])), ["ext journal"]);
    }

    #[test]
    fn partition_tables_are_found_at_both_ends() {
        let size = 2 << 20;
        assert_eq!(look(&with(size, &[(size - 512, b"EFI PART")])), ["GPT"]);
        assert_eq!(look(&with(size, &[(size - 4096, b"EFI PART")])), ["GPT"]);
        let entry = [0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0];
        let mark: (usize, &[u8]) = (510, &[0x55, 0xaa]);
        assert_eq!(look(&with(size, &[mark, (446, &entry)])), ["MBR"]);
        assert_eq!(look(&with(size, &[mark])), [""; 0], "the mark alone is a boot sector of any kind");
        assert_eq!(
            look(&with(size, &[mark, (446, &entry), (462, &[0x33])])),
            [""; 0],
            "boot code, not entries"
        );
        assert_eq!(look(&with(size, &[mark, (446, &entry), (3, b"NTFS    ")])), ["ntfs"]);
    }

    #[test]
    fn headers_at_the_end_are_found() {
        let size = (4 << 20) + 5 * 512;
        assert_eq!(
            look(&with(size, &[((size / 512 - 16) / 8 * 8 * 512, b"\xfc\x4e\x2b\xa9\x01")])),
            ["md raid"]
        );
        assert_eq!(look(&with(size, &[(size / 65_536 * 65_536 - 65_536, b"\xfc\x4e\x2b\xa9")])), ["md raid"]);
        assert_eq!(look(&with(size, &[(128 * 1024 + 7 * 1024, b"\x0c\xb1\xba\0\0\0\0\0")])), ["zfs"]);
        let label = size / 262_144 * 262_144 - 524_288;
        assert_eq!(look(&with(size, &[(label + 131_072, b"\0\0\0\0\0\xba\xb1\x0c")])), ["zfs"]);
        assert_eq!(look(&with(size, &[(4086, b"SWAPSPACE2")])), ["swap"]);
        assert_eq!(look(&with(size, &[(65_526, b"SWAPSPACE2")])), ["swap"]);
        assert_eq!(look(&with(size, &[(512, b"LABELONE"), (536, b"LVM2 001")])), ["LVM2"]);
        assert_eq!(look(&with(size, &[(512, b"LABELONE")])), [""; 0]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let found = detect(1 << 20, &mut |_, _| Err(io::Error::from_raw_os_error(5)));
        assert!(found.signatures.is_empty());
        assert_eq!(found.unreadable.unwrap().raw_os_error(), Some(5));
        let found = detect(u64::MAX, &mut |_, _| Ok(0));
        assert!(found.unreadable.is_none() && found.sentence().is_none());
    }

    #[test]
    fn several_are_named_in_one_sentence() {
        let found = look(&with(1 << 20, &[(0x438, b"\x53\xef"), (512, b"EFI PART"), (0, b"XFSB")]));
        assert_eq!(found, ["xfs", "GPT", "ext2"]);
        let mut found = Found::default();
        found.add("xfs", 0);
        found.add("GPT", 0);
        found.add("ext2", 0);
        assert_eq!(found.sentence().unwrap(), "xfs, GPT and ext2");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_and_no_size_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300_000),
            said in any::<u64>(),
            short in 1_usize..5000,
        ) {
            for size in [bytes.len() as u64, said, said % 1_000_000] {
                let _ = detect(size, &mut |offset, buffer| {
                    let at = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                    let count = (bytes.len() - at).min(buffer.len()).min(short);
                    buffer[..count].copy_from_slice(&bytes[at..at + count]);
                    Ok(count)
                });
            }
        }
    }
}
