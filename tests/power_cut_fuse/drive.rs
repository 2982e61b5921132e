//! The model of a drive with a volatile write cache: what each command changes, what a power cut leaves,
//! and a log of all commands as they arrive. It knows nothing of the blocks that are written to it.
//!
//! * A command takes effect when it completes, so commands in flight have no order.
//! * A flush makes durable what had completed before it arrived. A write with FUA is durable when it completes.
//! * At a power cut each write that is not durable survives, vanishes, or is left in some of its atomic units; so
//!   is each write in flight. All commands fail until the power is back.
//! * Faults are drawn by the seed and the number of the command.

/// Bytes of a logical block.
pub const LBA: usize = 512;

/// A random number generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn one<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Read,
    Write,
    Trim,
    Flush,
}

/// What a drive can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A flush is acknowledged and makes nothing durable.
    LyingFlush,
    /// A write is acknowledged and dropped.
    Lost,
    /// Some logical blocks of an acknowledged write are dropped.
    TornBetweenLbas,
    /// An acknowledged write ends in the middle of a logical block.
    TornInLba,
    /// A write goes to another offset.
    Misplaced,
    /// What was there before a write comes back later.
    RolledBack,
    /// Zeros are stored.
    Blank,
    /// Ones are stored.
    Ones,
    /// One bit is stored wrong.
    BitFlip,
    /// The data are stored some bytes further on.
    Shifted,
    /// A write fails, and its data are stored later, over newer ones.
    LateWrite,
}

impl Fault {
    pub const ALL: [Fault; 11] = [
        Fault::LyingFlush,
        Fault::Lost,
        Fault::TornBetweenLbas,
        Fault::TornInLba,
        Fault::Misplaced,
        Fault::RolledBack,
        Fault::Blank,
        Fault::Ones,
        Fault::BitFlip,
        Fault::Shifted,
        Fault::LateWrite,
    ];
}

/// A command in the log.
#[derive(Clone, Debug)]
pub struct Command {
    pub op: Op,
    pub offset: usize,
    /// What a write stores; as many zeros as a trim has bytes.
    pub bytes: Box<[u8]>,
    /// Durable when it completes.
    pub fua: bool,
    /// The thread that issued it.
    pub thread: u32,
    /// How often the power had been cut when it arrived.
    pub power: u32,
    /// Time of the drive at which it arrived; the time counts events.
    pub arrived: u64,
    /// Time of the drive at which it completed, and whether with success.
    pub replied: Option<(u64, bool)>,
    key: u64,
}

/// Contents of a logical block.
#[derive(Clone, Debug)]
struct Version {
    stored: u64,
    /// Number of the command in the log, and the same for its parts.
    command: usize,
    bytes: Box<[u8]>,
    durable: bool,
}

/// Contents to be stored later.
#[derive(Debug)]
struct Later {
    command: usize,
    offset: usize,
    bytes: Box<[u8]>,
    /// Number of commands after which it is stored.
    due: usize,
}

/// What the drive is to do in one run.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub seed: u64,
    /// Bytes that are written whole or not at all.
    pub atomic: usize,
    /// Number of the command with which the power goes; the first is 1.
    pub cut_at: Option<usize>,
    /// The power comes back with the first read after a cut.
    pub power_returns: bool,
    /// A fault, and in how many of a thousand commands.
    pub fault: Option<(Fault, usize)>,
    /// Most commands that the run has in flight.
    pub depth: usize,
}

#[derive(Debug)]
pub struct Drive {
    versions: Vec<Vec<Version>>,
    later: Vec<Later>,
    pub log: Vec<Command>,
    /// Times at which as many commands were in flight as the run has at most: it has seen the end of all others.
    pub full: Vec<u64>,
    pub plan: Plan,
    pub has_power: bool,
    pub faults: usize,
    arrivals: usize,
    power: u32,
    time: u64,
}

