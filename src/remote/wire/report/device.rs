//! Devices, and what they say of themselves. Their texts are made such as can be shown, as they are where
//! a device is asked.

use super::stats::{wide_from, wide_to};
use super::{few, shown, small};
use crate::base::host::{DeviceSummary, printable};
use crate::base::nvme::{
    ControllerFacts, DeviceFacts, LbaFormat, NamespaceFacts, PcieLink, Protection, Smart,
};
use crate::remote::wire::bench;

/// Formats of logical blocks.
const MOST_FORMATS: usize = 64;
/// What could not be learnt of a device.
const MOST_NOTES: usize = 1000;

pub(super) fn summary_to(device: &DeviceSummary) -> bench::Device {
    bench::Device {
        name: device.name.clone(),
        model: device.model.clone(),
        serial: device.serial.clone(),
        firmware: device.firmware.clone(),
        size_bytes: device.size_bytes,
        lba_bytes: device.lba_bytes,
        numa_node: device.numa_node,
        write_cache: device.write_cache.clone(),
    }
}

pub(super) fn summary_from(device: &bench::Device) -> DeviceSummary {
    DeviceSummary {
        name: printable(&device.name),
        model: shown(device.model.as_ref()),
        serial: shown(device.serial.as_ref()),
        firmware: shown(device.firmware.as_ref()),
        size_bytes: device.size_bytes,
        lba_bytes: device.lba_bytes,
        numa_node: device.numa_node,
        write_cache: shown(device.write_cache.as_ref()),
    }
}

pub(super) fn facts_to(facts: &DeviceFacts) -> bench::NvmeDevice {
    bench::NvmeDevice {
        controller: Some(controller_to(&facts.controller)),
        namespace: Some(namespace_to(&facts.namespace)),
        link: facts.link.as_ref().map(|link| bench::PcieLink {
            speed: link.speed.clone(),
            width: link.width,
            max_speed: link.max_speed.clone(),
            max_width: link.max_width,
        }),
        smart_before: facts.smart_before.as_ref().map(smart_to),
        smart_after: facts.smart_after.as_ref().map(smart_to),
        notes: facts.notes.clone(),
    }
}

pub(super) fn facts_from(facts: &bench::NvmeDevice) -> Result<DeviceFacts, String> {
    few("notes on a device", facts.notes.len(), MOST_NOTES)?;
    let (controller, namespace) = (facts.controller.as_ref(), facts.namespace.as_ref());
    Ok(DeviceFacts {
        controller: controller.map(controller_from).transpose()?.unwrap_or_default(),
        namespace: namespace.map(namespace_from).transpose()?.unwrap_or_default(),
        link: facts.link.as_ref().map(|link| PcieLink {
            speed: shown(link.speed.as_ref()),
            width: link.width,
            max_speed: shown(link.max_speed.as_ref()),
            max_width: link.max_width,
        }),
        smart_before: facts.smart_before.as_ref().map(smart_from).transpose()?,
        smart_after: facts.smart_after.as_ref().map(smart_from).transpose()?,
        notes: facts.notes.iter().map(|note| printable(note)).collect(),
    })
}

fn controller_to(facts: &ControllerFacts) -> bench::NvmeController {
    bench::NvmeController {
        model: facts.model.clone(),
        serial: facts.serial.clone(),
        firmware: facts.firmware.clone(),
        vendor_id: u32::from(facts.vendor_id),
        version_major: u32::from(facts.version.0),
        version_minor: u32::from(facts.version.1),
        version_tertiary: u32::from(facts.version.2),
        subsystem_nqn: facts.subsystem_nqn.clone(),
        namespaces: facts.namespaces,
        mdts: u32::from(facts.mdts),
        write_cache_present: facts.write_cache_present,
        write_cache_enabled: facts.write_cache_enabled,
        atomic_blocks: facts.atomic_blocks,
        atomic_power_fail_blocks: facts.atomic_power_fail_blocks,
        compare: facts.compare,
        write_uncorrectable: facts.write_uncorrectable,
        dataset_management: facts.dataset_management,
        write_zeroes: facts.write_zeroes,
        verify: facts.verify,
        copy: facts.copy,
        sgls: facts.sgls,
        warning_kelvin: u32::from(facts.warning_kelvin),
        critical_kelvin: u32::from(facts.critical_kelvin),
    }
}

fn controller_from(facts: &bench::NvmeController) -> Result<ControllerFacts, String> {
    const VERSION: &str = "a part of the version of NVMe";
    Ok(ControllerFacts {
        model: printable(&facts.model),
        serial: printable(&facts.serial),
        firmware: printable(&facts.firmware),
        vendor_id: small("a PCI vendor", facts.vendor_id)?,
        version: (
            small(VERSION, facts.version_major)?,
            small(VERSION, facts.version_minor)?,
            small(VERSION, facts.version_tertiary)?,
        ),
        subsystem_nqn: printable(&facts.subsystem_nqn),
        namespaces: facts.namespaces,
        mdts: small("MDTS", facts.mdts)?,
        write_cache_present: facts.write_cache_present,
        write_cache_enabled: facts.write_cache_enabled,
        atomic_blocks: facts.atomic_blocks,
        atomic_power_fail_blocks: facts.atomic_power_fail_blocks,
        compare: facts.compare,
        write_uncorrectable: facts.write_uncorrectable,
        dataset_management: facts.dataset_management,
        write_zeroes: facts.write_zeroes,
        verify: facts.verify,
        copy: facts.copy,
        sgls: facts.sgls,
        warning_kelvin: small("a temperature", facts.warning_kelvin)?,
        critical_kelvin: small("a temperature", facts.critical_kelvin)?,
    })
}

