//! What an NVMe device says of itself: bytes in, facts out. Pure: whoever can send admin commands,
//! the kernel's driver or SPDK's, implements [`Admin`]; [`DeviceFacts`] is what reports get.
//!
//! Figures and sections are those of the NVM Express Base Specification 2.0 and of the NVM Command
//! Set Specification 1.0. Whatever a device answers, nothing here panics.

use super::atomic::{AtomicSource, AtomicWrites, Boundaries};

mod identify;
mod smart;
#[cfg(test)]
mod tests;
mod wwid;

pub use identify::{ControllerFacts, LbaFormat, NamespaceFacts, Protection};
pub use smart::{Smart, SmartDifference};
pub use wwid::{uuid_of, wwid};

/// Identify, log pages and features of one controller.
pub trait Admin {
    /// Identify Controller (CNS 01h).
    ///
    /// # Errors
    /// Why the controller did not answer.
    fn identify_controller(&self) -> Result<[u8; 4096], String>;

    /// Identify Namespace (CNS 00h).
    ///
    /// # Errors
    /// Why the controller did not answer.
    fn identify_namespace(&self, nsid: u32) -> Result<[u8; 4096], String>;

    /// The first bytes of a log page (Get Log Page); their number is a multiple of four.
    ///
    /// # Errors
    /// Why the controller did not answer.
    fn log_page(&self, id: u8, nsid: u32, into: &mut [u8]) -> Result<(), String>;

    /// The current value of a feature of the controller (Get Features, dword 0 of the completion).
    ///
    /// # Errors
    /// Why the controller did not answer.
    fn get_feature(&self, id: u8) -> Result<u32, String>;

    /// Changes a feature of the controller, until the next reset (Set Features, SV 0).
    ///
    /// # Errors
    /// Why the controller did not, or why this channel may not.
    fn set_feature(&self, id: u8, value: u32) -> Result<(), String>;
}

/// The log page SMART / Health Information.
pub const LOG_SMART: u8 = 0x02;
/// The feature Volatile Write Cache: bit 0 is whether it is on.
pub const FEATURE_VOLATILE_WRITE_CACHE: u8 = 0x06;
/// All namespaces, or the controller.
pub const NSID_ALL: u32 = 0xffff_ffff;

/// The PCIe link of a controller, and what it and its slot are capable of together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PcieLink {
    /// Now, `8.0 GT/s PCIe` for instance.
    pub speed: Option<String>,
    /// Lanes now.
    pub width: Option<u32>,
    /// At most.
    pub max_speed: Option<String>,
    /// Lanes at most.
    pub max_width: Option<u32>,
}

impl PcieLink {
    /// Whether the link is slower or narrower than the device can: a figure to doubt.
    #[must_use]
    pub fn is_reduced(&self) -> bool {
        let less = |now: &Option<String>, most: &Option<String>| {
            let value = |text: &String| text.split(' ').next().and_then(|number| number.parse::<f64>().ok());
            now.as_ref()
                .and_then(value)
                .zip(most.as_ref().and_then(value))
                .is_some_and(|(now, most)| now < most)
        };
        let narrow = self.width.zip(self.max_width).is_some_and(|(now, most)| now < most);
        narrow || less(&self.speed, &self.max_speed)
    }
}

/// One NVMe target: what it is, and how it is before and after.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceFacts {
    /// The controller.
    pub controller: ControllerFacts,
    /// The namespace.
    pub namespace: NamespaceFacts,
    /// Its PCIe link, where it has one that is known.
    pub link: Option<PcieLink>,
    /// Its health before the run.
    pub smart_before: Option<Smart>,
    /// Its health after the run.
    pub smart_after: Option<Smart>,
    /// What could not be learnt, and why.
    pub notes: Vec<String>,
}

