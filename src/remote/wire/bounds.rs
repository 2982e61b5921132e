//! How much of what may be repeated a message may hold.
//!
//! An entry of two bytes on the wire can take a thousand in memory: a message within the limit of bytes
//! could make whoever decodes it reserve gigabytes. So messages are looked through before they are decoded,
//! and those that hold more of something than any of ours would are refused.

use std::marker::PhantomData;

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

use super::bench;

/// Messages within messages are followed so deep: deeper than any of ours.
const DEEPEST: u32 = 16;

/// The messages that are looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One without large entries: it is not looked through.
    Plain,
    /// `ClientMessage`.
    Client,
    /// `Start`.
    Start,
    /// `ServerMessage`.
    Server,
    /// `Snapshot`.
    Snapshot,
    /// `TriggerReport`.
    Trigger,
    /// `Ended`.
    Ended,
    /// `Report`.
    Report,
    /// `JobReport`.
    Job,
    /// `WorkerStats`.
    Stats,
    /// `ByPriority`.
    ByPriority,
    /// `BlockCounts`.
    Blocks,
    /// `SteadyReport`.
    Steady,
    /// `VerifyTally`.
    Verify,
    /// `Finding`.
    Finding,
    /// `ReactorReport`.
    Reactor,
    /// `TargetReport`.
    Target,
    /// `NvmeDevice`.
    Nvme,
    /// `NvmeNamespace`.
    Namespace,
    /// `MachineReport`.
    Machine,
    /// `DiskUse`.
    Disk,
    /// `Idleness`.
    Idleness,
    /// `StatusReply`.
    Status,
    /// `RunStatus`.
    Run,
}

/// A field that is followed, or counted.
struct Rule {
    of: Kind,
    field: u32,
    is: Kind,
    /// What people call it, and how many a whole message may have.
    most: Option<(&'static str, u32)>,
}

const fn into(of: Kind, field: u32, is: Kind) -> Rule {
    Rule { of, field, is, most: None }
}

const fn most(of: Kind, field: u32, is: Kind, what: &'static str, most: u32) -> Rule {
    Rule { of, field, is, most: Some((what, most)) }
}

/// All repeated fields of messages, but those of plain numbers.
const RULES: &[Rule] = &[
    into(Kind::Client, 1, Kind::Start),
    most(Kind::Start, 2, Kind::Plain, "job files", 4096),
    most(Kind::Start, 3, Kind::Plain, "options", 1 << 16),
    most(Kind::Start, 4, Kind::Plain, "sections", 1 << 16),
    most(Kind::Start, 6, Kind::Plain, "devices to destroy", 1 << 16),
    into(Kind::Server, 4, Kind::Report),
    into(Kind::Server, 6, Kind::Snapshot),
    into(Kind::Server, 9, Kind::Ended),
    into(Kind::Snapshot, 4, Kind::Trigger),
    most(Kind::Trigger, 5, Kind::Plain, "targets that are stuck", 1 << 16),
    into(Kind::Ended, 1, Kind::Report),
    most(Kind::Report, 5, Kind::Plain, "notes", 1 << 16),
    most(Kind::Report, 6, Kind::Job, "jobs", 4096),
    most(Kind::Report, 7, Kind::Reactor, "reactors", 1 << 16),
    most(Kind::Report, 8, Kind::Target, "targets", 1 << 16),
    into(Kind::Report, 10, Kind::Trigger),
    into(Kind::Report, 11, Kind::Machine),
    most(Kind::Job, 5, Kind::Plain, "options of jobs", 1 << 20),
    into(Kind::Job, 8, Kind::Stats),
    into(Kind::Job, 13, Kind::Steady),
    into(Kind::Job, 16, Kind::Verify),
    into(Kind::Stats, 13, Kind::ByPriority),
    into(Kind::Stats, 14, Kind::Blocks),
    most(Kind::Stats, 15, Kind::Plain, "kinds of errors", 1 << 18),
    most(Kind::ByPriority, 1, Kind::Plain, "histograms", 1 << 16),
    most(Kind::Blocks, 1, Kind::Plain, "counts of blocks", 1 << 22),
    most(Kind::Steady, 1, Kind::Plain, "rounds", 1 << 20),
    most(Kind::Verify, 3, Kind::Plain, "reasons", 1 << 18),
    most(Kind::Verify, 5, Kind::Plain, "verdicts", 1 << 18),
    most(Kind::Verify, 7, Kind::Finding, "violations", 1 << 18),
    most(Kind::Verify, 12, Kind::Plain, "doubts", 1 << 18),
    most(Kind::Finding, 8, Kind::Plain, "details of violations", 1 << 21),
    most(Kind::Reactor, 2, Kind::Plain, "workers", 1 << 18),
    into(Kind::Target, 4, Kind::Nvme),
    into(Kind::Nvme, 2, Kind::Namespace),
    most(Kind::Nvme, 6, Kind::Plain, "notes of targets", 1 << 18),
    most(Kind::Namespace, 5, Kind::Plain, "formats", 1 << 21),
    most(Kind::Machine, 1, Kind::Disk, "disks", 1 << 16),
    most(Kind::Disk, 7, Kind::Plain, "disks below disks", 1 << 18),
    into(Kind::Machine, 2, Kind::Idleness),
    most(Kind::Idleness, 2, Kind::Plain, "CPUs", 1 << 16),
    most(Kind::Status, 4, Kind::Run, "runs", 4096),
    most(Kind::Status, 5, Kind::Plain, "devices", 1 << 16),
    most(Kind::Run, 6, Kind::Plain, "targets of runs", 1 << 20),
];

/// Looks through an encoded message.
///
/// # Errors
/// What it has too much of. What is not well-formed is left to the decoder.
pub fn check(kind: Kind, message: &[u8]) -> Result<(), String> {
    let mut counts = [0; RULES.len()];
    look(kind, message, &mut counts, DEEPEST)
}

fn look(kind: Kind, mut rest: &[u8], counts: &mut [u32; RULES.len()], deeper: u32) -> Result<(), String> {
    if kind == Kind::Plain || deeper == 0 {
        return Ok(());
    }
    while !rest.is_empty() {
        let Ok((field, wire_type)) = decode_key(&mut rest) else { return Ok(()) };
        let bytes = match wire_type {
            WireType::Varint => decode_varint(&mut rest).map(|_| 0),
            WireType::SixtyFourBit => Ok(8),
            WireType::ThirtyTwoBit => Ok(4),
            WireType::LengthDelimited => decode_varint(&mut rest),
            // The decoder would leave them out, and take what is behind them.
            WireType::StartGroup | WireType::EndGroup => {
                return Err("groups, which no message of this protocol has".to_owned());
            }
        };
        let Ok(bytes) = bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)) else {
            return Ok(());
        };
        let Some((inner, behind)) = rest.split_at_checked(bytes) else { return Ok(()) };
        rest = behind;
        if wire_type != WireType::LengthDelimited {
            continue;
        }
        let known =
            RULES.iter().zip(counts.iter_mut()).find(|(rule, _)| rule.of == kind && rule.field == field);
        let Some((rule, count)) = known else { continue };
        if let Some((what, most)) = rule.most {
            *count += 1;
            if *count > most {
                return Err(format!("more than {most} {what}"));
            }
        }
        look(rule.is, inner, counts, deeper - 1)?;
    }
    Ok(())
}