impl Drive {
    pub fn new(bytes: usize) -> Drive {
        let zeros =
            || vec![Version { stored: 0, command: usize::MAX, bytes: vec![0; LBA].into(), durable: true }];
        Drive {
            versions: (0..bytes / LBA).map(|_| zeros()).collect(),
            later: Vec::new(),
            log: Vec::new(),
            full: Vec::new(),
            plan: Plan::default(),
            has_power: true,
            faults: 0,
            arrivals: 0,
            power: 0,
            time: 0,
        }
    }

    pub fn size(&self) -> usize {
        self.versions.len() * LBA
    }

    /// Begins a run; `forget` clears the log.
    pub fn begin(&mut self, plan: Plan, forget: bool) {
        if forget {
            self.log.clear();
            self.full.clear();
        }
        self.arrivals = 0;
        self.faults = 0;
        self.has_power = true;
        self.plan = plan;
    }

    fn now(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    /// Takes a command in: its number in the log, or `None` if it fails at once, with how many of those in flight
    /// fail too.
    pub fn arrive(
        &mut self,
        op: Op,
        offset: usize,
        bytes: &[u8],
        fua: bool,
        thread: u32,
    ) -> (usize, Arrival) {
        let arrived = self.now();
        if !self.has_power && op == Op::Read && self.plan.power_returns {
            self.has_power = true;
        }
        self.arrivals += 1;
        let key = Random(self.plan.seed ^ (self.arrivals as u64) << 20).next();
        let power = self.power;
        self.log.push(Command {
            op,
            offset,
            bytes: bytes.into(),
            fua,
            thread,
            power,
            arrived,
            replied: None,
            key,
        });
        let number = self.log.len() - 1;
        if !self.has_power {
            self.log[number].replied = Some((arrived, false));
            return (number, Arrival::Refused);
        }
        if self.plan.cut_at == Some(self.arrivals) {
            return (number, Arrival::PowerCut);
        }
        (number, Arrival::InFlight)
    }

    /// As many commands are in flight as there can be.
    pub fn is_full(&mut self) {
        let now = self.now();
        self.full.push(now);
    }

    /// Stores bytes as the newest contents.
    fn store(&mut self, command: usize, offset: usize, bytes: &[u8], durable: bool) {
        let stored = self.now();
        for (lba, part) in (offset / LBA..).zip(bytes.chunks(LBA)) {
            self.versions[lba].push(Version { stored, command, bytes: part.into(), durable });
        }
    }

    /// Carries a command out; whether with success.
    pub fn finish(&mut self, number: usize) -> bool {
        self.store_what_is_due();
        let command = self.log[number].clone();
        let mut random = Random(command.key);
        let drawn = self.plan.fault.filter(|&(_, rate)| random.below(1000) < rate).map(|(fault, _)| fault);
        let ok = match command.op {
            Op::Read => true,
            Op::Write => self.write(number, &command, drawn, &mut random),
            Op::Trim => {
                self.store(number, command.offset, &command.bytes, command.fua);
                true
            }
            Op::Flush if drawn == Some(Fault::LyingFlush) => {
                self.faults += 1;
                true
            }
            Op::Flush => {
                for version in self.versions.iter_mut().flatten() {
                    version.durable |= version.stored < command.arrived;
                }
                true
            }
        };
        let now = self.now();
        self.log[number].replied = Some((now, ok));
        ok
    }

    fn write(&mut self, number: usize, command: &Command, fault: Option<Fault>, random: &mut Random) -> bool {
        let Command { offset, ref bytes, fua, .. } = *command;
        let old = self.read(offset, bytes.len());
        let (mut stored, mut place) = (bytes.to_vec(), offset);
        self.faults += usize::from(fault.is_some_and(|fault| fault != Fault::LyingFlush));
        match fault {
            None | Some(Fault::LyingFlush) => {}
            Some(Fault::Lost) => return true,
            Some(Fault::TornBetweenLbas) => {
                for (new, old) in stored.chunks_mut(LBA).zip(old.chunks(LBA)) {
                    if random.below(2) == 0 {
                        new.copy_from_slice(old);
                    }
                }
            }
            Some(Fault::TornInLba) => {
                let end = random.below(bytes.len() / LBA) * LBA + 1 + random.below(LBA - 1);
                stored[end..].copy_from_slice(&old[end..]);
            }
            Some(Fault::Misplaced) => {
                let places = self.size() / bytes.len();
                place = random.below(places) * bytes.len() + offset % bytes.len();
                if place + bytes.len() > self.size() {
                    place = offset;
                }
            }
            Some(Fault::RolledBack) => {
                let due = self.arrivals + 1 + random.below(20);
                self.later.push(Later { command: number, offset, bytes: old.into(), due });
            }
            Some(Fault::Blank) => stored.fill(0),
            Some(Fault::Ones) => stored.fill(0xff),
            Some(Fault::BitFlip) => {
                let bit = random.below(bytes.len() * 8);
                stored[bit / 8] ^= 1 << (bit % 8);
            }
            Some(Fault::Shifted) => stored.rotate_right(1 + random.below(LBA - 1)),
            Some(Fault::LateWrite) => {
                let due = self.arrivals + 1 + random.below(40);
                self.later.push(Later { command: number, offset, bytes: bytes.clone(), due });
                return false;
            }
        }
        self.store(number, place, &stored, fua);
        true
    }

    fn store_what_is_due(&mut self) {
        let now = self.arrivals;
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|one| one.due <= now);
        self.later = later;
        let due: Vec<Later> = due;
        for one in due {
            self.store(one.command, one.offset, &one.bytes, false);
        }
    }

