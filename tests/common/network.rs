//! Machines with a network between them that can be cut, slow and lossy: a network namespace for each, and
//! a hub in this process that carries frames from one to the others. Nothing of it has a name in the system:
//! a namespace lives as long as the process that holds it, which dies with this one, and so does its card.
//! So nothing stays behind, however a test ends.
//!
//! The kernel needs no more than namespaces and `/dev/net/tun`: delay and loss are the hub's, by a seed.

#![allow(unsafe_code, reason = "a network card of our own comes by an ioctl")]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fio_spdk::base::clock::Clock;
use fio_spdk::base::random;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const TUN: &str = "/dev/net/tun";
/// How soon its threads see that the hub is to end.
const TICK: Duration = Duration::from_millis(20);
/// Ethernet's, with room.
const FRAME_BYTES: usize = 2048;

/// Where one machine is plugged in.
struct Port {
    card: File,
    /// Whether what the machine sends goes anywhere, and whether anything gets to it.
    sends: AtomicBool,
    receives: AtomicBool,
    /// Frames, and when they are due.
    out: Sender<(u64, Vec<u8>)>,
}

/// What all ports have in common.
struct Hub {
    clock: Clock,
    ports: Mutex<Vec<Arc<Port>>>,
    /// One way.
    delay_ns: AtomicU64,
    /// Of a thousand frames.
    loss: AtomicU64,
    seed: u64,
    frames: AtomicU64,
    lost: AtomicU64,
    over: AtomicBool,
}

/// A network, as long as it is needed.
pub struct Network {
    hub: Arc<Hub>,
    threads: Vec<JoinHandle<()>>,
    machines: u8,
}

/// A namespace with a card on the network.
pub struct Machine {
    /// Its IPv4 address.
    pub address: String,
    holder: Child,
    port: Arc<Port>,
}

/// Why there can be no network here.
pub fn why_not() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if !Path::new(TUN).exists() {
        return Some(format!("no {TUN}"));
    }
    for program in ["ip", "nsenter", "setpriv", "unshare"] {
        let found = |place: &&str| Path::new(place).join(program).exists();
        if !["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(found) {
            return Some(format!("no {program}"));
        }
    }
    // A container can have a root that may not.
    Network::new(0).plug().err()
}

impl Network {
    /// An empty one; `seed` says which frames are lost, once some are to be.
    pub fn new(seed: u64) -> Network {
        let hub = Hub {
            clock: Clock::get(),
            ports: Mutex::default(),
            delay_ns: AtomicU64::new(0),
            loss: AtomicU64::new(0),
            seed,
            frames: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            over: AtomicBool::new(false),
        };
        Network { hub: Arc::new(hub), threads: Vec::new(), machines: 0 }
    }

    /// One more machine.
    pub fn machine(&mut self) -> Machine {
        self.plug().expect("a machine")
    }

    /// From now on each frame takes so long, and so many of a thousand get lost.
    pub fn weather(&self, delay: Duration, loss: u64) {
        self.hub.delay_ns.store(u64::try_from(delay.as_nanos()).expect("a short time"), Relaxed);
        self.hub.loss.store(loss, Relaxed);
    }

    /// How many frames were lost to the weather.
    pub fn lost(&self) -> u64 {
        self.hub.lost.load(Relaxed)
    }

