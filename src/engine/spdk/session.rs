//! SPDK in this process: started once, the controllers that are attached, and the thread that polls
//! what is no I/O: admin completions, events, keep-alives, and whether the controllers are alive.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use spdk_sys::bindings::{self, fs_ctrlr_options};
use spdk_sys::{Controller, Environment};

use crate::base::Status;
use crate::base::host::affinity;
use crate::base::nvme::ControllerFacts;
use crate::base::spdk::{Digest, IovaMode, Priority, SpdkOptions, TimeoutAction};
use crate::base::transport_id::{Transport, TransportId};
use crate::engine::EngineError;

use super::{events, leftovers};

/// How often admin queues are polled: seldom, as each time may take a processor from a reactor.
const TICK: Duration = Duration::from_millis(50);
/// Ticks between two looks at a controller's registers.
const LOOK_EVERY: u32 = 2;
/// CSTS of a controller that is not there any more.
const NOBODY: u32 = u32::MAX;
/// CSTS.CFS (NVMe Base 2.0, 3.1.3.6).
const FATAL: u32 = 2;
/// What is taken at once for vfio-user. A target maps 16 pieces of memory at most, and while SPDK tells it of
/// a new one, nobody else may talk to it (24.01 has no lock there): memory had better not grow.
const VFIO_USER_MB: u32 = 256;
/// Lines of SPDK's log that an error quotes at most.
const MOST_LINES: usize = 6;

/// Why a controller is given up; [`Held::replaced`] has the sentence that ends the run.
const REPLACED: &str = "another drive is at this address; the controller is given up";

/// An attached controller.
pub(super) struct Held {
    pub(super) controller: Arc<Controller>,
    /// Its transport id, without a namespace.
    id: String,
    /// Model and serial number when it was attached.
    drive: String,
    /// What it was attached with.
    options: SpdkOptions,
    /// It writes to memory by itself.
    reaches_memory: bool,
    /// Engines that use it.
    users: AtomicUsize,
    gone: AtomicBool,
    /// A queue pair of it has died.
    has_lost: AtomicBool,
    timeouts_told: AtomicU64,
    notes: Mutex<Vec<String>>,
    /// Held by whoever looks after it.
    tending: Mutex<()>,
}

impl Held {
    /// Whether it has been given up, for whatever reason.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// What has happened since the last call.
    pub(super) fn take_notes(&self) -> Vec<String> {
        // A job may end before the admin thread looks.
        self.tend(true);
        let health = self.controller.health();
        let before = self.timeouts_told.swap(health.timeouts, Ordering::AcqRel);
        let mut notes = std::mem::take(&mut *lock(&self.notes));
        if health.timeouts > before {
            let aborted = match (health.aborts, health.failed_aborts) {
                (0, 0) => String::new(),
                (done, failed) => format!("; {done} were aborted, {failed} could not be"),
            };
            notes.push(format!(
                "{}: {} commands took longer than command_timeout{aborted}",
                self.id,
                health.timeouts - before
            ));
        }
        notes
    }

    /// One of its queue pairs has died: told once, and what the controller says from now on is no
    /// measure of the run.
    #[cold]
    pub(super) fn lost_queue(&self) {
        if !self.has_lost.swap(true, Ordering::AcqRel) {
            self.note(
                "a queue pair has died: the controller does not answer any more, or the connection ended",
            );
        }
    }

    /// Why it is not the drive that was attached any more: a sentence.
    pub(super) fn replaced(&self) -> Option<String> {
        if !self.controller.health().replaced {
            return None;
        }
        let now = drive_of(&self.controller);
        let there = if now == self.drive {
            "another namespace of the same drive is there now".to_owned()
        } else {
            format!("`{now}` is there now")
        };
        Some(format!(
            "{}: another drive was at this address after a reset of the controller: the one of model and serial \
             number `{}` was checked, and {there}; nothing was sent to it",
            self.id, self.drive
        ))
    }

    /// Whether it can still be asked.
    pub(super) fn answers(&self) -> bool {
        !self.is_gone() && !self.has_lost.load(Ordering::Acquire) && !self.controller.health().failed
    }

    fn note(&self, text: &str) {
        lock(&self.notes).push(format!("{}: {text}", self.id));
    }

    fn give_up(&self, why: &str) {
        if !self.gone.swap(true, Ordering::AcqRel) {
            self.note(why);
            if self.reaches_memory {
                TAINTED.store(true, Ordering::Release);
            }
            // From here on its queues say that they are dead: until then they would poll for ever.
            self.controller.fail();
        }
    }

