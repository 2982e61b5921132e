//! What is logged while the job runs, in fio's formats.

use crate::job::table::OptionDef;

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[];

/// Options of fio that are refused, and why.
pub(super) const REFUSED: &[(&str, &str)] = &[];
