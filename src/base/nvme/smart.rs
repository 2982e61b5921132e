//! The log page SMART / Health Information (Base 2.0, figure 207).

use super::{Admin, LOG_SMART, NSID_ALL, bytes, u16_at, u128_at};

/// A data unit is a thousand blocks of 512 bytes.
const DATA_UNIT_BYTES: u128 = 512_000;
/// Length of the log page.
const PAGE_BYTES: usize = 512;

/// The health of a controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Smart {
    /// Bit 0 spare low, 1 temperature, 2 reliability degraded, 3 read-only, 4 volatile memory backup
    /// failed, 5 persistent memory region unreliable.
    pub critical_warning: u8,
    /// Composite temperature in kelvin; 0: not reported.
    pub kelvin: u16,
    /// Spare blocks left, percent.
    pub spare_percent: u8,
    /// Spare below this is critical, percent.
    pub spare_threshold_percent: u8,
    /// Life used, percent; may go beyond 100.
    pub used_percent: u8,
    /// Read by the host, in units of 512000 bytes.
    pub data_units_read: u128,
    /// Written by the host, in units of 512000 bytes.
    pub data_units_written: u128,
    /// Read (and compare) commands.
    pub host_reads: u128,
    /// Write commands.
    pub host_writes: u128,
    /// Minutes with I/O outstanding.
    pub busy_minutes: u128,
    /// Power cycles.
    pub power_cycles: u128,
    /// Power-on hours.
    pub power_on_hours: u128,
    /// Losses of power without a shutdown before.
    pub unsafe_shutdowns: u128,
    /// Media and data integrity errors.
    pub media_errors: u128,
    /// Error log entries ever.
    pub error_log_entries: u128,
}

/// What happened between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmartDifference {
    /// Read by the host, in bytes: exact to a data unit of 512000.
    pub read_bytes: u128,
    /// Written by the host, in bytes: exact to a data unit of 512000.
    pub written_bytes: u128,
    /// Read commands.
    pub host_reads: u128,
    /// Write commands.
    pub host_writes: u128,
    /// Minutes with I/O outstanding.
    pub busy_minutes: u128,
    /// Power cycles.
    pub power_cycles: u128,
    /// Losses of power without a shutdown before.
    pub unsafe_shutdowns: u128,
    /// Media and data integrity errors.
    pub media_errors: u128,
    /// Error log entries.
    pub error_log_entries: u128,
    /// Percent of life.
    pub used_percent: u8,
}

impl Smart {
    /// Asks for the log page of the whole controller.
    ///
    /// # Errors
    /// Why the controller did not answer.
    pub fn read(admin: &dyn Admin) -> Result<Smart, String> {
        let mut page = [0; PAGE_BYTES];
        admin.log_page(LOG_SMART, NSID_ALL, &mut page)?;
        Ok(Smart::parse(&page))
    }

    /// Reads the log page.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Smart {
        let [spare_percent, spare_threshold_percent, used_percent] = bytes(raw, 3);
        Smart {
            critical_warning: raw.first().copied().unwrap_or(0),
            kelvin: u16_at(raw, 1),
            spare_percent,
            spare_threshold_percent,
            used_percent,
            data_units_read: u128_at(raw, 32),
            data_units_written: u128_at(raw, 48),
            host_reads: u128_at(raw, 64),
            host_writes: u128_at(raw, 80),
            busy_minutes: u128_at(raw, 96),
            power_cycles: u128_at(raw, 112),
            power_on_hours: u128_at(raw, 128),
            unsafe_shutdowns: u128_at(raw, 144),
            media_errors: u128_at(raw, 160),
            error_log_entries: u128_at(raw, 176),
        }
    }

    /// The composite temperature in degrees Celsius, if it is reported.
    #[must_use]
    pub fn celsius(&self) -> Option<i32> {
        (self.kelvin > 0).then(|| i32::from(self.kelvin) - 273)
    }

    /// What the critical warnings are, in words.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        let names = [
            "spare below its threshold",
            "temperature beyond a threshold",
            "reliability degraded",
            "media read-only",
            "backup of volatile memory failed",
            "persistent memory region unreliable",
        ];
        names
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.critical_warning >> bit & 1 != 0)
            .map(|(_, n)| *n)
            .collect()
    }

    /// What happened since `before`. A counter that went back (a device replaced, or one that lies)
    /// counts as nothing.
    #[must_use]
    pub fn since(&self, before: &Smart) -> SmartDifference {
        let units = |now: u128, then: u128| now.saturating_sub(then).saturating_mul(DATA_UNIT_BYTES);
        SmartDifference {
            read_bytes: units(self.data_units_read, before.data_units_read),
            written_bytes: units(self.data_units_written, before.data_units_written),
            host_reads: self.host_reads.saturating_sub(before.host_reads),
            host_writes: self.host_writes.saturating_sub(before.host_writes),
            busy_minutes: self.busy_minutes.saturating_sub(before.busy_minutes),
            power_cycles: self.power_cycles.saturating_sub(before.power_cycles),
            unsafe_shutdowns: self.unsafe_shutdowns.saturating_sub(before.unsafe_shutdowns),
            media_errors: self.media_errors.saturating_sub(before.media_errors),
            error_log_entries: self.error_log_entries.saturating_sub(before.error_log_entries),
            used_percent: self.used_percent.saturating_sub(before.used_percent),
        }
    }
}