    /// A turn of the admin thread.
    fn tend(&self, looks: bool) {
        // Whoever comes second while it is reset waits.
        let _one = lock(&self.tending);
        if self.is_gone() {
            return;
        }
        if let Err(errno) = self.controller.poll() {
            let status = Status::from_errno(errno);
            self.give_up(&format!("the controller does not answer any more ({status}); it is given up"));
            return;
        }
        for event in self.controller.events() {
            self.note(&events::describe(event));
        }
        if looks {
            self.look();
        }
    }

    fn look(&self) {
        let health = self.controller.health();
        let resets = self.options.timeout_action == TimeoutAction::Reset;
        if health.replaced {
            self.give_up(REPLACED);
        } else if health.csts == NOBODY {
            self.give_up("the controller is gone (its registers read as ones)");
        } else if health.failed {
            self.give_up("the controller does not answer any more; it is given up");
        } else if health.csts & FATAL != 0 && !resets {
            self.give_up("the controller reports a fatal status (CSTS.CFS); it is given up");
        } else if health.csts & FATAL != 0 {
            self.reset("the controller reports a fatal status (CSTS.CFS)");
        } else if health.wants_reset {
            self.reset("a command took longer than command_timeout");
        } else if health.wants_fail {
            self.give_up("a command took longer than command_timeout; the controller is given up");
        }
    }

    fn reset(&self, why: &str) {
        match self.controller.reset() {
            Ok(()) => self.note(&format!("{why}: the controller was reset, and what was in flight is lost")),
            // Somebody is at it.
            Err(libc::EBUSY) => {}
            Err(libc::ESTALE) => self.give_up(REPLACED),
            Err(errno) => {
                let status = Status::from_errno(errno);
                self.give_up(&format!("{why}: the reset failed ({status}); the controller is given up"));
            }
        }
    }
}

/// An engine's share in a controller.
pub(super) struct Lease(pub(super) Arc<Held>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Session {
    controllers: Mutex<Vec<Arc<Held>>>,
}

static SESSION: OnceLock<Result<Session, String>> = OnceLock::new();
/// The thread of the admin queues, and the wish that it ends SPDK.
static THREAD: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);
static STOP: AtomicBool = AtomicBool::new(false);
/// A controller has been left behind attached.
static LEFT: AtomicBool = AtomicBool::new(false);
/// A controller has been given up: it may still write to memory.
static TAINTED: AtomicBool = AtomicBool::new(false);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether memory that devices had may be used again.
pub(super) fn may_free() -> bool {
    !TAINTED.load(Ordering::Acquire)
}

/// The controller of `id`: attached now, unless it is already.
pub(super) fn lease(id: &TransportId, options: &SpdkOptions) -> Result<Lease, EngineError> {
    let session = SESSION.get_or_init(|| start(id, options));
    let session = session.as_ref().map_err(EngineError::new)?;
    let name = id.controller();
    let wanted = controller_part(options);
    let mut controllers = lock(&session.controllers);
    if let Some(at) = controllers.iter().position(|held| held.id == name) {
        let held = &controllers[at];
        let same = held.options == wanted && held.answers();
        if !same && held.users.load(Ordering::Acquire) > 0 {
            return Err(EngineError::new(format!(
                "{name} is in use with other options: jobs that run together on one controller say the same of \
                 it (queues of the controller, arbitration, digests, hostnqn, timeouts)"
            )));
        }
        if same {
            held.users.fetch_add(1, Ordering::AcqRel);
            return Ok(Lease(Arc::clone(held)));
        }
        drop(controllers.remove(at));
    }
    let held = Arc::new(attach(id, name, wanted)?);
    controllers.push(Arc::clone(&held));
    Ok(Lease(held))
}

fn attach(id: &TransportId, name: String, options: SpdkOptions) -> Result<Held, EngineError> {
    drop(spdk_sys::take_log());
    let hostnqn = options.hostnqn.as_deref().map(CString::new).transpose();
    let hostnqn = hostnqn.map_err(|_| EngineError::new("hostnqn has a NUL in it"))?;
    let raw = raw_options(&options, hostnqn.as_ref());
    let controller = Controller::attach(&name, &raw).map_err(|errno| {
        let what = match errno {
            libc::EINVAL => "SPDK does not take this transport id",
            _ => "there is no such controller, or it does not come up",
        };
        EngineError {
            message: format!("cannot attach {name}: {what}{}{}", said(), advice(id)),
            errno: None,
            is_unsafe: false,
        }
    })?;
    Ok(Held {
        drive: drive_of(&controller),
        controller: Arc::new(controller),
        id: name,
        options,
        reaches_memory: !id.trtype.is_fabric(),
        users: AtomicUsize::new(1),
        gone: AtomicBool::new(false),
        has_lost: AtomicBool::new(false),
        timeouts_told: AtomicU64::new(0),
        notes: Mutex::default(),
        tending: Mutex::default(),
    })
}

