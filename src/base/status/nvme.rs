//! The status codes of NVMe: their names and what Linux makes of them.
//!
//! Names: NVM Express Base Specification 2.0, section 3.3.3.2.1 (status code types and values); the
//! NVM, zoned and key-value command sets add theirs. Numbers: Linux's `nvme_error_status`
//! (drivers/nvme/host/core.c), then `blk_errors` (block/blk-core.c).

/// What kind of status it is, in a few words.
pub(super) fn kind(sct: u8) -> &'static str {
    match sct {
        0 => "generic",
        1 => "command specific",
        2 => "media and data integrity",
        3 => "path",
        7 => "vendor specific",
        _ => "reserved type",
    }
}

/// The name of the specification; `None` for what is reserved and for what vendors define.
pub(super) fn name(sct: u8, sc: u8) -> Option<&'static str> {
    let table = match sct {
        0 => GENERIC,
        1 => COMMAND_SPECIFIC,
        2 => MEDIA,
        3 => PATH,
        _ => return None,
    };
    table.iter().find(|(code, _)| *code == sc).map(|(_, name)| *name)
}

/// The errno that Linux's block layer would give for it. One thing is different: a command that was
/// aborted because the host asked for it, or deleted its queue, is ECANCELED (Linux: EIO), as it is
/// for other engines whose I/O is stopped.
pub(super) const fn errno(sct: u8, sc: u8) -> i32 {
    match (sct, sc) {
        (0, 0x07 | 0x08) | (3, 0x71) => libc::ECANCELED,
        (0, 0x81) => libc::ENOSPC,
        (0, 0x21 | 0x80 | 0x82) => libc::EREMOTEIO,
        (0, 0x01 | 0x02 | 0x0b) | (1, 0x80) => libc::EOPNOTSUPP,
        (0, 0x83) => libc::EBADE,
        (1, 0x82) | (2, 0x80 | 0x81 | 0x85 | 0x86 | 0x87) => libc::ENODATA,
        (1, 0x81) | (2, 0x82..=0x84) => libc::EILSEQ,
        (1, 0xbd) => libc::EOVERFLOW,
        (1, 0xbe) => libc::ETOOMANYREFS,
        (3, 0x70) => libc::ENOLINK,
        _ => libc::EIO,
    }
}

/// Status code type 0h.
const GENERIC: &[(u8, &str)] = &[
    (0x00, "Successful Completion"),
    (0x01, "Invalid Command Opcode"),
    (0x02, "Invalid Field in Command"),
    (0x03, "Command ID Conflict"),
    (0x04, "Data Transfer Error"),
    (0x05, "Commands Aborted due to Power Loss Notification"),
    (0x06, "Internal Error"),
    (0x07, "Command Abort Requested"),
    (0x08, "Command Aborted due to SQ Deletion"),
    (0x09, "Command Aborted due to Failed Fused Command"),
    (0x0a, "Command Aborted due to Missing Fused Command"),
    (0x0b, "Invalid Namespace or Format"),
    (0x0c, "Command Sequence Error"),
    (0x0d, "Invalid SGL Segment Descriptor"),
    (0x0e, "Invalid Number of SGL Descriptors"),
    (0x0f, "Data SGL Length Invalid"),
    (0x10, "Metadata SGL Length Invalid"),
    (0x11, "SGL Descriptor Type Invalid"),
    (0x12, "Invalid Use of Controller Memory Buffer"),
    (0x13, "PRP Offset Invalid"),
    (0x14, "Atomic Write Unit Exceeded"),
    (0x15, "Operation Denied"),
    (0x16, "SGL Offset Invalid"),
    (0x18, "Host Identifier Inconsistent Format"),
    (0x19, "Keep Alive Timer Expired"),
    (0x1a, "Keep Alive Timeout Invalid"),
    (0x1b, "Command Aborted due to Preempt and Abort"),
    (0x1c, "Sanitize Failed"),
    (0x1d, "Sanitize In Progress"),
    (0x1e, "SGL Data Block Granularity Invalid"),
    (0x1f, "Command Not Supported for Queue in CMB"),
    (0x20, "Namespace is Write Protected"),
    (0x21, "Command Interrupted"),
    (0x22, "Transient Transport Error"),
    (0x23, "Command Prohibited by Command and Feature Lockdown"),
    (0x24, "Admin Command Media Not Ready"),
    (0x29, "FDP Disabled"),
    (0x2a, "Invalid Placement Handle List"),
    (0x80, "LBA Out of Range"),
    (0x81, "Capacity Exceeded"),
    (0x82, "Namespace Not Ready"),
    (0x83, "Reservation Conflict"),
    (0x84, "Format In Progress"),
    (0x85, "Invalid Value Size"),
    (0x86, "Invalid Key Size"),
    (0x87, "KV Key Does Not Exist"),
    (0x88, "Unrecovered Error"),
    (0x89, "Key Exists"),
];

