//! What a worker asks of the machine: memory, priorities, schedulers, commands before and after.

use crate::job::table::OptionDef;

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[];

/// Options of fio that are refused, and why.
pub(super) const REFUSED: &[(&str, &str)] = &[];