/// Model and serial number, as the controller says them.
fn drive_of(controller: &Controller) -> String {
    let facts = ControllerFacts::parse(&*controller.identify());
    format!("{} {}", facts.model, facts.serial).trim().to_owned()
}

/// What SPDK has logged, for the end of a sentence.
pub(super) fn said() -> String {
    let log = spdk_sys::take_log();
    let mut seen = BTreeSet::new();
    let lines = log.lines().map(str::trim).filter(|line| !line.is_empty() && seen.insert(line.to_owned()));
    let lines: Vec<&str> = lines.take(MOST_LINES).collect();
    if lines.is_empty() { String::new() } else { format!(" (SPDK: {})", lines.join("; ")) }
}

fn advice(id: &TransportId) -> String {
    match id.trtype {
        Transport::Pcie => format!(
            "\n  `fio-spdk devices` lists controllers; `sudo fio-spdk devices bind {}` gives one to user space",
            id.traddr
        ),
        Transport::VfioUser => {
            "\n  traddr is the directory of the emulated controller's socket `cntrl`; vfio-user needs \
             hugepages in one file (mem_single_seg, set by itself unless SPDK was started without)"
                .to_owned()
        }
        Transport::Tcp | Transport::Rdma => {
            "\n  is the target listening there, with this subnqn, and may this host connect?".to_owned()
        }
    }
}

/// Starts SPDK on a thread of its own, that then polls the admin queues until the process ends.
fn start(first: &TransportId, options: &SpdkOptions) -> Result<Session, String> {
    let usable = affinity::available()?;
    let core = match options.admin_cpu {
        Some(cpu) if !usable.contains(&cpu) => {
            return Err(format!("admin_cpu {cpu} is none that this process may use ({usable:?})"));
        }
        Some(cpu) => cpu,
        None => usable.first().copied().unwrap_or(0),
    };
    let no_huge = first.trtype == Transport::Tcp && free_hugepages_mb() == 0;
    let vfio_user = first.trtype == Transport::VfioUser;
    let environment = Environment {
        core,
        huge_dir: options.huge_dir.as_deref().and_then(|dir| CString::new(dir).ok()),
        iova_mode: options.iova_mode.map(|mode| match mode {
            IovaMode::Pa => c"pa".to_owned(),
            IovaMode::Va => c"va".to_owned(),
        }),
        mem_size_mb: options
            .mem_size_mb
            .or((vfio_user && free_hugepages_mb() >= VFIO_USER_MB).then_some(VFIO_USER_MB)),
        single_segment: options.mem_single_seg || vfio_user,
        no_huge,
        no_pci: !std::path::Path::new("/sys/bus/pci/devices").exists(),
    };
    let pinned = options.admin_cpu.is_some();
    leftovers::remove();
    let (answer, started) = mpsc::channel();
    let thread = std::thread::Builder::new().name("spdk-admin".to_owned());
    let spawned = thread.spawn(move || {
        let result = environment.init();
        if !pinned {
            Environment::unaffinitize();
            let _ = affinity::bind(&usable);
        }
        let failed = result.is_err();
        let _ = answer.send(result);
        if !failed {
            tend_all();
            // SAFETY: the thread is stopped when controllers, queues and memory have been given back.
            unsafe { Environment::fini() }
        }
    });
    let spawned = spawned.map_err(|error| format!("cannot start a thread: {error}"))?;
    *lock(&THREAD) = Some(spawned);
    match started.recv() {
        Ok(Ok(())) => check_version().map(|()| Session { controllers: Mutex::default() }),
        Ok(Err(errno)) => Err(format!(
            "cannot start SPDK: {}{}\n  it needs root, and hugepages on a mounted hugetlbfs (now: {}): \
             `sudo fio-spdk devices bind` reserves them, or `echo 1024 > /proc/sys/vm/nr_hugepages`",
            std::io::Error::from_raw_os_error(errno),
            said(),
            hugepages()
        )),
        Err(_) => Err("the thread that starts SPDK has died".to_owned()),
    }
}