    fn plug(&mut self) -> Result<Machine, String> {
        let holder = hold()?;
        let mut holder = Guard(Some(holder));
        let process = holder.id();
        let (card, name) = card()?;
        self.machines += 1;
        let address = format!("10.77.0.{}", self.machines);
        command("ip", &["link", "set", &name, "netns", &process])?;
        let within = |arguments: &str| {
            let namespace = format!("--net=/proc/{process}/ns/net");
            let mut all = vec![namespace.as_str(), "ip"];
            all.extend(arguments.split(' '));
            command("nsenter", &all)
        };
        within("link set lo up")?;
        within(&format!("link set {name} name eth0"))?;
        within(&format!("addr add {address}/24 dev eth0"))?;
        within("link set eth0 up")?;
        let (out, queue) = channel();
        let (sends, receives) = (AtomicBool::new(true), AtomicBool::new(true));
        let port = Arc::new(Port { card, sends, receives, out });
        self.hub.ports.lock().expect("no thread panics").push(Arc::clone(&port));
        let (hub, from) = (Arc::clone(&self.hub), Arc::clone(&port));
        self.threads.push(thread::spawn(move || hub.carry(&from)));
        let (hub, to) = (Arc::clone(&self.hub), Arc::clone(&port));
        self.threads.push(thread::spawn(move || hub.deliver(&to, &queue)));
        Ok(Machine { address, holder: holder.0.take().expect("it was there"), port })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.hub.over.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Hub {
    /// Takes what a machine sends to the queues of all others; who it is not for drops it.
    fn carry(&self, from: &Arc<Port>) {
        let wait = Timespec::try_from(TICK).expect("a short time");
        let mut frame = [0; FRAME_BYTES];
        while !self.over.load(Relaxed) {
            let mut fds = [PollFd::new(&from.card, PollFlags::IN)];
            if !matches!(poll(&mut fds, Some(&wait)), Ok(1..)) {
                continue;
            }
            let Ok(length) = (&from.card).read(&mut frame) else {
                // The machine is gone, and its card with it.
                thread::sleep(TICK);
                continue;
            };
            let number = self.frames.fetch_add(1, Relaxed);
            if !from.sends.load(Relaxed) {
                continue;
            }
            if random::below(random::at(self.seed, number), 1000) < self.loss.load(Relaxed) {
                self.lost.fetch_add(1, Relaxed);
                continue;
            }
            let due = self.clock.now_ns() + self.delay_ns.load(Relaxed);
            for port in self.ports.lock().expect("no thread panics").iter() {
                if !Arc::ptr_eq(port, from) {
                    let _ = port.out.send((due, frame[..length].to_vec()));
                }
            }
        }
    }

    fn deliver(&self, to: &Port, queue: &Receiver<(u64, Vec<u8>)>) {
        while !self.over.load(Relaxed) {
            let (due, frame) = match queue.recv_timeout(TICK) {
                Ok(next) => next,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            thread::sleep(Duration::from_nanos(due.saturating_sub(self.clock.now_ns())));
            if to.receives.load(Relaxed) {
                // A machine that has gone takes nothing.
                let _ = (&to.card).write(&frame);
            }
        }
    }
}

impl Machine {
    /// A program of it, which dies with the thread that starts it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter"]);
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg(program);
        command
    }

    /// Pulls its cable, as far away from it as can be: it does not notice.
    pub fn cut(&self) {
        self.cut_sending();
        self.port.receives.store(false, Relaxed);
    }

    /// Nothing that it sends gets anywhere any more; what others send still arrives.
    pub fn cut_sending(&self) {
        self.port.sends.store(false, Relaxed);
    }

    /// Mends it all.
    pub fn mend(&self) {
        self.port.sends.store(true, Relaxed);
        self.port.receives.store(true, Relaxed);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.holder);
    }
}

/// A holder that is ended if it is not taken.
struct Guard(Option<Child>);

impl Guard {
    fn id(&self) -> String {
        self.0.as_ref().map(Child::id).unwrap_or_default().to_string()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// A process that is there for its namespace.
fn hold() -> Result<Child, String> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]);
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = silent.spawn().map_err(|why| format!("setpriv: {why}"))?;
    let name = format!("/proc/{}/comm", child.id());
    for _ in 0..1000 {
        if std::fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep") {
            return Ok(child);
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("unshare --net: {status}"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    end(&mut child);
    Err("no namespace in 10 s".to_owned())
}

/// A network card whose cable is the file.
fn card() -> Result<(File, String), String> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("a small flag");
    let file = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(TUN);
    let file = file.map_err(|why| format!("{TUN}: {why}"))?;
    // A name that the kernel completes, and what it is: frames, with nothing before them.
    let mut request = [0_u8; size_of::<libc::ifreq>()];
    request[..9].copy_from_slice(b"fiorig%d\0");
    let flags = u16::try_from(libc::IFF_TAP | libc::IFF_NO_PI).expect("small flags");
    #[expect(clippy::host_endian_bytes, reason = "the kernel of this machine reads it")]
    request[libc::IFNAMSIZ..libc::IFNAMSIZ + 2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the descriptor is open, and the request as large as the kernel's, which writes into nothing else.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) };
    if done != 0 {
        return Err(format!("{TUN}: {}", std::io::Error::last_os_error()));
    }
    let name = request.iter().take_while(|&&byte| byte != 0).map(|&byte| char::from(byte));
    Ok((file, name.collect()))
}

fn command(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|why| format!("{program}: {why}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
