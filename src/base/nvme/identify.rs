//! Identify Controller (Base 2.0, figure 275) and Identify Namespace (NVM Command Set 1.0, figure 97).

use super::{Admin, FEATURE_VOLATILE_WRITE_CACHE, bytes, text_at, u16_at, u32_at, u64_at};

/// The unit of MDTS where the controller's smallest memory page is not known (CAP.MPSMIN 0).
const PAGE_BYTES: u64 = 4096;
/// LBA formats that a namespace can have at most.
const MOST_FORMATS: usize = 64;

/// What a controller is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the bits of the specification")]
pub struct ControllerFacts {
    /// MN.
    pub model: String,
    /// SN.
    pub serial: String,
    /// FR.
    pub firmware: String,
    /// VID: the PCI vendor.
    pub vendor_id: u16,
    /// VER: major, minor, tertiary.
    pub version: (u16, u8, u8),
    /// SUBNQN.
    pub subsystem_nqn: String,
    /// NN: the largest namespace identifier.
    pub namespaces: u32,
    /// MDTS as a power of two in pages of memory; 0: no limit.
    pub mdts: u8,
    /// VWC bit 0.
    pub write_cache_present: bool,
    /// Feature 06h: `None` where it was not read.
    pub write_cache_enabled: Option<bool>,
    /// AWUN in logical blocks (already counted from 1).
    pub atomic_blocks: u32,
    /// AWUPF in logical blocks (already counted from 1).
    pub atomic_power_fail_blocks: u32,
    /// ONCS bit 0.
    pub compare: bool,
    /// ONCS bit 1.
    pub write_uncorrectable: bool,
    /// ONCS bit 2: Dataset Management, which deallocates.
    pub dataset_management: bool,
    /// ONCS bit 3.
    pub write_zeroes: bool,
    /// ONCS bit 7.
    pub verify: bool,
    /// ONCS bit 8.
    pub copy: bool,
    /// SGLS.
    pub sgls: u32,
    /// WCTEMP in kelvin; 0: not reported.
    pub warning_kelvin: u16,
    /// CCTEMP in kelvin; 0: not reported.
    pub critical_kelvin: u16,
}

impl ControllerFacts {
    /// Reads what Identify Controller answered.
    #[must_use]
    pub fn parse(raw: &[u8]) -> ControllerFacts {
        let [tertiary, minor, major @ ..]: [u8; 4] = bytes(raw, 80);
        let oncs = u16_at(raw, 520);
        let supports = |bit: u16| oncs >> bit & 1 != 0;
        ControllerFacts {
            model: text_at(raw, 24, 40),
            serial: text_at(raw, 4, 20),
            firmware: text_at(raw, 64, 8),
            vendor_id: u16_at(raw, 0),
            version: (u16::from_le_bytes(major), minor, tertiary),
            subsystem_nqn: text_at(raw, 768, 256),
            namespaces: u32_at(raw, 516),
            mdts: raw.get(77).copied().unwrap_or(0),
            write_cache_present: raw.get(525).is_some_and(|vwc| vwc & 1 != 0),
            write_cache_enabled: None,
            atomic_blocks: from_zero_based(u16_at(raw, 526)),
            atomic_power_fail_blocks: from_zero_based(u16_at(raw, 528)),
            compare: supports(0),
            write_uncorrectable: supports(1),
            dataset_management: supports(2),
            write_zeroes: supports(3),
            verify: supports(7),
            copy: supports(8),
            sgls: u32_at(raw, 536),
            warning_kelvin: u16_at(raw, 266),
            critical_kelvin: u16_at(raw, 268),
        }
    }

    /// Whether the volatile write cache is on; one that there is not is off.
    ///
    /// # Errors
    /// Why the controller did not answer.
    pub fn ask_write_cache(&self, admin: &dyn Admin) -> Result<bool, String> {
        if !self.write_cache_present {
            return Ok(false);
        }
        admin.get_feature(FEATURE_VOLATILE_WRITE_CACHE).map(|value| value & 1 != 0)
    }

    /// The most that one command may transfer, in bytes, if there is a limit; `page_bytes` is the
    /// controller's smallest page of memory (CAP.MPSMIN), 4096 where it is not known.
    #[must_use]
    pub fn most_bytes(&self, page_bytes: Option<u64>) -> Option<u64> {
        let pages = 1_u64.checked_shl(u32::from(self.mdts)).unwrap_or(u64::MAX);
        (self.mdts > 0).then(|| pages.saturating_mul(page_bytes.unwrap_or(PAGE_BYTES)))
    }

    /// The commands beyond read, write and flush that it says it has.
    #[must_use]
    pub fn commands(&self) -> Vec<&'static str> {
        let all = [
            (self.compare, "compare"),
            (self.write_uncorrectable, "write uncorrectable"),
            (self.dataset_management, "dataset management"),
            (self.write_zeroes, "write zeroes"),
            (self.verify, "verify"),
            (self.copy, "copy"),
        ];
        all.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
    }
}

/// One format of logical blocks (figure 98).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LbaFormat {
    /// LBADS, in bytes; 0 for a format that is not available.
    pub data_bytes: u32,
    /// MS, in bytes.
    pub metadata_bytes: u16,
    /// RP: 0 best, 3 degraded.
    pub relative_performance: u8,
}