/// Headers of one version link silently against libraries of another.
fn check_version() -> Result<(), String> {
    let (compiled, running) = (spdk_sys::version(), spdk_sys::version_running());
    if running.is_empty() || running.contains(compiled) {
        return Ok(());
    }
    Err(format!(
        "this program was compiled for {compiled}, and what it is linked with says `{running}`: build it again, \
         with the headers and libraries of one SPDK (PKG_CONFIG_PATH)"
    ))
}

fn tend_all() {
    let mut tick = 0_u32;
    while !STOP.load(Ordering::Acquire) {
        std::thread::sleep(TICK);
        tick = tick.wrapping_add(1);
        let Some(Ok(session)) = SESSION.get() else { continue };
        let controllers: Vec<Arc<Held>> = lock(&session.controllers).clone();
        for held in controllers {
            held.tend(tick.is_multiple_of(LOOK_EVERY));
        }
    }
}

/// Lets go of all controllers. With `quietly`, or while somebody still uses them, without telling them:
/// a shutdown notification makes a drive store what it has in its cache, and after a trigger that would
/// be a lie about the cut.
pub fn shut_down(quietly: bool) {
    let Some(Ok(session)) = SESSION.get() else { return };
    for held in lock(&session.controllers).drain(..) {
        if quietly || held.users.load(Ordering::Acquire) > 0 {
            LEFT.store(true, Ordering::Release);
            std::mem::forget(held);
        }
    }
}

/// The process ends: SPDK gives back what it has of the machine.
pub fn finish() {
    let Some(Ok(session)) = SESSION.get() else { return };
    leftovers::remove_own();
    let in_use = LEFT.load(Ordering::Acquire) || !may_free() || !lock(&session.controllers).is_empty();
    if in_use {
        // The kernel takes it all back.
        return;
    }
    STOP.store(true, Ordering::Release);
    if let Some(thread) = lock(&THREAD).take() {
        let _ = thread.join();
    }
}

/// What a controller is attached with; the rest is said of each queue.
fn controller_part(options: &SpdkOptions) -> SpdkOptions {
    SpdkOptions {
        io_queue_size: None,
        io_queue_requests: None,
        delay_cmd_submit: true,
        wrr_priority: Priority::default(),
        volatile_write_cache: None,
        write_mode: crate::base::spdk::WriteMode::default(),
        readfua: false,
        pi_act: false,
        pi_chk: crate::base::spdk::PiCheck::default(),
        apptag: 0,
        apptag_mask: 0,
        ..options.clone()
    }
}

fn raw_options(options: &SpdkOptions, hostnqn: Option<&CString>) -> fs_ctrlr_options {
    let digest = |kinds: &[Digest]| kinds.contains(&options.digest_enable);
    let weight = |weight: u16| u8::try_from(weight.saturating_sub(1)).unwrap_or(u8::MAX);
    fs_ctrlr_options {
        hostnqn: hostnqn.map_or(std::ptr::null(), |text| text.as_ptr()),
        num_io_queues: options.num_io_queues.unwrap_or(0),
        keep_alive_timeout_ms: u32::try_from(options.keep_alive_timeout_ns / 1_000_000).unwrap_or(u32::MAX),
        command_timeout_us: options.command_timeout_ns.div_ceil(1000),
        timeout_action: match options.timeout_action {
            TimeoutAction::None => bindings::FS_TIMEOUT_NONE,
            TimeoutAction::Abort => bindings::FS_TIMEOUT_ABORT,
            TimeoutAction::Reset => bindings::FS_TIMEOUT_RESET,
            TimeoutAction::Fail => bindings::FS_TIMEOUT_FAIL,
        },
        use_cmb_sqs: options.use_cmb_sqs,
        enable_wrr: options.enable_wrr,
        arbitration_burst: options.arbitration_burst,
        low_weight: weight(options.low_weight),
        medium_weight: weight(options.medium_weight),
        high_weight: weight(options.high_weight),
        header_digest: digest(&[Digest::Header, Digest::Both]),
        data_digest: digest(&[Digest::Data, Digest::Both]),
    }
}

/// Free memory in hugepages of the default size.
fn free_hugepages_mb() -> u32 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let number = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u32>().ok()
    };
    let (pages, kib) = (number("HugePages_Free:").unwrap_or(0), number("Hugepagesize:").unwrap_or(0));
    pages.saturating_mul(kib) / 1024
}

/// What the kernel says of them, for an error.
fn hugepages() -> String {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let lines =
        text.lines().filter(|line| line.starts_with("HugePages_Total") || line.starts_with("HugePages_Free"));
    let words: Vec<String> =
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    words.join(", ")
}
