//! The words of the simulated drive: what jobs ask for, what the engine `sim` obeys.

/// What a drive may do wrong, each at a rate of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Fault {
    /// A write is acknowledged and dropped.
    Lost,
    /// Only the first part of a write lands, and it ends inside an LBA.
    Torn,
    /// Only some LBAs of a write land.
    TornLba,
    /// A write lands at another offset.
    Misplaced,
    /// What stood there before a write comes back later.
    RolledBack,
    /// One bit of a write is flipped.
    BitFlip,
    /// Zeros are stored.
    Blank,
    /// Bytes of 0xff are stored.
    Ones,
    /// The contents are stored some bytes further on.
    Shifted,
    /// Reads of what was written fail, until it is written or deallocated again.
    ReadError,
    /// A write fails; each of its LBAs is old or new.
    WriteError,
    /// A write fails and leaves nothing; later it lands after all, perhaps over a newer one.
    LateWrite,
    /// A write never completes.
    Stalled,
    /// A read gives a flipped bit, once.
    TransientRead,
    /// A read never completes.
    StalledRead,
    /// A flush is acknowledged and makes nothing durable.
    LyingFlush,
    /// A deallocation is acknowledged, and the old data stay.
    UndeadTrim,
    /// A transfer comes back short. No sin: who submitted it goes on.
    Short,
}

impl Fault {
    /// All faults with their names in job files.
    pub const ALL: [(&'static str, Fault); 18] = [
        ("lost", Fault::Lost),
        ("torn", Fault::Torn),
        ("torn_lba", Fault::TornLba),
        ("misplaced", Fault::Misplaced),
        ("rolled_back", Fault::RolledBack),
        ("bit_flip", Fault::BitFlip),
        ("blank", Fault::Blank),
        ("ones", Fault::Ones),
        ("shifted", Fault::Shifted),
        ("read_error", Fault::ReadError),
        ("write_error", Fault::WriteError),
        ("late_write", Fault::LateWrite),
        ("stalled", Fault::Stalled),
        ("transient_read", Fault::TransientRead),
        ("stalled_read", Fault::StalledRead),
        ("lying_flush", Fault::LyingFlush),
        ("undead_trim", Fault::UndeadTrim),
        ("short", Fault::Short),
    ];

    /// The fault of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Fault> {
        Fault::ALL.iter().find(|(known, _)| *known == name).map(|(_, fault)| *fault)
    }

    /// Its name in job files.
    #[must_use]
    pub fn name(self) -> &'static str {
        Fault::ALL[self as usize].0
    }

    /// Whether a command of this kind can suffer it.
    #[must_use]
    pub fn befalls(self, op: super::Op) -> bool {
        use super::Op;
        match self {
            Fault::TransientRead | Fault::StalledRead => op == Op::Read,
            Fault::LyingFlush => op == Op::Flush,
            Fault::UndeadTrim => op == Op::Deallocate,
            Fault::Short => matches!(op, Op::Read | Op::Write),
            _ => op == Op::Write,
        }
    }
}

/// How often each fault happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultRates([u32; Fault::ALL.len()]);

impl FaultRates {
    /// What a rate is counted in: parts of this many commands.
    pub const WHOLE: u32 = 1_000_000_000;

    /// The share of the commands that suffer `fault`, in billionths.
    #[must_use]
    pub fn get(&self, fault: Fault) -> u32 {
        self.0[fault as usize]
    }

    /// Sets it; more than all is all.
    pub fn set(&mut self, fault: Fault, billionths: u32) {
        self.0[fault as usize] = billionths.min(Self::WHOLE);
    }

    /// These, with `fault` at a rate in billionths.
    #[must_use]
    pub fn with(mut self, fault: Fault, billionths: u32) -> FaultRates {
        self.set(fault, billionths);
        self
    }

    /// The faults that happen at all, with their rates.
    pub fn iter(&self) -> impl Iterator<Item = (Fault, u32)> {
        let all = Fault::ALL.iter().map(|&(_, fault)| (fault, self.get(fault)));
        all.filter(|(_, rate)| *rate > 0)
    }

