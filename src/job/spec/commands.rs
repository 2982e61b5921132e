//! What goes along with a command: hints, priorities, atomicity.

use super::JobSpec;
use crate::base::PerOp;
use crate::base::ioprio::{CLASS_RT, CommandPriorities, IoPriority, PriorityShare};

/// What goes along with a command: hints, priorities, atomicity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandsSpec {
    /// `write_hint`.
    pub write_hint: WriteHint,
    /// `atomic`: each write whole or not at all.
    pub atomic: bool,
    /// `cmdprio_percentage`: percent of the commands that carry a priority.
    pub prio_percentage: PerOp<u32>,
    /// `cmdprio_class`: 1 to 3; 0 for the highest.
    pub prio_class: PerOp<u32>,
    /// `cmdprio`: 0, the highest, to 7.
    pub prio_level: PerOp<u32>,
    /// `cmdprio_hint`: 0 to 1023.
    pub prio_hint: PerOp<u32>,
    /// `cmdprio_bssplit`.
    pub prio_split: PerOp<Vec<PrioritySplit>>,
    /// `num_range`: ranges of one trim.
    pub trim_ranges: u32,
}

impl Default for CommandsSpec {
    fn default() -> CommandsSpec {
        CommandsSpec {
            write_hint: WriteHint::default(),
            atomic: false,
            prio_percentage: PerOp::default(),
            prio_class: PerOp::default(),
            prio_level: PerOp::default(),
            prio_hint: PerOp::default(),
            prio_split: PerOp::default(),
            trim_ranges: 1,
        }
    }
}

/// One entry of `cmdprio_bssplit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrioritySplit {
    /// Length of the commands in bytes.
    pub bytes: u32,
    /// Percent of them.
    pub percent: u32,
    /// Their priority, where the entry says it; else that of the other options.
    pub priority: Option<IoPriority>,
}

/// fio's `write_hint`: how long what is written is expected to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteHint {
    /// `none`: nothing is said.
    #[default]
    NotSaid,
    /// `not-set`, as the kernel calls a file's default.
    NotSet,
    /// `short`.
    Short,
    /// `medium`.
    Medium,
    /// `long`.
    Long,
    /// `extreme`.
    Extreme,
}

impl JobSpec {
    /// Which commands carry which priority; `None` if none does.
    #[must_use]
    pub fn priorities(&self) -> Option<CommandPriorities> {
        let commands = &self.commands;
        let shares = PerOp::from_fn(|op| {
            let at = |field: &PerOp<u32>| u16::try_from(*field.get(op)).unwrap_or(0);
            let class = if *commands.prio_class.get(op) == 0 { CLASS_RT } else { at(&commands.prio_class) };
            let usual = IoPriority::new(class, at(&commands.prio_level), at(&commands.prio_hint));
            let split = commands.prio_split.get(op);
            if split.is_empty() {
                let percent = *commands.prio_percentage.get(op);
                let share = PriorityShare { bytes: 0, percent, priority: usual };
                return if percent > 0 { vec![share] } else { Vec::new() };
            }
            let share = |entry: &PrioritySplit| PriorityShare {
                bytes: entry.bytes,
                percent: entry.percent,
                priority: entry.priority.unwrap_or(usual),
            };
            split.iter().map(share).collect()
        });
        let seed = self.randseed.unwrap_or(0);
        let usual = IoPriority(self.host.io_priority().map_or(0, |priority| priority.value()));
        Some(CommandPriorities { shares, usual, seed }).filter(|priorities| !priorities.is_empty())
    }
}