/// Status code type 1h; from 80h those of the NVM and the zoned command set.
const COMMAND_SPECIFIC: &[(u8, &str)] = &[
    (0x00, "Completion Queue Invalid"),
    (0x01, "Invalid Queue Identifier"),
    (0x02, "Invalid Queue Size"),
    (0x03, "Abort Command Limit Exceeded"),
    (0x05, "Asynchronous Event Request Limit Exceeded"),
    (0x06, "Invalid Firmware Slot"),
    (0x07, "Invalid Firmware Image"),
    (0x08, "Invalid Interrupt Vector"),
    (0x09, "Invalid Log Page"),
    (0x0a, "Invalid Format"),
    (0x0b, "Firmware Activation Requires Conventional Reset"),
    (0x0c, "Invalid Queue Deletion"),
    (0x0d, "Feature Identifier Not Saveable"),
    (0x0e, "Feature Not Changeable"),
    (0x0f, "Feature Not Namespace Specific"),
    (0x10, "Firmware Activation Requires NVM Subsystem Reset"),
    (0x11, "Firmware Activation Requires Controller Level Reset"),
    (0x12, "Firmware Activation Requires Maximum Time Violation"),
    (0x13, "Firmware Activation Prohibited"),
    (0x14, "Overlapping Range"),
    (0x15, "Namespace Insufficient Capacity"),
    (0x16, "Namespace Identifier Unavailable"),
    (0x18, "Namespace Already Attached"),
    (0x19, "Namespace Is Private"),
    (0x1a, "Namespace Not Attached"),
    (0x1b, "Thin Provisioning Not Supported"),
    (0x1c, "Controller List Invalid"),
    (0x1d, "Device Self-test In Progress"),
    (0x1e, "Boot Partition Write Prohibited"),
    (0x1f, "Invalid Controller Identifier"),
    (0x20, "Invalid Secondary Controller State"),
    (0x21, "Invalid Number of Controller Resources"),
    (0x22, "Invalid Resource Identifier"),
    (0x23, "Sanitize Prohibited While Persistent Memory Region is Enabled"),
    (0x24, "ANA Group Identifier Invalid"),
    (0x25, "ANA Attach Failed"),
    (0x26, "Insufficient Capacity"),
    (0x27, "Namespace Attachment Limit Exceeded"),
    (0x28, "Prohibition of Command Execution Not Supported"),
    (0x29, "I/O Command Set Not Supported"),
    (0x2a, "I/O Command Set Not Enabled"),
    (0x2b, "I/O Command Set Combination Rejected"),
    (0x2c, "Invalid I/O Command Set"),
    (0x2d, "Identifier Unavailable"),
    (0x80, "Conflicting Attributes"),
    (0x81, "Invalid Protection Information"),
    (0x82, "Attempted Write to Read Only Range"),
    (0x83, "Command Size Limit Exceeded"),
    (0xb8, "Zoned Boundary Error"),
    (0xb9, "Zone Is Full"),
    (0xba, "Zone Is Read Only"),
    (0xbb, "Zone Is Offline"),
    (0xbc, "Zone Invalid Write"),
    (0xbd, "Too Many Active Zones"),
    (0xbe, "Too Many Open Zones"),
    (0xbf, "Invalid Zone State Transition"),
];

/// Status code type 2h.
const MEDIA: &[(u8, &str)] = &[
    (0x80, "Write Fault"),
    (0x81, "Unrecovered Read Error"),
    (0x82, "End-to-end Guard Check Error"),
    (0x83, "End-to-end Application Tag Check Error"),
    (0x84, "End-to-end Reference Tag Check Error"),
    (0x85, "Compare Failure"),
    (0x86, "Access Denied"),
    (0x87, "Deallocated or Unwritten Logical Block"),
    (0x88, "End-to-End Storage Tag Check Error"),
];

/// Status code type 3h.
const PATH: &[(u8, &str)] = &[
    (0x00, "Internal Path Error"),
    (0x01, "Asymmetric Access Persistent Loss"),
    (0x02, "Asymmetric Access Inaccessible"),
    (0x03, "Asymmetric Access Transition"),
    (0x60, "Controller Pathing Error"),
    (0x70, "Host Pathing Error"),
    (0x71, "Command Aborted By Host"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_in_order_and_names_a_code_once() {
        for table in [GENERIC, COMMAND_SPECIFIC, MEDIA, PATH] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }
}