impl DeviceFacts {
    /// Asks a controller for everything but the link; the health counts as that before the run.
    ///
    /// # Errors
    /// If the controller does not say what it and the namespace are. The rest may be missing: then
    /// a note says why.
    pub fn collect(admin: &dyn Admin, nsid: u32) -> Result<DeviceFacts, String> {
        let mut controller = ControllerFacts::parse(&admin.identify_controller()?);
        let namespace = NamespaceFacts::parse(nsid, &admin.identify_namespace(nsid)?);
        let mut notes = Vec::new();
        match controller.ask_write_cache(admin) {
            Ok(is_on) => controller.write_cache_enabled = Some(is_on),
            Err(why) => notes.push(format!("whether the write cache is on is not known: {why}")),
        }
        let smart_before = Smart::read(admin).map_err(|why| notes.push(format!("no health log: {why}"))).ok();
        Ok(DeviceFacts { controller, namespace, link: None, smart_before, smart_after: None, notes })
    }

    /// The later of two looks at one device: what it is now, its health before and after.
    #[must_use]
    pub fn followed_by(self, later: DeviceFacts) -> DeviceFacts {
        let mut notes = self.notes;
        for note in later.notes {
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        let smart_after = later.smart_after.or(later.smart_before);
        DeviceFacts {
            smart_before: self.smart_before,
            smart_after,
            notes,
            link: later.link.or(self.link),
            ..later
        }
    }

    /// What happened in between, if the health is known before and after.
    #[must_use]
    pub fn smart_difference(&self) -> Option<SmartDifference> {
        Some(self.smart_after.as_ref()?.since(self.smart_before.as_ref()?))
    }

    /// Whether what the device acknowledged may be lost with the power; `None` if nobody knows.
    #[must_use]
    pub fn volatile_cache(&self) -> Option<bool> {
        self.controller.write_cache_enabled
    }

    /// A write of at most this many bytes is on the medium whole or not at all when the power comes
    /// back: NAWUPF where the namespace defines it, else AWUPF (NVM Command Set 1.0, 2.1.4). Longer
    /// writes are only promised to tear between logical blocks. [`DeviceFacts::atomic_writes`] has the
    /// boundaries too.
    #[must_use]
    pub fn atomic_write_bytes(&self) -> u64 {
        let blocks =
            self.namespace.atomic_power_fail_blocks.unwrap_or(self.controller.atomic_power_fail_blocks);
        u64::from(blocks) * u64::from(self.namespace.format().data_bytes)
    }

    /// Which commands the device stores whole or not at all when the power fails, by their place on the
    /// namespace. NAWUPF counts inside the boundaries that NABSPF and NABO make, AWUPF across them (NVM
    /// Command Set 1.0, 2.1.4.4).
    #[must_use]
    pub fn atomic_writes(&self) -> AtomicWrites {
        let (controller, namespace) = (&self.controller, &self.namespace);
        let lba = u64::from(namespace.format().data_bytes);
        let bytes = |blocks: u32| u32::try_from(u64::from(blocks) * lba).unwrap_or(u32::MAX);
        let Some(blocks) = namespace.atomic_power_fail_blocks else {
            return AtomicWrites::up_to(bytes(controller.atomic_power_fail_blocks), AtomicSource::Awupf);
        };
        let every = u64::from(namespace.atomic_boundary_blocks) * lba;
        let first = u64::from(namespace.atomic_boundary_offset_blocks) * lba;
        let write_bytes = bytes(blocks);
        AtomicWrites {
            boundaries: Boundaries::on_part(every, first, 0),
            crossing_bytes: match every {
                0 => 0,
                _ => bytes(controller.atomic_power_fail_blocks).min(write_bytes),
            },
            ..AtomicWrites::up_to(write_bytes, AtomicSource::Nawupf)
        }
    }
}

/// Bytes `at..at + N` of what a device said; zeros beyond its end.
fn bytes<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    if let Some(part) = raw.get(at..at + N) {
        out.copy_from_slice(part);
    }
    out
}

fn u16_at(raw: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes(raw, at))
}

fn u32_at(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes(raw, at))
}

fn u64_at(raw: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes(raw, at))
}

fn u128_at(raw: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(bytes(raw, at))
}

/// Text of fixed length, padded with blanks or zeros; what is not printable becomes `?`.
fn text_at(raw: &[u8], at: usize, len: usize) -> String {
    let field = raw.get(at..at + len).unwrap_or_default();
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    let shown = |&byte: &u8| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '?' };
    field[..end].iter().map(shown).collect::<String>().trim().to_owned()
}
