//! The words of the engine `spdk`: what jobs ask for, what the engine obeys. Names are those of fio's
//! SPDK plugin where it has the option.

/// What the job's writes are on the wire (fio's `write_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// Write.
    #[default]
    Write,
    /// Write Zeroes.
    Zeroes,
    /// Write Uncorrectable.
    Uncorrectable,
    /// Verify: the device reads and checks, nothing is transferred.
    Verify,
    /// Compare: the device compares with what a write would have stored.
    Compare,
}

/// The class of a queue under weighted round robin (fio's `wrr_priority`; NVMe Base 2.0, 3.4.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Served before all others.
    Urgent,
    /// The class of `high_weight`.
    High,
    /// The class of `medium_weight`.
    #[default]
    Medium,
    /// The class of `low_weight`.
    Low,
}

/// How physical memory is addressed (DPDK's IOVA modes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IovaMode {
    /// Physical addresses.
    Pa,
    /// Virtual addresses, through an IOMMU.
    Va,
}

/// CRC32C digests of NVMe/TCP (fio's `digest_enable`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digest {
    /// None.
    #[default]
    None,
    /// Of headers.
    Header,
    /// Of data.
    Data,
    /// Of both.
    Both,
}

/// What happens to a command that takes longer than `command_timeout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeoutAction {
    /// It is counted and told, nothing more.
    #[default]
    None,
    /// It is aborted.
    Abort,
    /// The controller is reset; what was in flight comes back as aborted.
    Reset,
    /// The controller is given up.
    Fail,
}

/// End-to-end protection information that is checked (fio's `pi_chk`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PiCheck {
    /// The guard tag.
    pub guard: bool,
    /// The reference tag.
    pub reference: bool,
    /// The application tag.
    pub application: bool,
}

/// What a job says to the engine `spdk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpdkOptions {
    /// `io_queue_size`: entries of a submission queue; `None` for SPDK's default.
    pub io_queue_size: Option<u32>,
    /// `io_queue_requests`: requests allocated a queue; `None` for what `iodepth` needs.
    pub io_queue_requests: Option<u32>,
    /// `num_io_queues`: queues asked of the controller; `None` for SPDK's default.
    pub num_io_queues: Option<u32>,
    /// `delay_cmd_submit`: one doorbell a batch instead of one a command.
    pub delay_cmd_submit: bool,
    /// `use_cmb_sqs`: submission queues in the controller memory buffer, where it has one.
    pub use_cmb_sqs: bool,
    /// `enable_wrr`: weighted round robin arbitration, where the controller has it.
    pub enable_wrr: bool,
    /// `arbitration_burst`: commands at a time, as a power of two; 7 for no limit.
    pub arbitration_burst: u8,
    /// `low_weight`: 1 to 256.
    pub low_weight: u16,
    /// `medium_weight`: 1 to 256.
    pub medium_weight: u16,
    /// `high_weight`: 1 to 256.
    pub high_weight: u16,
    /// `wrr_priority`: the class of this job's queues.
    pub wrr_priority: Priority,
    /// `mem_size_mb`: hugepage memory in MiB; `None` for as much as is needed.
    pub mem_size_mb: Option<u32>,
    /// `mem_single_seg`: hugepages in one file. vfio-user needs it.
    pub mem_single_seg: bool,
    /// `huge_dir`: the hugetlbfs mount, which decides the page size; `None` for any.
    pub huge_dir: Option<String>,
    /// `iova_mode`; `None` lets DPDK choose.
    pub iova_mode: Option<IovaMode>,
    /// `admin_cpu`: where admin completions, events and keep-alives are polled; `None` for any CPU.
    pub admin_cpu: Option<u32>,
    /// `hostnqn`: the host's NVMe qualified name, for fabrics; `None` for SPDK's own.
    pub hostnqn: Option<String>,
    /// `digest_enable`.
    pub digest_enable: Digest,
    /// `pi_act`: the controller inserts and strips protection information (PRACT), instead of the host.
    pub pi_act: bool,
    /// `pi_chk`: what of it the controller checks (PRCHK).
    pub pi_chk: PiCheck,
    /// `apptag`: the application tag.
    pub apptag: u16,
    /// `apptag_mask`: which of its bits are checked.
    pub apptag_mask: u16,
    /// `command_timeout` in nanoseconds; 0 for none.
    pub command_timeout_ns: u64,
    /// `timeout_action`.
    pub timeout_action: TimeoutAction,
    /// `keep_alive_timeout` in nanoseconds, for fabrics.
    pub keep_alive_timeout_ns: u64,
    /// `volatile_write_cache`: feature 06h during the job; `None` leaves it as it is.
    pub volatile_write_cache: Option<bool>,
    /// `write_mode`.
    pub write_mode: WriteMode,
    /// `readfua`: reads carry FUA.
    pub readfua: bool,
}

impl Default for SpdkOptions {
    fn default() -> SpdkOptions {
        SpdkOptions {
            io_queue_size: None,
            io_queue_requests: None,
            num_io_queues: None,
            delay_cmd_submit: true,
            use_cmb_sqs: false,
            enable_wrr: false,
            arbitration_burst: 0,
            low_weight: 1,
            medium_weight: 1,
            high_weight: 1,
            wrr_priority: Priority::default(),
            mem_size_mb: None,
            mem_single_seg: false,
            huge_dir: None,
            iova_mode: None,
            admin_cpu: None,
            hostnqn: None,
            digest_enable: Digest::default(),
            pi_act: false,
            pi_chk: PiCheck::default(),
            apptag: 0,
            apptag_mask: 0xffff,
            command_timeout_ns: 0,
            timeout_action: TimeoutAction::default(),
            keep_alive_timeout_ns: 10_000_000_000,
            volatile_write_cache: None,
            write_mode: WriteMode::default(),
            readfua: false,
        }
    }
}
