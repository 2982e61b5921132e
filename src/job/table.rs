//! What an entry of the option table is, and how options are found in it.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::diagnostic::nearest;
use super::kind::Kind;
use super::options::{OPTIONS, REFUSED};
use super::refused::NOTES;
use super::spec::JobSpec;

/// An option of job files and of the command line: everything that is known about it.
#[derive(Clone, Copy)]
pub struct OptionDef {
    /// Its name, as in fio.
    pub name: &'static str,
    /// Other names that fio has for it.
    pub aliases: &'static [&'static str],
    /// Under which heading the reference shows it.
    pub section: &'static str,
    /// Its default in words or in TOML; empty if there is none.
    pub default: &'static str,
    /// What it does, in one to three sentences.
    pub doc: &'static str,
    /// What it takes and where that lands.
    pub(crate) kind: Kind,
    /// Whether a job that verifies writes other data, or to other places, with another value. Such options
    /// are stored in snapshots, and a job with other values of them is refused.
    pub shapes_data: bool,
    /// The same for options that decide which writes must be found after a loss of power, and which may be
    /// torn.
    pub shapes_promises: bool,
    /// Why the option is refused beside `read_iolog`, where the log says what is written where: what to do
    /// instead. `None` where both go together.
    pub beside_log: Option<&'static str>,
}

impl OptionDef {
    /// Sets [`OptionDef::shapes_data`].
    pub(crate) const fn shapes_data(mut self) -> OptionDef {
        self.shapes_data = true;
        self
    }

    /// Sets [`OptionDef::shapes_promises`].
    pub(crate) const fn shapes_promises(mut self) -> OptionDef {
        self.shapes_promises = true;
        self
    }

    /// Sets [`OptionDef::beside_log`].
    pub(crate) const fn refused_beside_log(mut self, instead: &'static str) -> OptionDef {
        self.beside_log = Some(instead);
        self
    }

    /// Whether a snapshot stores its value, and fits only jobs with the same one.
    #[must_use]
    pub const fn is_in_snapshots(&self) -> bool {
        self.shapes_data || self.shapes_promises
    }

    /// The form of its values, in words.
    #[must_use]
    pub fn form(&self) -> String {
        self.kind.form()
    }

    /// Whether it may stand on the command line without a value, which then is `true`.
    #[must_use]
    pub fn is_flag(&self) -> bool {
        match &self.kind {
            Kind::Flag(_) | Kind::Ignored => true,
            Kind::Special { words, .. } => words.contains(&"true"),
            _ => false,
        }
    }

    /// The words that it may be set to, where there are some: for completion.
    #[must_use]
    pub fn choices(&self) -> Vec<&'static str> {
        match &self.kind {
            Kind::Choice { choices, .. } => choices.iter().map(|choice| choice.name).collect(),
            Kind::Special { words, .. } => words.to_vec(),
            Kind::Flag(_) | Kind::Ignored => vec!["true", "false"],
            _ => Vec::new(),
        }
    }

    /// Its value in `job` as TOML; `None` where it has none.
    #[must_use]
    pub fn show(&self, job: &JobSpec) -> Option<String> {
        self.kind.show(&mut job.clone())
    }

    /// All its names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

/// All options, in the order of the reference.
#[must_use]
pub fn table() -> &'static [OptionDef] {
    OPTIONS
}

/// The option of this name or alias, with its index in the table.
pub(crate) fn find(name: &str) -> Option<(usize, &'static OptionDef)> {
    static BY_NAME: LazyLock<HashMap<&'static str, usize>> = LazyLock::new(|| {
        let names =
            |(index, option): (usize, &'static OptionDef)| option.names().map(move |name| (name, index));
        OPTIONS.iter().enumerate().flat_map(names).collect()
    });
    #[cfg(test)]
    LOOKUPS.with(|lookups| lookups.set(lookups.get() + 1));
    let &index = BY_NAME.get(name)?;
    Some((index, &OPTIONS[index]))
}

#[cfg(test)]
thread_local! {
    /// How often this thread has looked for an option.
    pub(crate) static LOOKUPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The index of an option that is known to be in the table.
pub(crate) fn index_of(name: &str) -> usize {
    find(name).map_or(usize::MAX, |(index, _)| index)
}

/// The options that are refused, each with the reason.
pub(crate) fn refused() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    REFUSED.into_iter().flatten().chain(NOTES)
}

/// What to say of a name that is not in the table: the message, and what may help.
pub(crate) fn explain_unknown(name: &str) -> (String, Option<String>) {
    if let Some((_, why)) = refused().find(|(refused, _)| *refused == name) {
        return (format!("`{name}` is not an option here"), Some((*why).to_owned()));
    }
    let message = format!("unknown option `{name}`");
    let known = OPTIONS.iter().flat_map(OptionDef::names);
    if let Some(near) = nearest(name, known) {
        return (message, Some(format!("did you mean `{near}`?")));
    }
    let near = nearest(name, refused().map(|(name, _)| *name));
    let why = near.and_then(|near| refused().find(|(name, _)| *name == near));
    (message, why.map(|(near, why)| format!("if you mean `{near}`, it is not an option here: {why}")))
}