/// A message that comes over the wire.
pub trait Bounded {
    /// How it is looked through.
    const KIND: Kind;
}

macro_rules! bounded {
    ($($message:ident: $kind:ident,)*) => { $(impl Bounded for bench::$message { const KIND: Kind = Kind::$kind; })* };
}

bounded! {
    ClientMessage: Client,
    ServerMessage: Server,
    StatusRequest: Plain,
    StatusReply: Status,
    StopRequest: Plain,
    StopReply: Plain,
}

/// Encodes as prost does, and looks messages through before they are decoded.
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> BoundedCodec<T, U> {
        BoundedCodec(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Bounded + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> BoundedDecoder<U> {
        BoundedDecoder(PhantomData)
    }
}

/// See [`BoundedCodec`].
#[derive(Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default + Bounded> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        use prost::bytes::Buf;
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        check(U::KIND, &bytes).map_err(|why| Status::out_of_range(format!("it has {why}")))?;
        // In the words of prost's own codec.
        U::decode(bytes).map(Some).map_err(|why| Status::internal(why.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::MOST_MESSAGE_BYTES;
    use bench::{ServerMessage, server_message::What};

    /// A field with these bytes.
    fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
        let mut made = Vec::new();
        prost::encoding::encode_key(number, WireType::LengthDelimited, &mut made);
        prost::encoding::encode_varint(bytes.len() as u64, &mut made);
        made.extend_from_slice(bytes);
        made
    }

    #[test]
    fn empty_entries_by_the_million_are_refused_before_they_take_memory() {
        let million = |number| field(number, &[]).repeat(1 << 20);
        let ended = |report: &[u8]| field(9, &field(1, report));
        for (kind, message, what) in [
            (Kind::Server, field(4, &million(6)), "jobs"),
            (Kind::Server, ended(&million(8)), "targets"),
            (Kind::Server, ended(&field(6, &field(16, &million(7)))), "violations"),
            // As parts of one message that stands there more than once.
            (Kind::Server, field(4, &field(6, &[])).repeat(5000), "jobs"),
            (Kind::Server, ended(&field(6, &field(8, &field(13, &million(1))))), "histograms"),
            (Kind::Client, field(1, &million(2)), "job files"),
            (Kind::Client, field(1, &million(3)), "options"),
            (Kind::Status, million(4), "runs"),
        ] {
            assert!(message.len() < MOST_MESSAGE_BYTES);
            let why = check(kind, &message).unwrap_err();
            assert!(why.contains(what), "{what}: {why}");
        }
        assert!(check(Kind::Client, &[0x0b, 0x0c]).unwrap_err().contains("groups"));
    }

    #[test]
    fn what_is_no_list_is_not_counted_whatever_its_bytes_are() {
        let content = field(6, &[]).repeat(1 << 20);
        let snapshot = bench::Snapshot { content: content.into(), ..bench::Snapshot::default() };
        let message = ServerMessage { what: Some(What::Snapshot(snapshot)) }.encode_to_vec();
        assert_eq!(check(Kind::Server, &message), Ok(()));
        for cut in [1, 2, message.len() / 2] {
            assert_eq!(check(Kind::Server, &message[..cut]), Ok(()));
        }
    }

    #[test]
    fn all_that_the_description_repeats_has_a_bound() {
        let text = include_str!("../../../proto/fio_spdk.proto");
        let lines = text.lines().map(str::trim);
        // Plain numbers take little more memory than bytes on the wire.
        let number = |line: &str| line.contains("repeated uint") || line.contains("repeated Verdict rereads");
        let lists =
            lines.filter(|line| line.starts_with("repeated ") && !number(line) || line.starts_with("map<"));
        let bounds = RULES.iter().filter(|rule| rule.most.is_some()).count();
        assert_eq!(lists.count(), bounds, "a list of the description has no bound here");
    }
}
