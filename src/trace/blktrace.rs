//! Binary logs of the kernel's blktrace: what `blkparse -d` has put into one file, or the files of all
//! CPUs as blktrace leaves them, merged by time. Either byte order.

use std::io::Read;

use super::{Kind, Mark, Name, Raw, Trouble};
use crate::base::Op;

/// Bytes of an event, without what is attached to it.
pub(super) const EVENT_BYTES: usize = 48;
const MAGIC: u32 = 0x6561_7400;
const VERSION: u32 = 0x07;
/// Sectors of blktrace, whatever the device.
const SECTOR: u64 = 512;
/// Devices a log may name.
const MOST_DEVICES: usize = u16::MAX as usize;
const MINOR_BITS: u32 = 20;

/// Actions: which step of the life of a request.
const ACTION: u32 = 0xffff;
const QUEUED: u32 = 1;
/// The attached bytes begin with a control group.
const OF_CGROUP: u32 = 1 << 8;
/// Categories, in the upper half.
const WRITE: u32 = 1 << (1 + 16);
const FLUSH: u32 = 1 << (2 + 16);
const NOTIFY: u32 = 1 << (10 + 16);
const DISCARD: u32 = 1 << (13 + 16);

/// One event as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub sequence: u32,
    pub time_ns: u64,
    pub sector: u64,
    pub bytes: u32,
    pub action: u32,
    pub pid: u32,
    pub device: u32,
    pub cpu: u32,
    pub error: u16,
    pub attached: u16,
}

impl Event {
    /// Whether it is the arrival of an I/O.
    pub(super) fn is_queued(&self) -> bool {
        self.action & NOTIFY == 0 && self.action & ACTION & !OF_CGROUP == QUEUED
    }

