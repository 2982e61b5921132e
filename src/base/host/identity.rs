//! What tells one target from another, as a number for block tags: the same for the same device or
//! file in every run, another one for any other.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::base::random;

/// The identity of the file or device at `path`; of its name where there is none (engines without
/// files). A namespace is known by its wwid or serial number, a loop device by the file behind it,
/// another device by its number, a file by device and inode.
#[must_use]
pub fn of(path: &Path) -> u64 {
    let Ok(metadata) = fs::metadata(path) else { return of_words(&["name", &path.to_string_lossy()]) };
    if !metadata.file_type().is_block_device() {
        return of_file(&metadata);
    }
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let folder = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    let read = |name: &str| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    // Several partitions share a drive's names.
    let part = read("start").unwrap_or_default();
    for name in ["wwid", "../wwid", "device/wwid", "../device/wwid", "device/serial", "../device/serial"] {
        if let Some(text) = read(name) {
            return of_words(&["device", &text, &part]);
        }
    }
    if let Some(backing) = read("loop/backing_file")
        && let Ok(file) = fs::metadata(&backing)
        && read("loop/offset").is_none_or(|offset| offset == "0")
    {
        return of_file(&file);
    }
    of_words(&["number", &format!("{major}:{minor}")])
}

/// The identity of a whole device of that world-wide name.
#[must_use]
pub fn of_wwid(wwid: &str) -> u64 {
    of_words(&["device", wwid, ""])
}

fn of_file(metadata: &fs::Metadata) -> u64 {
    of_words(&["file", &metadata.dev().to_string(), &metadata.ino().to_string()])
}

/// FNV-1a over words and what parts them, then mixed.
fn of_words(words: &[&str]) -> u64 {
    let bytes = words.iter().flat_map(|word| word.bytes().chain(std::iter::once(0xff)));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    random::at(hash, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_identity_and_shares_it_with_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, "").unwrap();
        fs::write(&other, "").unwrap();
        let before = of(&one);
        fs::write(&one, "longer").unwrap();
        assert_eq!(of(&one), before);
        assert_ne!(of(&other), before);
        assert_ne!(of(Path::new("no such file")), of(Path::new("nor this")));
    }
}
