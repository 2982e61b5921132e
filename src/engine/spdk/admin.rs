//! Admin commands through SPDK.

use spdk_sys::{AdminCommand, AdminError, Controller, Direction};

use crate::base::Status;
use crate::base::nvme::{Admin, uuid_of};

/// How long an admin command may take.
const TIMEOUT_US: u64 = 5_000_000;
const GET_LOG_PAGE: u8 = 0x02;
const IDENTIFY: u8 = 0x06;
const SET_FEATURES: u8 = 0x09;
const GET_FEATURES: u8 = 0x0a;

/// The admin queue of an attached controller.
pub(super) struct Channel<'a>(pub(super) &'a Controller);

impl Channel<'_> {
    fn run(&self, command: &AdminCommand, data: Direction<'_>) -> Result<u32, String> {
        self.0.admin(command, data, TIMEOUT_US).map_err(|error| match error {
            AdminError::Errno(errno) => Status::from_errno(errno).to_string(),
            AdminError::Status(field) => {
                Status::from_nvme((field >> 8) as u8 & 7, field as u8, field & 0x4000 != 0).to_string()
            }
        })
    }
}

impl Channel<'_> {
    /// The UUID of a namespace, from its identification descriptors (Identify, CNS 03h); `None` where it
    /// has none, or the controller does not know of such things (before NVMe 1.3).
    pub(super) fn namespace_uuid(&self, nsid: u32) -> Option<[u8; 16]> {
        let mut list = vec![0; 4096];
        let cdw = [3, 0, 0, 0, 0, 0];
        self.run(&AdminCommand { opcode: IDENTIFY, nsid, cdw }, Direction::From(&mut list)).ok()?;
        uuid_of(&list)
    }

    /// Ranges of a deallocate at most (DMRL), from what the controller says of the NVM command set
    /// (Identify, CNS 06h); `None` where it knows no limit of its own, or of no such thing (before 2.0).
    pub(super) fn most_ranges(&self) -> Option<u8> {
        let mut data = vec![0; 4096];
        let cdw = [6, 0, 0, 0, 0, 0];
        self.run(&AdminCommand { opcode: IDENTIFY, nsid: 0, cdw }, Direction::From(&mut data)).ok()?;
        Some(data[3]).filter(|&most| most > 0)
    }
}

impl Admin for Channel<'_> {
    fn identify_controller(&self) -> Result<[u8; 4096], String> {
        Ok(*self.0.identify())
    }

    fn identify_namespace(&self, nsid: u32) -> Result<[u8; 4096], String> {
        let data = self.0.identify_namespace(nsid);
        data.map(|data| *data).ok_or_else(|| format!("there is no active namespace {nsid}"))
    }

    fn log_page(&self, id: u8, nsid: u32, into: &mut [u8]) -> Result<(), String> {
        let dwords = u32::try_from(into.len() / 4).unwrap_or(u32::MAX).saturating_sub(1);
        // NUMDL in bits 16 to 31 of dword 10, NUMDU in bits 0 to 15 of dword 11 (NVMe Base 2.0, 5.16).
        let cdw = [u32::from(id) | (dwords & 0xffff) << 16, dwords >> 16, 0, 0, 0, 0];
        self.run(&AdminCommand { opcode: GET_LOG_PAGE, nsid, cdw }, Direction::From(into)).map(|_| ())
    }

    fn get_feature(&self, id: u8) -> Result<u32, String> {
        let cdw = [u32::from(id), 0, 0, 0, 0, 0];
        self.run(&AdminCommand { opcode: GET_FEATURES, nsid: 0, cdw }, Direction::None)
    }

    fn set_feature(&self, id: u8, value: u32) -> Result<(), String> {
        let cdw = [u32::from(id), value, 0, 0, 0, 0];
        self.run(&AdminCommand { opcode: SET_FEATURES, nsid: 0, cdw }, Direction::None).map(|_| ())
    }
}
