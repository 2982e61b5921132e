//! What a verdict on a target rests on: its cache, whether flushes reach it, what it stores whole, what
//! deallocated blocks read as; each with where that is known from.

use super::atomic::AtomicWrites;
use super::nvme::DeviceFacts;

/// Where the state of a cache is known from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheSource {
    /// From nowhere.
    #[default]
    NotKnown,
    /// Feature 06h of the NVMe controller.
    Feature,
    /// VWC of Identify Controller: there is none.
    Vwc,
    /// `cache_type` of a SCSI or virtio disk.
    CacheType,
    /// The kernel's `queue/write_cache`.
    Kernel,
    /// The kernel's page cache is in between (`direct = false`).
    PageCache,
    /// The target is a file: its file system caches data and metadata.
    FileSystem,
    /// `sim_cache` of a simulated drive.
    Simulated,
    /// The devices below the target.
    Below,
}

impl CacheSource {
    /// All of them, in the order of the numbers that a snapshot stores.
    pub const ALL: [CacheSource; 9] = [
        CacheSource::NotKnown,
        CacheSource::Feature,
        CacheSource::Vwc,
        CacheSource::CacheType,
        CacheSource::Kernel,
        CacheSource::PageCache,
        CacheSource::FileSystem,
        CacheSource::Simulated,
        CacheSource::Below,
    ];

    fn name(self) -> &'static str {
        match self {
            CacheSource::NotKnown => "not known",
            CacheSource::Feature => "feature 06h",
            CacheSource::Vwc => "VWC of Identify Controller",
            CacheSource::CacheType => "cache_type",
            CacheSource::Kernel => "queue/write_cache",
            CacheSource::PageCache => "the page cache, direct = false",
            CacheSource::FileSystem => "the file system",
            CacheSource::Simulated => "sim_cache",
            CacheSource::Below => "the devices below",
        }
    }
}

/// What becomes of a flush (and of FUA) on its way to the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flushes {
    /// Not known: what is below the target decides.
    #[default]
    NotKnown,
    /// The kernel sends them: `queue/write_cache` is `write back`.
    WriteBack,
    /// The engine sends the command itself.
    Command,
    /// There is no volatile cache to flush.
    NotNeeded,
    /// The file system passes them on, as far as is known.
    FileSystem,
    /// The kernel drops them: `queue/write_cache` is `write through`, and the cache of the drive is on.
    Dropped,
}

impl Flushes {
    /// All of them, in the order of the numbers that a snapshot stores.
    pub const ALL: [Flushes; 6] = [
        Flushes::NotKnown,
        Flushes::WriteBack,
        Flushes::Command,
        Flushes::NotNeeded,
        Flushes::FileSystem,
        Flushes::Dropped,
    ];

    /// Whether they reach the medium; `None` where that is not known.
    #[must_use]
    pub fn reach(self) -> Option<bool> {
        match self {
            Flushes::NotKnown | Flushes::FileSystem => None,
            Flushes::WriteBack | Flushes::Command | Flushes::NotNeeded => Some(true),
            Flushes::Dropped => Some(false),
        }
    }

    /// The words in reports.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Flushes::NotKnown => "whether flushes reach the drive is not known",
            Flushes::WriteBack => "flushes reach the drive (queue/write_cache: write back)",
            Flushes::Command => "flushes reach the drive (sent as commands)",
            Flushes::NotNeeded => "no flush is needed",
            Flushes::FileSystem => "flushes are the file system's (fsync)",
            Flushes::Dropped => "flushes do NOT reach the drive (queue/write_cache: write through)",
        }
    }
}

/// What a deallocated block reads as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deallocated {
    /// The device does not say (DLFEAT 0), or cannot be asked.
    #[default]
    NotReported,
    /// Zeros, by DLFEAT.
    Zeros,
    /// Ones, by DLFEAT.
    Ones,
    /// Zeros: a hole in a file.
    Hole,
    /// Zeros: a simulated drive.
    Simulated,
}

impl Deallocated {
    /// All of them, in the order of the numbers that a snapshot stores.
    pub const ALL: [Deallocated; 5] = [
        Deallocated::NotReported,
        Deallocated::Zeros,
        Deallocated::Ones,
        Deallocated::Hole,
        Deallocated::Simulated,
    ];

    /// Bits 2:0 of DLFEAT.
    #[must_use]
    pub fn of_dlfeat(bits: u8) -> Deallocated {
        match bits & 7 {
            1 => Deallocated::Zeros,
            2 => Deallocated::Ones,
            _ => Deallocated::NotReported,
        }
    }

    /// The byte that fills it; `None` if nobody promises one.
    #[must_use]
    pub fn byte(self) -> Option<u8> {
        match self {
            Deallocated::NotReported => None,
            Deallocated::Zeros | Deallocated::Hole | Deallocated::Simulated => Some(0),
            Deallocated::Ones => Some(0xff),
        }
    }

    /// The words in reports.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Deallocated::NotReported => "what deallocated blocks read as is not reported",
            Deallocated::Zeros => "deallocated blocks read zeros (DLFEAT)",
            Deallocated::Ones => "deallocated blocks read ones (DLFEAT)",
            Deallocated::Hole => "deallocated blocks read zeros (holes of a file)",
            Deallocated::Simulated => "deallocated blocks read zeros (simulated)",
        }
    }
}

