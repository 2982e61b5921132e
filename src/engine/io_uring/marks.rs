//! What commands are told beside what they do: priorities, flags, who works on them.

use crate::base::Op;
use crate::base::ioprio::CommandPriorities;

use super::{EngineOptions, Io};

/// What the commands of a queue are told.
pub(super) struct Marks {
    priorities: CommandPriorities,
    /// RWF_* flags of reads and writes.
    rw_flags: i32,
    /// The same, of writes alone.
    write_flags: i32,
    /// One of every so many I/Os goes to the kernel's workers; 0 none.
    force_async: u32,
    /// I/Os until the next one that does.
    until_async: u32,
}

/// The marks of one command.
#[derive(Clone, Copy, Default)]
pub(super) struct Mark {
    pub ioprio: u16,
    pub rw_flags: i32,
    /// It goes to the kernel's workers.
    pub is_async: bool,
}

impl Marks {
    /// Those that `options` ask for, if there are any.
    pub fn of_options(options: &EngineOptions) -> Option<Box<Marks>> {
        let commands = &options.commands;
        let write_flags = if commands.atomic_bytes.is_some() { libc::RWF_ATOMIC } else { 0 };
        let (rw_flags, force_async) = (options.rw_flags, options.force_async);
        let any = write_flags != 0 || rw_flags != 0 || force_async > 0 || commands.priorities.is_some();
        let priorities = commands.priorities.clone().unwrap_or_default();
        let marks = Marks { priorities, rw_flags, write_flags, force_async, until_async: force_async };
        any.then(|| Box::new(marks))
    }

    /// Those of the next command.
    #[inline]
    pub fn of(&mut self, io: &Io) -> Mark {
        let is_async = self.force_async > 0 && self.until_async == 1;
        self.until_async = if is_async { self.force_async } else { self.until_async.saturating_sub(1) };
        Mark {
            ioprio: self.priorities.of(io.op, io.len, io.sequence).0,
            rw_flags: self.rw_flags | if io.op == Op::Write { self.write_flags } else { 0 },
            is_async,
        }
    }
}
