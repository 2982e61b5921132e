//! What an NVMe target is, and what its health log says of the run.

use serde_json::{Value, json};

use crate::base::nvme::{ControllerFacts, DeviceFacts, LbaFormat, NamespaceFacts, PcieLink, Smart};
use crate::base::units::format_size;

/// One NVMe target, for programs.
pub fn object(facts: &DeviceFacts) -> Value {
    let between = facts.smart_difference().map(|between| {
        json!({
            "read_bytes": whole(between.read_bytes),
            "written_bytes": whole(between.written_bytes),
            "host_reads": whole(between.host_reads),
            "host_writes": whole(between.host_writes),
            "busy_minutes": whole(between.busy_minutes),
            "power_cycles": whole(between.power_cycles),
            "unsafe_shutdowns": whole(between.unsafe_shutdowns),
            "media_errors": whole(between.media_errors),
            "error_log_entries": whole(between.error_log_entries),
            "used_percent": between.used_percent,
        })
    });
    json!({
        "controller": controller_object(&facts.controller),
        "namespace": namespace_object(&facts.namespace),
        "atomic_write_power_fail_bytes": facts.atomic_write_bytes(),
        "pcie_link": facts.link.as_ref().map(link_object),
        "smart": {
            "before": facts.smart_before.as_ref().map(smart_object),
            "after": facts.smart_after.as_ref().map(smart_object),
            "difference": between,
        },
        "notes": facts.notes,
    })
}

/// A controller, for programs.
#[must_use]
pub fn controller_object(controller: &ControllerFacts) -> Value {
    let (major, minor, tertiary) = controller.version;
    let celsius = |kelvin: u16| (kelvin > 0).then(|| i32::from(kelvin) - 273);
    json!({
        "model": controller.model,
        "serial": controller.serial,
        "firmware": controller.firmware,
        "vendor_id": format!("{:04x}", controller.vendor_id),
        "nvme_version": format!("{major}.{minor}.{tertiary}"),
        "subsystem_nqn": controller.subsystem_nqn,
        "volatile_write_cache": {
            "present": controller.write_cache_present,
            "enabled": controller.write_cache_enabled,
        },
        "most_transfer_bytes": controller.most_bytes(None),
        "atomic_write_blocks": controller.atomic_blocks,
        "atomic_write_power_fail_blocks": controller.atomic_power_fail_blocks,
        "commands": controller.commands(),
        "sgl_support": controller.sgls,
        "warning_celsius": celsius(controller.warning_kelvin),
        "critical_celsius": celsius(controller.critical_kelvin),
    })
}

/// A namespace, for programs.
#[must_use]
pub fn namespace_object(namespace: &NamespaceFacts) -> Value {
    let formats: Vec<Value> = namespace
        .available()
        .map(|(index, format)| {
            json!({
                "index": index,
                "data_bytes": format.data_bytes,
                "metadata_bytes": format.metadata_bytes,
                "relative_performance": format.relative_performance,
                "in_use": index == namespace.format_index,
            })
        })
        .collect();
    let format = namespace.format();
    let hex = |bytes: &[u8]| {
        let known = bytes.iter().any(|&byte| byte != 0);
        known.then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    json!({
        "nsid": namespace.nsid,
        "size_bytes": namespace.size_bytes(),
        "lba_data_bytes": format.data_bytes,
        "lba_metadata_bytes": format.metadata_bytes,
        "extended_lba": namespace.extended_lba,
        "protection_type": namespace.protection.map(|protection| protection.kind),
        "protection_first": namespace.protection.map(|protection| protection.first),
        "lba_formats": formats,
        "atomic_write_blocks": namespace.atomic_blocks,
        "atomic_write_power_fail_blocks": namespace.atomic_power_fail_blocks,
        "atomic_boundary_blocks": namespace.atomic_boundary_blocks,
        "atomic_boundary_offset_blocks": namespace.atomic_boundary_offset_blocks,
        "deallocated_reads_as": namespace.deallocated_reads_as,
        "io_boundary_blocks": namespace.io_boundary_blocks,
        "write_granularity_blocks": namespace.write_granularity_blocks,
        "nguid": hex(&namespace.nguid),
        "eui64": hex(&namespace.eui64),
    })
}

/// A link, for programs.
#[must_use]
pub fn link_object(link: &PcieLink) -> Value {
    json!({
        "speed": link.speed,
        "width": link.width,
        "max_speed": link.max_speed,
        "max_width": link.max_width,
    })
}

fn smart_object(smart: &Smart) -> Value {
    json!({
        "critical_warning": smart.critical_warning,
        "temperature_celsius": smart.celsius(),
        "spare_percent": smart.spare_percent,
        "spare_threshold_percent": smart.spare_threshold_percent,
        "used_percent": smart.used_percent,
        "data_units_read": whole(smart.data_units_read),
        "data_units_written": whole(smart.data_units_written),
        "host_reads": whole(smart.host_reads),
        "host_writes": whole(smart.host_writes),
        "busy_minutes": whole(smart.busy_minutes),
        "power_cycles": whole(smart.power_cycles),
        "power_on_hours": whole(smart.power_on_hours),
        "unsafe_shutdowns": whole(smart.unsafe_shutdowns),
        "media_errors": whole(smart.media_errors),
        "error_log_entries": whole(smart.error_log_entries),
    })
}

/// JSON readers lose digits beyond 64 bits: such a number is a string.
fn whole(value: u128) -> Value {
    u64::try_from(value).map_or_else(|_| value.to_string().into(), Value::from)
}

/// One NVMe target, for people: what it is, then its health.
pub fn sentences(facts: &DeviceFacts) -> Vec<String> {
    let controller = &facts.controller;
    let mut device = vec![format!("serial {}", controller.serial), format_in_use(&facts.namespace)];
    device.push(cache(controller).to_owned());
    device.push(match facts.atomic_write_bytes() {
        0 => "atomic write unit unknown".to_owned(),
        bytes => format!("writes to {} whole at power fail", format_size(bytes)),
    });
    device.extend(controller.most_bytes(None).map(|most| format!("MDTS {}", format_size(most))));
    device.extend(facts.link.as_ref().map(link));
    let mut sentences = vec![format!("nvme: {}", device.join(", "))];
    sentences.extend(health(facts).map(|health| format!("health: {health}")));
    sentences.extend(facts.notes.iter().map(|note| format!("note: {note}")));
    sentences
}

/// `LBA format 1 (4096 + 8, PI type 1)`.
#[must_use]
pub fn format_in_use(namespace: &NamespaceFacts) -> String {
    let protection = namespace.protection.map(|protection| format!(", PI type {}", protection.kind));
    let extended = if namespace.extended_lba { ", extended" } else { "" };
    let format = blocks(namespace.format());
    format!("LBA format {} ({format}{extended}{})", namespace.format_index, protection.unwrap_or_default())
}

/// `4096` or `4096 + 8`: data and metadata of a block.
#[must_use]
pub fn blocks(format: LbaFormat) -> String {
    match format.metadata_bytes {
        0 => format.data_bytes.to_string(),
        metadata => format!("{} + {metadata}", format.data_bytes),
    }
}

/// What there is of a volatile write cache.
#[must_use]
pub fn cache(controller: &ControllerFacts) -> &'static str {
    match (controller.write_cache_present, controller.write_cache_enabled) {
        (false, _) => "no volatile cache",
        (true, Some(true)) => "volatile cache on",
        (true, Some(false)) => "volatile cache off",
        (true, None) => "volatile cache, on or off not known",
    }
}