    /// As it stands in a file of a little-endian machine, with nothing attached.
    pub(super) fn encode(&self) -> [u8; EVENT_BYTES] {
        let mut out = [0; EVENT_BYTES];
        let words = [(0, MAGIC | VERSION), (4, self.sequence), (24, self.bytes), (28, self.action)];
        let more = [(32, self.pid), (36, self.device), (40, self.cpu)];
        for (at, word) in words.into_iter().chain(more) {
            out[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        out[8..16].copy_from_slice(&self.time_ns.to_le_bytes());
        out[16..24].copy_from_slice(&self.sector.to_le_bytes());
        out[44..46].copy_from_slice(&self.error.to_le_bytes());
        out
    }
}

/// One file of events.
pub(super) struct EventFile<R> {
    input: R,
    name: String,
    is_big: bool,
    /// Where the next event begins.
    at: u64,
    number: u64,
}

/// Whether `head`, the first bytes of a file, are an event; and if so, whether it is big-endian.
pub(super) fn recognise(head: &[u8]) -> Option<bool> {
    let magic = <[u8; 4]>::try_from(head.get(..4)?).ok()?;
    let word = u32::from_le_bytes(magic);
    let is = |magic: u32| magic & !0xff == MAGIC;
    if is(word) { Some(false) } else { is(word.swap_bytes()).then_some(true) }
}

impl<R: Read> EventFile<R> {
    pub(super) fn new(input: R, name: String, is_big: bool) -> EventFile<R> {
        EventFile { input, name, is_big, at: 0, number: 0 }
    }

    fn place(&self) -> String {
        self.place_of(self.number)
    }

    fn place_of(&self, number: u64) -> String {
        let of = if self.name.is_empty() { String::new() } else { format!(" of {}", self.name) };
        format!("event {number}{of}")
    }

    fn trouble(&self, why: impl Into<String>) -> Trouble {
        Trouble { place: Some(self.place()), why: why.into() }
    }

    /// Fills `into`; false at the end of the file.
    fn fill(&mut self, into: &mut [u8]) -> Result<bool, Trouble> {
        let mut filled = 0;
        while filled < into.len() {
            match self.input.read(&mut into[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(self.trouble(format!("the file ends within it, at byte {}", self.at))),
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.trouble(format!("reading failed: {error}"))),
            }
        }
        Ok(true)
    }

    /// The next event.
    pub(super) fn next(&mut self) -> Result<Option<Event>, Trouble> {
        let mut bytes = [0; EVENT_BYTES];
        self.number += 1;
        if !self.fill(&mut bytes)? {
            return Ok(None);
        }
        let event = self.decode(&bytes)?;
        let mut attached = [0; 256];
        let mut left = usize::from(event.attached);
        while left > 0 {
            let part = left.min(attached.len());
            if !self.fill(&mut attached[..part])? {
                return Err(self.trouble("the file ends before what is attached to it"));
            }
            left -= part;
        }
        self.at += EVENT_BYTES as u64 + u64::from(event.attached);
        Ok(Some(event))
    }

    fn decode(&self, bytes: &[u8; EVENT_BYTES]) -> Result<Event, Trouble> {
        let big = self.is_big;
        let word = |at: usize| {
            let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            let word = u32::from_le_bytes(bytes);
            if big { word.swap_bytes() } else { word }
        };
        let long = |at: usize| {
            let (one, two) = (u64::from(word(at)), u64::from(word(at + 4)));
            if big { one << 32 | two } else { two << 32 | one }
        };
        let half = |at: usize| {
            let half = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            if big { half.swap_bytes() } else { half }
        };
        let magic = word(0);
        if magic & !0xff != MAGIC {
            return Err(self.trouble(format!("no event of blktrace begins at byte {}", self.at)));
        }
        if magic & 0xff != VERSION {
            return Err(self.trouble(format!("version {} of blktrace, and not 7", magic & 0xff)));
        }
        Ok(Event {
            sequence: word(4),
            time_ns: long(8),
            sector: long(16),
            bytes: word(24),
            action: word(28),
            pid: word(32),
            device: word(36),
            cpu: word(40),
            error: half(44),
            attached: half(46),
        })
    }
}

/// Queued I/Os of several files, the earliest first.
pub(super) struct Merged<R> {
    files: Vec<(EventFile<R>, Option<Event>)>,
    is_begun: bool,
    newest: usize,
}

impl<R: Read> Merged<R> {
    pub(super) fn new(files: Vec<EventFile<R>>) -> Merged<R> {
        Merged { files: files.into_iter().map(|file| (file, None)).collect(), is_begun: false, newest: 0 }
    }

    fn mark(&self) -> Mark {
        Mark { file: self.newest, number: self.files.get(self.newest).map_or(0, |(file, _)| file.number) }
    }

    fn place_of(&self, mark: Mark) -> String {
        self.files.get(mark.file).map(|(file, _)| file.place_of(mark.number)).unwrap_or_default()
    }

    pub(super) fn next(&mut self) -> Result<Option<Event>, Trouble> {
        if self.is_begun {
            self.forward(self.newest)?;
        } else {
            self.is_begun = true;
            (0..self.files.len()).try_for_each(|at| self.forward(at))?;
        }
        let earliest = (0..self.files.len()).filter_map(|at| Some((self.files[at].1?.time_ns, at))).min();
        let Some((_, at)) = earliest else { return Ok(None) };
        self.newest = at;
        Ok(self.files[at].1)
    }

    /// Goes on to the next queued I/O of one file.
    fn forward(&mut self, at: usize) -> Result<(), Trouble> {
        let Some((file, event)) = self.files.get_mut(at) else { return Ok(()) };
        *event = loop {
            match file.next()? {
                Some(event) if !event.is_queued() => {}
                other => break other,
            }
        };
        Ok(())
    }
}

/// The I/Os of a blktrace.
pub(super) struct BlockLog<R> {
    events: Merged<R>,
    devices: Vec<(u32, Name)>,
    names: Vec<Name>,
    /// The write that came with the flush before.
    rest: Option<Raw>,
}

impl<R: Read> BlockLog<R> {
    pub(super) fn new(events: Merged<R>) -> BlockLog<R> {
        BlockLog { events, devices: Vec::new(), names: Vec::new(), rest: None }
    }

    pub(super) fn names(&self) -> &[Name] {
        &self.names
    }

    pub(super) fn mark(&self) -> Mark {
        self.events.mark()
    }

    pub(super) fn place_of(&self, mark: Mark) -> String {
        self.events.place_of(mark)
    }

    fn place(&self) -> String {
        self.place_of(self.mark())
    }

    fn device(&mut self, device: u32) -> Result<u32, Trouble> {
        let found = self.devices.iter().position(|(number, _)| *number == device);
        let at = match found {
            Some(at) => at,
            None if self.devices.len() == MOST_DEVICES => {
                let why = format!("there are more than {MOST_DEVICES} devices");
                return Err(Trouble { place: Some(self.place()), why });
            }
            None => {
                let name =
                    Name::Device { major: device >> MINOR_BITS, minor: device & ((1 << MINOR_BITS) - 1) };
                self.devices.push((device, name.clone()));
                self.names.push(name);
                self.devices.len() - 1
            }
        };
        Ok(u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// The next I/O.
    pub(super) fn next(&mut self) -> Result<Option<Raw>, Trouble> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        loop {
            let Some(event) = self.events.next()? else { return Ok(None) };
            let is_flush = event.action & FLUSH != 0;
            if event.bytes == 0 && !is_flush {
                continue;
            }
            let name = self.device(event.device)?;
            let offset = event.sector.checked_mul(SECTOR).ok_or_else(|| Trouble {
                place: Some(self.place()),
                why: format!("sector {} is beyond 2^63 bytes", event.sector),
            })?;
            let op = if event.action & DISCARD != 0 {
                Op::Deallocate
            } else if event.action & WRITE != 0 {
                Op::Write
            } else {
                Op::Read
            };
            let len = u64::from(event.bytes);
            let io = Raw { time_ns: event.time_ns, name, kind: Kind::Io(op), offset, len };
            if !is_flush {
                return Ok(Some(io));
            }
            // A write may ask for a flush before it.
            self.rest = Some(io).filter(|_| event.bytes > 0);
            return Ok(Some(Raw { kind: Kind::Flush { data_only: false }, offset: 0, len: 0, ..io }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: u32 = 1 << 16;

    fn event(time_ns: u64, sector: u64, bytes: u32, action: u32) -> Event {
        let (device, cpu) = (8 << MINOR_BITS | 16, 0);
        Event { sequence: 1, time_ns, sector, bytes, action, pid: 7, device, cpu, error: 0, attached: 0 }
    }

    fn log(files: &[&[u8]]) -> BlockLog<std::io::Cursor<Vec<u8>>> {
        let file = |bytes: &&[u8]| {
            let big = recognise(bytes).unwrap_or(false);
            EventFile::new(std::io::Cursor::new(bytes.to_vec()), String::new(), big)
        };
        BlockLog::new(Merged::new(files.iter().map(file).collect()))
    }

    fn all(files: &[&[u8]]) -> Result<Vec<Raw>, String> {
        let mut log = log(files);
        let mut all = Vec::new();
        while let Some(raw) = log.next().map_err(|trouble| trouble.to_string())? {
            all.push(raw);
        }
        Ok(all)
    }

    #[test]
    fn only_what_was_queued_counts_and_a_write_with_a_flush_is_both() {
        let events = [
            event(1, 0, 4096, READ | QUEUED),
            event(2, 8, 4096, WRITE | QUEUED | OF_CGROUP),
            event(3, 8, 4096, WRITE | 7),
            event(4, 8, 4096, NOTIFY | QUEUED),
            event(5, 16, 8192, DISCARD | WRITE | QUEUED),
            event(6, 0, 0, FLUSH | WRITE | QUEUED),
            event(7, 32, 512, FLUSH | WRITE | QUEUED),
            event(8, 32, 0, WRITE | QUEUED),
        ];
        let bytes: Vec<u8> = events.iter().flat_map(Event::encode).collect();
        let seen: Vec<_> =
            all(&[&bytes]).unwrap().iter().map(|r| (r.time_ns, r.kind, r.offset, r.len)).collect();
        let flush = Kind::Flush { data_only: false };
        let expected = [
            (1, Kind::Io(Op::Read), 0, 4096),
            (2, Kind::Io(Op::Write), 4096, 4096),
            (5, Kind::Io(Op::Deallocate), 8192, 8192),
            (6, flush, 0, 0),
            (7, flush, 0, 0),
            (7, Kind::Io(Op::Write), 16384, 512),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn files_of_several_cpus_are_merged_by_time_in_either_byte_order() {
        let little: Vec<u8> = [2, 5].iter().flat_map(|&t| event(t, t, 512, READ | QUEUED).encode()).collect();
        let mut big = Vec::new();
        for time in [1_u64, 3] {
            let bytes = event(time, time, 512, WRITE | QUEUED).encode();
            for (at, width) in [(0, 4), (4, 4), (8, 8), (16, 8), (24, 4), (28, 4), (32, 4), (36, 4), (40, 4)]
            {
                big.extend(bytes[at..at + width].iter().rev());
            }
            big.extend([0, 0, 0, 3]);
            big.extend([9, 9, 9]);
        }
        let times: Vec<u64> = all(&[&little, &big]).unwrap().iter().map(|raw| raw.time_ns).collect();
        assert_eq!(times, [1, 2, 3, 5]);
    }

    #[test]
    fn what_is_wrong_is_told_with_the_number_of_the_event() {
        let good = event(1, 0, 512, READ | QUEUED).encode().to_vec();
        let with = |more: &[u8]| [good.as_slice(), more].concat();
        let mut other = event(2, 0, 512, READ | QUEUED).encode();
        other[0] = 6;
        let far = event(2, u64::MAX / 2, 512, READ | QUEUED).encode();
        for (bytes, why) in [
            (with(&good[..20]), "event 2: the file ends within it, at byte 48"),
            (with(&[0; 48]), "event 2: no event of blktrace begins at byte 48"),
            (with(&other), "event 2: version 6 of blktrace, and not 7"),
            (with(&far), "event 2: sector 9223372036854775807 is beyond"),
        ] {
            let told = all(&[&bytes]).unwrap_err();
            assert!(told.starts_with(why), "{told}");
        }
    }
}
