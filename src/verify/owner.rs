//! Whose a sector of a block is, and how that is said.

use std::ops::Range;

use super::payload::Stamp;

/// Parts that are named in one line.
const MOST_NAMED: usize = 16;

/// Whose one sector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The write of that number of this run and worker, at this place.
    Write(u64),
    Zeros,
    Ones,
    /// A whole sector of somebody or somewhere else.
    Stranger(Stamp),
    /// It begins as the one and ends as the other, from that byte of the block on.
    Split {
        first: Part,
        then: Part,
        at: usize,
    },
    Unknown,
}

/// Whose a part of a sector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Write(u64),
    Zeros,
    Ones,
    /// Another write of this tool, or what stood there before.
    Other,
}

/// Zeros or ones all over.
pub(super) fn blank(bytes: &[u8]) -> Option<Part> {
    match bytes.first()? {
        0 if bytes.iter().all(|&byte| byte == 0) => Some(Part::Zeros),
        0xff if bytes.iter().all(|&byte| byte == 0xff) => Some(Part::Ones),
        _ => None,
    }
}

pub(super) fn describe_kinds(owners: &[(Range<usize>, Owner)]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (_, owner) in owners {
        let part = describe_owner(*owner);
        if !parts.contains(&part) && parts.len() < MOST_NAMED {
            parts.push(part);
        }
    }
    format!("parts of several: {}", parts.join("; "))
}

pub(super) fn describe_owner(owner: Owner) -> String {
    match owner {
        Owner::Write(sequence) => describe_part(Part::Write(sequence)),
        Owner::Zeros => describe_part(Part::Zeros),
        Owner::Ones => describe_part(Part::Ones),
        Owner::Stranger(stamp) => format!(
            "write {} of worker {} of run ...{:08x} for offset {}",
            stamp.writer.sequence, stamp.writer.worker, stamp.writer.run, stamp.offset
        ),
        Owner::Split { first, then, at } => {
            format!("{} up to byte {at}, then {}", describe_part(first), describe_part(then))
        }
        Owner::Unknown => "bytes of no known write".to_owned(),
    }
}

fn describe_part(part: Part) -> String {
    match part {
        Part::Write(sequence) => format!("write {sequence}"),
        Part::Zeros => "zeros".to_owned(),
        Part::Ones => "ones (0xff)".to_owned(),
        Part::Other => "something older".to_owned(),
    }
}
