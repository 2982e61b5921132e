//! What a block device holds, told by the magic numbers of file systems, partition tables, arrays
//! and encrypted volumes. Only read, never believed: it serves to ask before overwriting.

use std::io;

/// A magic number: name, byte offset (negative from the end), bytes.
type Magic = (&'static str, i64, &'static [u8]);

/// Offsets and bytes are those of the formats' own headers, as blkid(8) looks for them too.
const MAGICS: &[Magic] = &[
    ("ext2/3/4", 0x438, &[0x53, 0xef]),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 0x10040, b"_BHRfS_M"),
    ("f2fs", 0x400, &[0x10, 0x20, 0xf5, 0xf2]),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("vfat", 0x36, b"FAT1"),
    ("vfat", 0x52, b"FAT32   "),
    ("ReFS", 3, b"ReFS\0\0\0\0"),
    ("iso9660", 0x8001, b"CD001"),
    ("udf", 0x8001, b"BEA01"),
    ("squashfs", 0, b"hsqs"),
    ("erofs", 0x400, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("bcachefs or bcache", 0x1018, &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca]),
    ("bcachefs", 0x1018, &[0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9]),
    ("nilfs2", 0x406, &[0x34, 0x34]),
    ("jfs", 0x8000, b"JFS1"),
    ("reiserfs", 0x10034, b"ReIsEr"),
    ("gfs2", 0x10000, &[0x01, 0x16, 0x19, 0x70]),
    ("ocfs2", 0x2000, b"OCFSV2"),
    ("ocfs2", 0x1000, b"OCFSV2"),
    ("vmfs", 0x20_0000, &[0x5e, 0xf1, 0xab, 0x2f]),
    ("vmfs volume", 0x10_0000, &[0x0d, 0xd0, 0x01, 0xc0]),
    ("LVM2 physical volume", 0x218, b"LVM2 001"),
    ("LVM2 physical volume", 0x18, b"LVM2 001"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("LUKS2 (second header)", 0x4000, b"SKUL\xba\xbe"),
    ("BitLocker", 3, b"-FVE-FS-"),
    ("DRBD", -4068, &[0x83, 0x74, 0x02, 0x6b]),
    ("md member 1.1", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("md member 1.2", 0x1000, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("swap", 4086, b"SWAPSPACE2"),
    ("swap", 8182, b"SWAPSPACE2"),
    ("swap", 16374, b"SWAPSPACE2"),
    ("swap", 32758, b"SWAPSPACE2"),
    ("swap", 65526, b"SWAPSPACE2"),
    ("GPT partition table", 512, b"EFI PART"),
    ("GPT partition table", 4096, b"EFI PART"),
    ("GPT partition table (backup)", -512, b"EFI PART"),
    ("GPT partition table (backup)", -4096, b"EFI PART"),
];

/// First byte of the first of ZFS's uberblocks in a label, and their step and number.
const ZFS_UBERBLOCKS: (u64, u64, u64) = (128 << 10, 1 << 10, 128);
const ZFS_MAGIC: [u8; 8] = [0x0c, 0xb1, 0xba, 0x00, 0, 0, 0, 0];
const MD_MAGIC: [u8; 4] = [0xfc, 0x4e, 0x2b, 0xa9];

/// The name of the first signature found on a device of `size` bytes. `read_at` fills the buffer
/// from an offset as far as it can; what it cannot read holds no signature.
pub fn find(size: u64, read_at: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>) -> Option<&'static str> {
    let mut holds = |offset: u64, magic: &[u8]| -> bool {
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..magic.len()];
        offset.checked_add(magic.len() as u64).is_some_and(|end| end <= size)
            && read_at(offset, bytes).is_ok_and(|count| count == magic.len())
            && bytes == magic
    };
    for &(name, offset, magic) in MAGICS {
        let place = match u64::try_from(offset) {
            Ok(offset) => Some(offset),
            Err(_) => size.checked_sub(offset.unsigned_abs()),
        };
        if place.is_some_and(|place| holds(place, magic)) {
            return Some(name);
        }
    }
    // md 0.90 lies in the last whole 64 KiB but one, 1.0 at least 8 KiB before the end.
    let old = (size & !0xffff).checked_sub(0x1_0000);
    let new = (size & !0xfff).checked_sub(0x2000);
    if old.is_some_and(|place| holds(place, &MD_MAGIC)) {
        return Some("md member 0.90");
    }
    if new.is_some_and(|place| holds(place, &MD_MAGIC)) {
        return Some("md member 1.0");
    }
    let (first, step, count) = ZFS_UBERBLOCKS;
    if (0..count).any(|number| holds(first + number * step, &ZFS_MAGIC)) {
        return Some("zfs");
    }
    let mut sector = [0; 512];
    let whole = size >= 512 && read_at(0, &mut sector).is_ok_and(|count| count == 512);
    (whole && is_mbr(&sector)).then_some("MBR partition table")
}