fn namespace_to(facts: &NamespaceFacts) -> bench::NvmeNamespace {
    let format = |format: &LbaFormat| bench::LbaFormat {
        data_bytes: format.data_bytes,
        metadata_bytes: u32::from(format.metadata_bytes),
        relative_performance: u32::from(format.relative_performance),
    };
    bench::NvmeNamespace {
        nsid: facts.nsid,
        size_blocks: facts.size_blocks,
        capacity_blocks: facts.capacity_blocks,
        used_blocks: facts.used_blocks,
        formats: facts.formats.iter().map(format).collect(),
        format_index: u32::try_from(facts.format_index).unwrap_or(u32::MAX),
        extended_lba: facts.extended_lba,
        protection: facts.protection.map(|protection| bench::Protection {
            kind: u32::from(protection.kind),
            first: protection.first,
        }),
        atomic_blocks: facts.atomic_blocks,
        atomic_power_fail_blocks: facts.atomic_power_fail_blocks,
        atomic_boundary_blocks: facts.atomic_boundary_blocks,
        atomic_boundary_offset_blocks: facts.atomic_boundary_offset_blocks,
        nguid: facts.nguid.to_vec().into(),
        eui64: facts.eui64.to_vec().into(),
        deallocated_reads_as: u32::from(facts.deallocated_reads_as),
        io_boundary_blocks: u32::from(facts.io_boundary_blocks),
        write_granularity_blocks: facts.write_granularity_blocks,
    }
}

fn namespace_from(facts: &bench::NvmeNamespace) -> Result<NamespaceFacts, String> {
    few("formats of logical blocks", facts.formats.len(), MOST_FORMATS)?;
    let format = |format: &bench::LbaFormat| {
        Ok::<_, String>(LbaFormat {
            data_bytes: format.data_bytes,
            metadata_bytes: small("the length of metadata", format.metadata_bytes)?,
            relative_performance: small("a relative performance", format.relative_performance)?,
        })
    };
    let protection = |protection: &bench::Protection| {
        let kind = small("a kind of protection information", protection.kind)?;
        Ok::<_, String>(Protection { kind, first: protection.first })
    };
    Ok(NamespaceFacts {
        nsid: facts.nsid,
        size_blocks: facts.size_blocks,
        capacity_blocks: facts.capacity_blocks,
        used_blocks: facts.used_blocks,
        formats: facts.formats.iter().map(format).collect::<Result<_, _>>()?,
        format_index: small("the index of a format", facts.format_index)?,
        extended_lba: facts.extended_lba,
        protection: facts.protection.as_ref().map(protection).transpose()?,
        atomic_blocks: facts.atomic_blocks,
        atomic_power_fail_blocks: facts.atomic_power_fail_blocks,
        atomic_boundary_blocks: facts.atomic_boundary_blocks,
        atomic_boundary_offset_blocks: facts.atomic_boundary_offset_blocks,
        nguid: name_from(&facts.nguid)?,
        eui64: name_from(&facts.eui64)?,
        deallocated_reads_as: small("what deallocated blocks read as", facts.deallocated_reads_as)?,
        io_boundary_blocks: small("an I/O boundary", facts.io_boundary_blocks)?,
        write_granularity_blocks: facts.write_granularity_blocks,
    })
}

/// A name in bytes; zeros if there is none.
fn name_from<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    if bytes.is_empty() {
        return Ok([0; N]);
    }
    bytes.try_into().map_err(|_| format!("a name of a namespace has {} bytes, not {N}", bytes.len()))
}

fn smart_to(smart: &Smart) -> bench::Smart {
    let wide = |number| Some(wide_to(number));
    bench::Smart {
        critical_warning: u32::from(smart.critical_warning),
        kelvin: u32::from(smart.kelvin),
        spare_percent: u32::from(smart.spare_percent),
        spare_threshold_percent: u32::from(smart.spare_threshold_percent),
        used_percent: u32::from(smart.used_percent),
        data_units_read: wide(smart.data_units_read),
        data_units_written: wide(smart.data_units_written),
        host_reads: wide(smart.host_reads),
        host_writes: wide(smart.host_writes),
        busy_minutes: wide(smart.busy_minutes),
        power_cycles: wide(smart.power_cycles),
        power_on_hours: wide(smart.power_on_hours),
        unsafe_shutdowns: wide(smart.unsafe_shutdowns),
        media_errors: wide(smart.media_errors),
        error_log_entries: wide(smart.error_log_entries),
    }
}

fn smart_from(smart: &bench::Smart) -> Result<Smart, String> {
    let wide = |number: &Option<bench::Uint128>| wide_from(number.as_ref());
    Ok(Smart {
        critical_warning: small("a critical warning", smart.critical_warning)?,
        kelvin: small("a temperature", smart.kelvin)?,
        spare_percent: small("spare", smart.spare_percent)?,
        spare_threshold_percent: small("a threshold of spare", smart.spare_threshold_percent)?,
        used_percent: small("life used", smart.used_percent)?,
        data_units_read: wide(&smart.data_units_read),
        data_units_written: wide(&smart.data_units_written),
        host_reads: wide(&smart.host_reads),
        host_writes: wide(&smart.host_writes),
        busy_minutes: wide(&smart.busy_minutes),
        power_cycles: wide(&smart.power_cycles),
        power_on_hours: wide(&smart.power_on_hours),
        unsafe_shutdowns: wide(&smart.unsafe_shutdowns),
        media_errors: wide(&smart.media_errors),
        error_log_entries: wide(&smart.error_log_entries),
    })
}
