//! The world-wide name of a namespace, as Linux spells it (drivers/nvme/host/sysfs.c, `wwid_show`): a
//! target has the same name whoever drives it.

use std::fmt::Write as _;

use super::NamespaceFacts;

/// The name, from Identify Controller, the namespace, and its UUID where it has one.
#[must_use]
pub fn wwid(identify_controller: &[u8], namespace: &NamespaceFacts, uuid: Option<[u8; 16]>) -> String {
    let given = |bytes: &[u8]| bytes.iter().any(|&byte| byte != 0);
    if let Some(uuid) = uuid.filter(|uuid| given(uuid)) {
        let text = hex(&uuid);
        let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
        return format!("uuid.{}", parts.join("-"));
    }
    if given(&namespace.nguid) {
        return format!("eui.{}", hex(&namespace.nguid));
    }
    if given(&namespace.eui64) {
        return format!("eui.{}", hex(&namespace.eui64));
    }
    // VID in bytes 0 and 1, serial number in 4 to 23, model in 24 to 63 (NVMe Base 2.0, figure 275).
    let field = |from: usize, to: usize| {
        let bytes = identify_controller.get(from..to).unwrap_or_default();
        let end = bytes.iter().rposition(|&byte| byte != b' ' && byte != 0).map_or(0, |last| last + 1);
        hex(&bytes[..end])
    };
    let vendor = identify_controller.get(..2).map_or(0, |id| u16::from_le_bytes([id[0], id[1]]));
    format!("nvme.{vendor:04x}-{}-{}-{:08x}", field(4, 24), field(24, 64), namespace.nsid)
}

/// The UUID in a list of namespace identification descriptors (NVMe Base 2.0, figure 277).
#[must_use]
pub fn uuid_of(descriptors: &[u8]) -> Option<[u8; 16]> {
    let mut left = descriptors;
    while let [kind, len, _, _, rest @ ..] = left {
        let value = rest.get(..usize::from(*len))?;
        match (kind, value.len()) {
            (0, _) | (_, 0) => return None,
            (3, 16) => return value.try_into().ok(),
            _ => left = &rest[value.len()..],
        }
    }
    None
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn controller() -> Vec<u8> {
        let mut raw = vec![b' '; 4096];
        raw[..2].copy_from_slice(&[0x36, 0x1b]);
        raw[4..8].copy_from_slice(b"RIG1");
        raw[24..28].copy_from_slice(b"QEMU");
        raw
    }

    #[test]
    fn names_are_those_of_the_kernel() {
        let mut namespace = NamespaceFacts::parse(1, &[0; 4096]);
        assert_eq!(wwid(&controller(), &namespace, None), "nvme.1b36-52494731-51454d55-00000001");
        namespace.eui64 = [0, 0x25, 0x38, 0, 0, 0, 0, 1];
        assert_eq!(wwid(&controller(), &namespace, Some([0; 16])), "eui.0025380000000001");
        namespace.nguid[15] = 7;
        assert_eq!(wwid(&controller(), &namespace, None), "eui.00000000000000000000000000000007");
        let uuid = std::array::from_fn(|at| at as u8);
        let name = wwid(&controller(), &namespace, Some(uuid));
        assert_eq!(name, "uuid.00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn the_uuid_is_found_among_other_descriptors() {
        let mut list = vec![1, 8, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 3, 16, 0, 0];
        list.extend([9; 16]);
        assert_eq!(uuid_of(&list), Some([9; 16]));
        assert_eq!(uuid_of(&list[..20]), None, "cut off");
        assert_eq!(uuid_of(&[0; 4096]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = uuid_of(&bytes);
            let _ = wwid(&bytes, &NamespaceFacts::parse(1, &bytes), uuid_of(&bytes));
        }
    }
}