    /// What is stored now.
    pub fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let (first, end) = (offset / LBA, (offset + len).div_ceil(LBA));
        let newest = |versions: &Vec<Version>| versions.last().expect("there is always one").bytes.clone();
        let bytes: Vec<u8> =
            self.versions[first..end].iter().flat_map(|versions| newest(versions).into_vec()).collect();
        bytes[offset - first * LBA..][..len].to_vec()
    }

    /// Whether what a command stored in one atomic unit survives a power cut.
    fn survives(&self, command: usize, lba: usize) -> bool {
        let mut fate = Random(self.log[command].key ^ 0xc07);
        match fate.below(4) {
            0 => false,
            1 => true,
            _ => {
                let unit = lba * LBA / self.plan.atomic;
                Random(fate.0 ^ (unit as u64) << 8).next().is_multiple_of(2)
            }
        }
    }

    /// The power goes, with these commands in flight.
    pub fn cut(&mut self, in_flight: &[usize]) {
        self.later.clear();
        let fua: Vec<usize> = in_flight.to_vec();
        for number in fua {
            let command = self.log[number].clone();
            if matches!(command.op, Op::Write | Op::Trim) {
                self.store(number, command.offset, &command.bytes, false);
            }
            let now = self.now();
            self.log[number].replied = Some((now, false));
        }
        for lba in 0..self.versions.len() {
            let versions = &self.versions[lba];
            let floor = versions.iter().rposition(|version| version.durable).expect("the first is");
            let left = (floor + 1..versions.len()).rev().find(|&at| self.survives(versions[at].command, lba));
            let version = Version { durable: true, ..versions[left.unwrap_or(floor)].clone() };
            self.versions[lba] = vec![version];
        }
        self.power += 1;
        self.has_power = false;
    }

    /// Replaces what is stored, durably.
    pub fn replace(&mut self, offset: usize, bytes: &[u8]) {
        for (lba, part) in (offset / LBA..).zip(bytes.chunks(LBA)) {
            self.versions[lba] =
                vec![Version { stored: 0, command: usize::MAX, bytes: part.into(), durable: true }];
        }
    }
}

/// What becomes of a command at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    InFlight,
    Refused,
    /// The power goes with it.
    PowerCut,
}
