//! `fio-spdk block show`: what stands in one block of a target. Reads only, and claims nothing, so
//! that evidence can be looked at while somebody uses the target.

mod decode;
mod payload;

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};

use serde_json::{Map, Value, json};

use crate::base::host::printable;
use crate::cli::streams::stderr_line;
use crate::verify::block::{BlockFormat, HEADER_BYTES};

use decode::{Decoded, Fact, Standing};

/// Length of a block where neither its header nor the user says.
const USUAL_BYTES: u64 = 4096;
/// Longest block that a job can ask for.
pub(super) const MOST_BYTES: u64 = 1 << 30;
/// Where lines of values begin.
const NAME_WIDTH: usize = 13;

/// What to show.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub target: String,
    pub offset: u64,
    pub interval: Option<u64>,
    pub json: bool,
}

/// Why nothing can be shown, and the exit code for it.
type Refusal = (u8, String);

/// Prints the block and gives the exit code: 0 intact, 1 damaged, 5 nothing of ours.
pub fn show(request: &Request) -> u8 {
    let decoded = match look(request) {
        Ok(decoded) => decoded,
        Err((code, why)) => {
            stderr_line!("error: {why}");
            return code;
        }
    };
    let text = if request.json { json_text(request, &decoded) } else { plain_text(request, &decoded) };
    let printed = super::output::print(&text);
    if printed != super::EXIT_OK {
        return printed;
    }
    match decoded.standing {
        Standing::Intact => super::EXIT_OK,
        Standing::Damaged => super::EXIT_VIOLATION,
        Standing::Nothing => super::EXIT_INCONCLUSIVE,
    }
}

fn look(request: &Request) -> Result<Decoded, Refusal> {
    let Request { target, offset, .. } = request;
    let failed = |why: io::Error| (super::EXIT_IO, format!("{}: {why}", printable(target)));
    let kind = std::fs::metadata(target).map_err(failed)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        let why = format!("{} is neither a file nor a block device", printable(target));
        return Err((super::EXIT_USAGE, why));
    }
    let mut file = File::open(target).map_err(failed)?;
    let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
    if *offset >= size {
        let why =
            format!("offset {offset} is beyond the end of {}, which has {size} bytes", printable(target));
        return Err((super::EXIT_USAGE, why));
    }
    let read = |len: u64| read_at(&file, *offset, len.min(size - offset)).map_err(failed);
    let chosen = request.interval.unwrap_or(USUAL_BYTES);
    let mut block = read(chosen.max(HEADER_BYTES as u64))?;
    if let Some(len) = decode::believable_len(&block) {
        return Ok(decode::decode(&read(u64::from(len))?, *offset));
    }
    block.truncate(usize::try_from(chosen).unwrap_or(usize::MAX));
    if let Some((at, header, method)) = decode::header_inside(&block, *offset) {
        let mut whole = read(u64::from(header.len))?;
        let header_at = u32::try_from(at).unwrap_or(0);
        let format = BlockFormat { interval: header.len, method, header_at, pattern: None };
        format.unswap_front(&mut whole);
        let mut decoded = decode::decode(&whole, *offset);
        decoded.hints.push(format!("header and digest stand at byte {at} of the block: verify_offset={at}"));
        return Ok(decoded);
    }
    let mut decoded = decode::decode(&block, *offset);
    if decoded.standing == Standing::Nothing
        && let Some(at) = decode::next_header(&block)
    {
        let next = offset.saturating_add(at as u64);
        decoded.hints.push(format!("a block begins {at} bytes further on, at offset {next}"));
    }
    Ok(decoded)
}

/// Reads up to `len` bytes; less only where the target ends.
fn read_at(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn plain_text(request: &Request, decoded: &Decoded) -> String {
    let place = format!("{}, offset {}", printable(&request.target), request.offset);
    let mut out = format!("{place}, {} bytes: {}\n", decoded.len, decoded.summary);
    for hint in &decoded.hints {
        out.push_str(&format!("note: {hint}\n"));
    }
    for (section, facts) in &decoded.sections {
        out.push_str(&format!("\n{section}:\n"));
        for Fact { name, value, note, right } in facts {
            let mark = match right {
                Some(true) => "  [ok]",
                Some(false) => "  [WRONG]",
                None => "",
            };
            let note = if note.is_empty() { String::new() } else { format!("  ({note})") };
            out.push_str(&format!("  {:NAME_WIDTH$} {value}{mark}{note}\n", format!("{name}:")));
        }
    }
    out
}

fn json_text(request: &Request, decoded: &Decoded) -> String {
    let sections: Map<String, Value> = decoded
        .sections
        .iter()
        .map(|(section, facts)| {
            let facts: Vec<Value> = facts
                .iter()
                .map(|Fact { name, value, note, right }| {
                    json!({ "name": name, "value": value, "right": right, "note": note })
                })
                .collect();
            ((*section).to_owned(), facts.into())
        })
        .collect();
    let object = json!({
        "target": request.target,
        "offset": request.offset,
        "len": decoded.len,
        "standing": decoded.standing.name(),
        "summary": decoded.summary,
        "hints": decoded.hints,
        "sections": sections,
    });
    format!("{object:#}\n")
}