impl LbaFormat {
    fn parse(word: u32) -> LbaFormat {
        let [ms_low, ms_high, lbads, rp] = word.to_le_bytes();
        LbaFormat {
            // Less than 512 bytes is reserved, 2 GiB are more than any device will have.
            data_bytes: if (9..32).contains(&lbads) { 1 << lbads } else { 0 },
            metadata_bytes: u16::from_le_bytes([ms_low, ms_high]),
            relative_performance: rp & 3,
        }
    }
}

/// End-to-end protection information that a namespace is formatted with (DPS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// 1, 2 or 3.
    pub kind: u8,
    /// At the start of the metadata instead of at its end.
    pub first: bool,
}

/// What a namespace is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its identifier.
    pub nsid: u32,
    /// NSZE in logical blocks.
    pub size_blocks: u64,
    /// NCAP in logical blocks.
    pub capacity_blocks: u64,
    /// NUSE in logical blocks.
    pub used_blocks: u64,
    /// All formats, by their index.
    pub formats: Vec<LbaFormat>,
    /// The index of the current format (FLBAS).
    pub format_index: usize,
    /// Metadata follow the data of each block in one buffer (FLBAS bit 4).
    pub extended_lba: bool,
    /// Protection information, if any.
    pub protection: Option<Protection>,
    /// NAWUN in logical blocks (already counted from 1), where NSFEAT says that it is defined.
    pub atomic_blocks: Option<u32>,
    /// NAWUPF in logical blocks (already counted from 1), where NSFEAT says that it is defined.
    pub atomic_power_fail_blocks: Option<u32>,
    /// NABSPF in logical blocks (already counted from 1): writes across such a boundary are not
    /// atomic; 0 for no boundaries.
    pub atomic_boundary_blocks: u32,
    /// NABO: the first logical block behind the first such boundary.
    pub atomic_boundary_offset_blocks: u32,
    /// NGUID; zeros: none.
    pub nguid: [u8; 16],
    /// EUI64; zeros: none.
    pub eui64: [u8; 8],
    /// DLFEAT bits 2:0: what a deallocated block reads as: 0 not reported, 1 zeros, 2 ones.
    pub deallocated_reads_as: u8,
    /// NOIOB in logical blocks: I/O should not cross multiples of this; 0: not reported.
    pub io_boundary_blocks: u16,
    /// NPWG in logical blocks (already counted from 1), where NSFEAT says that it is defined.
    pub write_granularity_blocks: Option<u32>,
}

impl NamespaceFacts {
    /// Reads what Identify Namespace answered.
    #[must_use]
    pub fn parse(nsid: u32, raw: &[u8]) -> NamespaceFacts {
        let byte = |at: usize| raw.get(at).copied().unwrap_or(0);
        let (features, flbas, dps) = (byte(24), byte(26), byte(29));
        let has = |bit: u8| features >> bit & 1 != 0;
        let count = (usize::from(byte(25)) + 1).min(MOST_FORMATS);
        // With more than 16 formats, bits 6:5 are the upper bits of the index.
        let high = if count > 16 { flbas >> 5 & 3 } else { 0 };
        let boundary = u16_at(raw, 44);
        NamespaceFacts {
            nsid,
            size_blocks: u64_at(raw, 0),
            capacity_blocks: u64_at(raw, 8),
            used_blocks: u64_at(raw, 16),
            formats: (0..count).map(|index| LbaFormat::parse(u32_at(raw, 128 + 4 * index))).collect(),
            format_index: usize::from(flbas & 15 | high << 4),
            extended_lba: flbas >> 4 & 1 != 0,
            protection: (dps & 7 != 0).then_some(Protection { kind: dps & 7, first: dps >> 3 & 1 != 0 }),
            atomic_blocks: has(1).then(|| from_zero_based(u16_at(raw, 34))),
            atomic_power_fail_blocks: has(1).then(|| from_zero_based(u16_at(raw, 36))),
            atomic_boundary_blocks: if has(1) && boundary > 0 { from_zero_based(boundary) } else { 0 },
            atomic_boundary_offset_blocks: if has(1) { u16_at(raw, 42).into() } else { 0 },
            nguid: bytes(raw, 104),
            eui64: bytes(raw, 120),
            deallocated_reads_as: byte(33) & 7,
            io_boundary_blocks: u16_at(raw, 46),
            write_granularity_blocks: has(4).then(|| from_zero_based(u16_at(raw, 64))),
        }
    }

    /// The current format; nothing but zeros if the namespace names one that it does not have.
    #[must_use]
    pub fn format(&self) -> LbaFormat {
        self.formats.get(self.format_index).copied().unwrap_or_default()
    }

    /// The formats that can be had, with their indices.
    pub fn available(&self) -> impl Iterator<Item = (usize, LbaFormat)> {
        self.formats.iter().copied().enumerate().filter(|(_, format)| format.data_bytes > 0)
    }

    /// NSZE in bytes of data.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_blocks.saturating_mul(u64::from(self.format().data_bytes))
    }
}

/// A "0's based" value of the specification: 0 means 1.
fn from_zero_based(value: u16) -> u32 {
    u32::from(value) + 1
}
