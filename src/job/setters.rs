//! How the options that are neither plain values nor shapes are set.

use super::kind::{Kind, Number, text, texts, with_nearest};
use super::refused::FIO_ENGINES;
use super::spdk;
use super::spec::JobSpec;
use super::value::{Data, Outcome, Value};

/// Names of the engines.
pub(crate) const ENGINES: [&str; 5] = ["null", "psync", "io_uring", "sim", spdk::ENGINE];

/// `ioengine`.
pub(crate) fn set_engine(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let name = text(value)?;
    let name = name.trim();
    if !ENGINES.contains(&name) {
        if FIO_ENGINES.contains(&name) {
            return Err(value
                .bad(format!("`{name}` is an engine of fio that this version does not have"))
                .help("`io_uring` serves asynchronous, `psync` synchronous I/O on Linux"));
        }
        return Err(with_nearest(value.bad(format!("`{name}` is no engine")), name, ENGINES.into_iter()));
    }
    name.clone_into(&mut job.ioengine);
    Ok(())
}

/// `name`.
pub(crate) fn set_name(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let name = text(value)?;
    if name.trim().is_empty() || name.contains(char::is_control) {
        return Err(value.bad("a name has at least one letter, and no control characters"));
    }
    job.name = name;
    Ok(())
}

/// `directory`.
pub(crate) fn set_directory(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let path = text(value)?;
    if path.is_empty() || path.contains('\0') {
        return Err(value.bad("this cannot be a directory"));
    }
    job.directory = Some(path.into());
    Ok(())
}

/// fio's lists of files: a `:` divides, `\:` is a colon.
pub(crate) fn split_filenames(text: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, names.last_mut()) {
            ('\\', Some(name)) if chars.peek() == Some(&':') => {
                chars.next();
                name.push(':');
            }
            (':', _) => names.push(String::new()),
            (c, Some(name)) => name.push(c),
            (_, None) => {}
        }
    }
    names
}

/// `filename`. What engine `spdk` takes it for is settled when the engine is known; until then, what is
/// plainly meant for it stays whole.
pub(crate) fn set_filename(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let split = |text: &str| {
        if spdk::names_transport(text) { spdk::split_ids(text) } else { split_filenames(text) }
    };
    job.filename = texts(value, split)?;
    Ok(())
}

/// `rwmixwrite`.
pub(crate) fn set_rwmixwrite(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let kind = Kind::Integer { min: 0, max: 100, field: Number::U32(|job| &mut job.rwmixread) };
    kind.set(job, value)?;
    job.rwmixread = 100 - job.rwmixread;
    Ok(())
}

/// `description`.
pub(crate) fn set_description(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    job.description = match &value.data {
        Data::Text(text) if text.is_empty() => None,
        _ => Some(text(value)?),
    };
    Ok(())
}