/// `PCIe 16.0 GT/s x4`, and what it could be if it is less than that.
#[must_use]
pub fn link(link: &PcieLink) -> String {
    let shown = |speed: &Option<String>, width: Option<u32>| {
        let speed = speed.as_deref().map_or("?", |speed| speed.trim_end_matches(" PCIe"));
        format!("{speed} x{}", width.map_or_else(|| "?".to_owned(), |width| width.to_string()))
    };
    let now = format!("PCIe {}", shown(&link.speed, link.width));
    if link.is_reduced() { format!("{now} (of {})", shown(&link.max_speed, link.max_width)) } else { now }
}

/// How it is, and what changed: only what went wrong is named by its number.
fn health(facts: &DeviceFacts) -> Option<String> {
    let smart = facts.smart_after.as_ref().or(facts.smart_before.as_ref())?;
    let mut parts: Vec<String> = smart.warnings().iter().map(|what| format!("CRITICAL: {what}")).collect();
    parts.extend(smart.celsius().map(|degrees| format!("{degrees} C")));
    parts.push(format!("{}% used", smart.used_percent));
    if let Some(between) = facts.smart_difference() {
        let size = |bytes: u128| format_size(u64::try_from(bytes).unwrap_or(u64::MAX));
        parts.push(format!("{} read, {} written", size(between.read_bytes), size(between.written_bytes)));
        let counts = [
            (between.media_errors, "media errors"),
            (between.unsafe_shutdowns, "unsafe shutdowns"),
            (between.error_log_entries, "error log entries"),
        ];
        let new: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} NEW {what}"))
            .collect();
        parts.extend(if new.is_empty() { vec!["no new errors".to_owned()] } else { new });
    }
    Some(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out_and_not_invented() {
        let facts =
            DeviceFacts { notes: vec!["no health log: refused".to_owned()], ..DeviceFacts::default() };
        let said = sentences(&facts).join("\n");
        assert!(said.contains("atomic write unit unknown") && said.contains("note: no health log: refused"));
        assert!(!said.contains("health:") && !said.contains("PCIe") && !said.contains("MDTS"), "{said}");
        let object = object(&facts);
        for (part, field) in
            [("smart", "before"), ("smart", "difference"), ("controller", "most_transfer_bytes")]
        {
            assert_eq!(object[part][field], Value::Null, "{part} {field}");
        }
    }

    #[test]
    fn new_troubles_are_told_and_old_ones_are_not() {
        let before = Smart { media_errors: 7, unsafe_shutdowns: 3, kelvin: 300, ..Smart::default() };
        let told = |after| {
            let (smart_before, smart_after) = (Some(before), Some(after));
            health(&DeviceFacts { smart_before, smart_after, ..DeviceFacts::default() }).unwrap()
        };
        assert_eq!(told(before), "27 C, 0% used, 0B read, 0B written, no new errors");
        let worse = told(Smart { media_errors: 9, critical_warning: 4, ..before });
        assert!(worse.starts_with("CRITICAL: reliability degraded") && worse.ends_with("2 NEW media errors"));
    }

    #[test]
    fn numbers_beyond_64_bits_keep_their_digits() {
        assert_eq!(whole(u128::from(u64::MAX)), u64::MAX);
        assert_eq!(whole(u128::MAX), "340282366920938463463374607431768211455");
    }
}
