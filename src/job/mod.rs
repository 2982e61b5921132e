//! Job files: from text to [`JobSpec`]. Knows no engine and opens no device.
//!
//! [`table`] lists the options; parsing, errors, help, printing and the reference page all follow
//! from it.

mod campaign;
mod checks;
pub(crate) mod diagnostic;
mod docs;
pub(crate) mod kind;
mod load;
mod options;
mod parse;
mod patterns;
mod print;
mod priorities;
mod recall;
mod refused;
mod resolve;
#[cfg(test)]
pub(crate) mod samples;
mod sections;
mod setters;
mod shapes;
mod sim;
mod spdk;
pub mod spec;
pub(crate) mod syntax;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod value;

pub use campaign::{Between, CampaignSpec, StopOn};
pub use diagnostic::{COMMAND_LINE, Diagnostic, Diagnostics};
pub use docs::{explain, help, reference};
pub use load::{load, load_campaign, texts};
pub use parse::{parse, parse_campaign};
pub use print::{print, shaping_options};
pub use recall::recall;
pub use sections::sections;
pub use spec::JobSpec;
pub use table::{OptionDef, table};