    /// What a command of kind `op` suffers, given 64 random bits.
    #[must_use]
    pub fn draw(&self, op: super::Op, bits: u64) -> Option<Fault> {
        let mut left = super::random::below(bits, u64::from(Self::WHOLE));
        for (fault, rate) in self.iter().filter(|(fault, _)| fault.befalls(op)) {
            match left.checked_sub(u64::from(rate)) {
                Some(rest) => left = rest,
                None => return Some(fault),
            }
        }
        None
    }
}

/// The simulated drive that a job asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimOptions {
    /// `sim_seed`: what the drive does follows from it and the number of the command.
    pub seed: u64,
    /// `sim_lba`: 512 or 4096 bytes.
    pub lba: u32,
    /// `sim_cache`: a volatile write cache.
    pub cache: bool,
    /// `sim_path_flushes`: flushes reach the drive; otherwise the path to it drops them.
    pub path_flushes: bool,
    /// `sim_atomic_unit` in bytes; where it is absent, one LBA.
    pub atomic_unit: Option<u32>,
    /// `sim_latency` in nanoseconds.
    pub latency_ns: u64,
    /// `sim_cut_after`: the power goes with this many commands of the job.
    pub cut_after: Option<u64>,
    /// `sim_faults`.
    pub faults: FaultRates,
    /// `sim_fault_after`: this many commands of the job suffer none.
    pub fault_after: u64,
    /// `sim_fault_limit`: at most this many sins; 0 for any number.
    pub fault_limit: u64,
}

impl Default for SimOptions {
    fn default() -> SimOptions {
        SimOptions {
            seed: 1,
            lba: 512,
            cache: true,
            path_flushes: true,
            atomic_unit: None,
            latency_ns: 0,
            cut_after: None,
            faults: FaultRates::default(),
            fault_after: 0,
            fault_limit: 0,
        }
    }
}

impl SimOptions {
    /// The atomic unit in bytes.
    #[must_use]
    pub fn atomic_bytes(&self) -> u32 {
        self.atomic_unit.unwrap_or(self.lba)
    }

    /// What is wrong with the geometry: which option, and why.
    #[must_use]
    pub fn objection(&self) -> Option<(&'static str, String)> {
        if ![512, 4096].contains(&self.lba) {
            return Some(("sim_lba", format!("`sim_lba` is 512 or 4096, not {}", self.lba)));
        }
        let unit = self.atomic_bytes();
        (unit == 0 || !unit.is_multiple_of(self.lba)).then(|| {
            let why = format!("`sim_atomic_unit` is {unit}, no multiple of the `sim_lba` of {}", self.lba);
            ("sim_atomic_unit", why)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Op, random};
    use super::*;

    #[test]
    fn faults_stand_in_the_order_of_their_numbers() {
        for (index, (name, fault)) in Fault::ALL.iter().enumerate() {
            assert_eq!((*fault as usize, fault.name(), Fault::from_name(name)), (index, *name, Some(*fault)));
            assert!([Op::Read, Op::Write, Op::Deallocate, Op::Flush].iter().any(|&op| fault.befalls(op)));
        }
    }

    #[test]
    fn faults_are_drawn_as_often_as_their_rates_say() {
        let rates = FaultRates::default()
            .with(Fault::Lost, 100_000_000)
            .with(Fault::Torn, 300_000_000)
            .with(Fault::StalledRead, FaultRates::WHOLE);
        let mut drawn = [0_u32; 3];
        for k in 0..10_000 {
            match rates.draw(Op::Write, random::at(7, k)) {
                Some(Fault::Lost) => drawn[0] += 1,
                Some(Fault::Torn) => drawn[1] += 1,
                None => drawn[2] += 1,
                other => panic!("{other:?}"),
            }
            assert_eq!(rates.draw(Op::Read, random::at(7, k)), Some(Fault::StalledRead));
            assert_eq!(rates.draw(Op::Flush, random::at(7, k)), None);
        }
        assert!((900..1100).contains(&drawn[0]) && (2800..3200).contains(&drawn[1]), "{drawn:?}");
    }
}
