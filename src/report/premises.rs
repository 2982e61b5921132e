//! What verdicts on a target rest on, in words and for programs.

use serde_json::{Value, json};

use crate::base::atomic::AtomicWrites;
use crate::base::premises::Premises;

/// What verdicts on a target rest on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PremisesReport {
    /// Whether a volatile cache was on; `None` where that is not known.
    pub cache_on: Option<bool>,
    /// The same with where it is known from.
    pub cache: String,
    /// Whether flushes reach the medium; `None` where that is not known.
    pub flushes_reach: Option<bool>,
    /// The same with where it is known from.
    pub flushes: String,
    /// Which writes are stored whole, who promises it, and which limit cut it.
    pub atomic: String,
    /// What deallocated blocks read as.
    pub deallocated: String,
    /// Power-loss protection as the drive reports it.
    pub protection: String,
    /// Why neither flushes nor completions promise anything; empty if nothing is known against them.
    pub broken: String,
}

impl PremisesReport {
    /// In words.
    #[must_use]
    pub fn of(premises: &Premises) -> PremisesReport {
        PremisesReport {
            cache_on: premises.volatile_cache,
            cache: premises.cache(),
            flushes_reach: premises.flushes.reach(),
            flushes: premises.flushes.describe().to_owned(),
            atomic: premises.atomic.describe(),
            deallocated: premises.deallocated.describe().to_owned(),
            protection: "power-loss protection not reported".to_owned(),
            broken: premises.trouble().unwrap_or_default(),
        }
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let all = [&self.cache, &self.flushes, &self.atomic, &self.deallocated, &self.protection];
        let mut line = all.map(String::as_str).join("; ");
        if !self.broken.is_empty() {
            line.push_str("; BROKEN: ");
            line.push_str(&self.broken);
        }
        line
    }

    /// For programs.
    #[must_use]
    pub fn object(&self) -> Value {
        json!({
            "cache_on": self.cache_on,
            "cache": self.cache,
            "flushes_reach": self.flushes_reach,
            "flushes": self.flushes,
            "atomic": self.atomic,
            "deallocated": self.deallocated,
            "power_loss_protection": self.protection,
            "broken": (!self.broken.is_empty()).then_some(&self.broken),
        })
    }
}

/// Which writes are stored whole, for programs.
#[must_use]
pub fn atomic_object(atomic: &AtomicWrites) -> Value {
    json!({
        "unit_bytes": atomic.unit_bytes,
        "write_bytes": atomic.write_bytes,
        "source": atomic.source.name(),
        "limit": atomic.limit.name(),
        "crossing_bytes": atomic.crossing_bytes,
        "boundary_bytes": atomic.boundaries.every,
        "boundary_first": atomic.boundaries.first,
        "split_bytes": atomic.splits.every,
        "split_first": atomic.splits.first,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::atomic::AtomicSource;
    use crate::base::premises::{CacheSource, Deallocated, Flushes};

    #[test]
    fn the_line_says_each_premise_and_where_it_is_known_from() {
        let premises = Premises {
            volatile_cache: Some(true),
            cache_source: CacheSource::Feature,
            flushes: Flushes::WriteBack,
            atomic: AtomicWrites::up_to(16384, AtomicSource::Nawupf),
            deallocated: Deallocated::Zeros,
            broken: String::new(),
        };
        let line = "cache on (feature 06h); flushes reach the drive (queue/write_cache: write back); writes up to 16 KiB \
                    whole (NAWUPF); deallocated blocks read zeros (DLFEAT); power-loss protection not reported";
        assert_eq!(PremisesReport::of(&premises).line(), line);
        let dropped = PremisesReport::of(&Premises { flushes: Flushes::Dropped, ..premises });
        assert!(
            dropped.line().contains("; BROKEN: flushes and FUA do not reach the drive"),
            "{}",
            dropped.line()
        );
        assert_eq!(
            (dropped.object()["flushes_reach"].as_bool(), dropped.object()["broken"].is_string()),
            (Some(false), true)
        );
        let unknown = PremisesReport::of(&Premises::default());
        assert!(unknown.line().starts_with("whether a cache is on is not known; whether flushes reach"));
        assert!(unknown.object()["cache_on"].is_null() && unknown.object()["broken"].is_null());
    }
}