/// What a verdict on a target rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Premises {
    /// Whether what was acknowledged may be lost with the power unless it is flushed; `None` where that
    /// is not known.
    pub volatile_cache: Option<bool>,
    /// Where that is known from.
    pub cache_source: CacheSource,
    /// What becomes of flushes.
    pub flushes: Flushes,
    /// Which writes are stored whole.
    pub atomic: AtomicWrites,
    /// What deallocated blocks read as.
    pub deallocated: Deallocated,
    /// Why neither a flush nor a completion promises anything: what held at the start did not hold to the
    /// end. Empty if nothing is known against it.
    pub broken: String,
}

impl Premises {
    /// The cache in words.
    #[must_use]
    pub fn cache(&self) -> String {
        let state = match self.volatile_cache {
            Some(true) => "cache on",
            Some(false) => "cache off",
            None => return "whether a cache is on is not known".to_owned(),
        };
        format!("{state} ({})", self.cache_source.name())
    }

    /// Why a promise that hangs on a flush or on completion is none; `None` if it is one as far as is known.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if !self.broken.is_empty() {
            return Some(self.broken.clone());
        }
        let dropped = "flushes and FUA do not reach the drive: queue/write_cache is \"write through\", and the \
                       cache of the drive is on";
        (self.flushes == Flushes::Dropped).then(|| dropped.to_owned())
    }

    /// Notes what is another than it was: `now` is a later look at the same target.
    pub fn compare(&mut self, now: &Premises) {
        if !self.broken.is_empty() {
            return;
        }
        if !now.broken.is_empty() {
            self.broken.clone_from(&now.broken);
        } else if let (Some(then), Some(later)) = (self.volatile_cache, now.volatile_cache)
            && then != later
        {
            self.broken = format!(
                "the write cache changed while the job ran: {} at the start, {} later",
                self.cache(),
                now.cache()
            );
        } else if self.flushes.reach() != now.flushes.reach()
            && (self.flushes == Flushes::Dropped || now.flushes == Flushes::Dropped)
        {
            self.broken = format!(
                "the way of flushes changed while the job ran: {} at the start; later {}",
                self.flushes.describe(),
                now.flushes.describe()
            );
        }
    }

    /// What an NVMe device says to whoever sends it commands directly.
    #[must_use]
    pub fn of_device(facts: &DeviceFacts, atomic: AtomicWrites) -> Premises {
        let (volatile_cache, cache_source) = cache_of(facts);
        Premises {
            volatile_cache,
            cache_source,
            flushes: if volatile_cache == Some(false) { Flushes::NotNeeded } else { Flushes::Command },
            atomic,
            deallocated: Deallocated::of_dlfeat(facts.namespace.deallocated_reads_as),
            broken: String::new(),
        }
    }
}

/// What an NVMe device says of its cache.
#[must_use]
pub fn cache_of(facts: &DeviceFacts) -> (Option<bool>, CacheSource) {
    match facts.volatile_cache() {
        Some(_) if !facts.controller.write_cache_present => (Some(false), CacheSource::Vwc),
        Some(is_on) => (Some(is_on), CacheSource::Feature),
        None => (None, CacheSource::NotKnown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::atomic::AtomicSource;

    fn reaching() -> Premises {
        Premises {
            volatile_cache: Some(true),
            cache_source: CacheSource::Feature,
            flushes: Flushes::WriteBack,
            atomic: AtomicWrites::up_to(16384, AtomicSource::Nawupf),
            deallocated: Deallocated::Zeros,
            broken: String::new(),
        }
    }

    #[test]
    fn a_cache_or_a_way_of_flushes_that_changes_breaks_the_premises() {
        let off = Premises { volatile_cache: Some(false), flushes: Flushes::NotNeeded, ..reaching() };
        let unknown = Premises { volatile_cache: None, flushes: Flushes::NotKnown, ..reaching() };
        let dropped = Premises { flushes: Flushes::Dropped, ..reaching() };
        for (then, now, breaks) in [
            (reaching(), reaching(), false),
            (reaching(), off.clone(), true),
            (off.clone(), reaching(), true),
            (off.clone(), off, false),
            (reaching(), unknown.clone(), false),
            (unknown, reaching(), false),
            (reaching(), dropped.clone(), true),
            (dropped.clone(), reaching(), true),
            (dropped.clone(), dropped.clone(), false),
        ] {
            let mut seen = then.clone();
            seen.compare(&now);
            assert_eq!(!seen.broken.is_empty(), breaks, "{then:?} {now:?}");
            assert_eq!(seen.trouble().is_some(), breaks || then.flushes == Flushes::Dropped);
            // What is broken stays broken.
            let before = seen.broken.clone();
            seen.compare(&then);
            assert_eq!(seen.broken, before);
        }
    }

    #[test]
    fn dlfeat_says_what_a_deallocated_block_reads_as() {
        let byte = |bits| Deallocated::of_dlfeat(bits).byte();
        assert_eq!(
            [byte(0), byte(1), byte(2), byte(3), byte(0b1_1001)],
            [None, Some(0), Some(0xff), None, Some(0)]
        );
    }
}