/// A boot signature alone is also that of a lone boot sector; a partition table has an entry that
/// is plausible: a status byte of 0 or 0x80, a type and a length.
fn is_mbr(sector: &[u8; 512]) -> bool {
    sector[510..] == [0x55, 0xaa]
        && sector[446..510].chunks_exact(16).any(|entry| {
            matches!(entry[0], 0 | 0x80) && entry[4] != 0 && entry[12..16].iter().any(|&byte| byte != 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find_in(image: &[u8]) -> Option<&'static str> {
        find(image.len() as u64, &mut |offset, bytes| {
            let from = usize::try_from(offset).unwrap().min(image.len());
            let count = bytes.len().min(image.len() - from);
            bytes[..count].copy_from_slice(&image[from..from + count]);
            Ok(count)
        })
    }

    #[test]
    fn every_signature_is_found_where_it_stands_and_nowhere_else() {
        for &(name, offset, magic) in MAGICS {
            let mut image = vec![0; 4 << 20];
            let place = if offset < 0 { image.len() as i64 + offset } else { offset };
            let place = usize::try_from(place).unwrap();
            image[place..place + magic.len()].copy_from_slice(magic);
            assert_eq!(find_in(&image), Some(name));
            image[place] ^= 1;
            assert_eq!(find_in(&image), None, "{name}");
        }
    }

    #[test]
    fn an_array_member_is_found_by_the_superblock_at_its_end() {
        let mut image = vec![0; (1 << 20) + 4096];
        image[(1 << 20) - 0x1_0000..][..4].copy_from_slice(&MD_MAGIC);
        assert_eq!(find_in(&image), Some("md member 0.90"));
        let mut image = vec![0; 1 << 20];
        image[(1 << 20) - 0x2000..][..4].copy_from_slice(&MD_MAGIC);
        assert_eq!(find_in(&image), Some("md member 1.0"));
    }

    #[test]
    fn a_partition_table_needs_a_plausible_entry() {
        let mut image = vec![0; 1 << 20];
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(find_in(&image), None);
        image[446 + 4] = 0x83;
        image[446 + 12] = 1;
        assert_eq!(find_in(&image), Some("MBR partition table"));
    }

    #[test]
    fn real_file_systems_are_found() {
        for (command, name) in [("mkfs.ext4", "ext2/3/4"), ("mkswap", "swap")] {
            let directory = tempfile::tempdir().unwrap();
            let image = directory.path().join("image");
            std::fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
            let made = std::process::Command::new(command).arg("-q").arg(&image).output();
            let made = match made {
                Ok(out) if !out.status.success() => std::process::Command::new(command).arg(&image).output(),
                other => other,
            };
            let Ok(true) = made.map(|out| out.status.success()) else { continue };
            assert_eq!(find_in(&std::fs::read(&image).unwrap()), Some(name));
        }
    }

    proptest! {
        #[test]
        fn no_device_is_too_short_or_too_broken(size in 0_u64..200_000, answer: u8, short in 0_usize..20) {
            let _ = find(size, &mut |_, bytes| {
                bytes.fill(answer);
                if short == 0 { Err(io::Error::other("broken")) } else { Ok(bytes.len().min(short)) }
            });
        }
    }
}
