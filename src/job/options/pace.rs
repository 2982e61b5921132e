//! When I/Os are issued: pauses, rates, and what follows from latencies.

use crate::job::table::OptionDef;

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[];

/// Options of fio that are refused, and why.
pub(super) const REFUSED: &[(&str, &str)] = &[];
