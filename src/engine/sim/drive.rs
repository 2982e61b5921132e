//! The model: one drive, its cache, its power and its sins.
//!
//! A command is *admitted* when it is submitted and *finished* when it is polled: that is when it
//! takes effect, so that commands in flight have no order. Everything that happens by chance is a
//! function of the seed and the drive's number of the command.

use std::collections::BTreeSet;

use crate::base::sim::{Fault, SimOptions};
use crate::base::{Op, Status, random};
use crate::engine::ranges::{TrimRange, carried};

use super::faults::{Sin, spoil};
use super::image::Image;
use super::log::{Change, Log, Piece};

/// What the status of a failed command is made of (errno.h).
pub const EIO: i32 = 5;
pub const EBADF: i32 = 9;
pub const ENODEV: i32 = 19;
pub const EINVAL: i32 = 22;
pub const ENODATA: i32 = 61;
pub const ECANCELED: i32 = 125;

/// Contents that wait to be stored at most; the oldest makes room.
const MAX_DELAYED: usize = 64;
/// They are stored at most this many commands later.
const DELAYED_WITHIN: u64 = 32;

/// One queue, as far as the power goes.
#[derive(Clone, Copy, Debug, Default)]
struct User {
    in_flight: u64,
    /// Cuts after which the power is back, for this queue.
    cuts: u64,
    /// It has been told of the last cut, by a command that failed.
    knows: bool,
}

/// One job's use of the drive.
#[derive(Debug)]
struct Session {
    options: SimOptions,
    /// Writes are durable when they complete (O_SYNC, O_DSYNC).
    writes_through: bool,
    key: u64,
    /// Commands admitted.
    admitted: u64,
    /// Sins drawn, not counting those that left no mark.
    sins: u64,
}

/// A command that was admitted.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    session: usize,
    user: usize,
    number: u64,
    pub key: u64,
    fault: Option<Fault>,
    /// The end of the log when the command was submitted.
    mark: u64,
    /// How often the power had gone by then.
    cuts: u64,
}

impl Ticket {
    /// Whether the command never completes by itself.
    pub fn hangs(&self) -> bool {
        matches!(self.fault, Some(Fault::Stalled | Fault::StalledRead))
    }
}

/// What a command addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub op: Op,
    pub offset: u64,
    pub len: u32,
}

/// What a deallocate addresses, whose ranges are these if it has several.
fn spans(whole: Span, ranges: &[u8]) -> Vec<Span> {
    match carried(ranges, whole.len) {
        Some(ranges) => ranges.map(|TrimRange { offset, len }| Span { op: whole.op, offset, len }).collect(),
        None => vec![whole],
    }
}

/// Contents that will be stored later: what was there before a write, or a write that failed.
#[derive(Debug)]
struct Delayed {
    ticket: Ticket,
    span: Span,
    due: u64,
    contents: Box<[u8]>,
}

/// A simulated drive.
#[derive(Debug)]
pub struct Drive {
    size: u64,
    lba: u32,
    unit: u32,
    cached: bool,
    image: Image,
    log: Log,
    /// LBAs that cannot be read.
    unreadable: BTreeSet<u64>,
    delayed: Vec<Delayed>,
    sessions: Vec<Session>,
    sins: Vec<Sin>,
    commands: u64,
    users: Vec<User>,
    cuts: u64,
}

impl Drive {
    /// A drive of zeros. The geometry is that of `options`, which must have no objection.
    pub fn new(options: &SimOptions) -> Drive {
        Drive {
            size: 0,
            lba: options.lba,
            unit: options.atomic_bytes(),
            cached: options.cache,
            image: Image::default(),
            log: Log::default(),
            unreadable: BTreeSet::new(),
            delayed: Vec::new(),
            sessions: Vec::new(),
            sins: Vec::new(),
            commands: 0,
            users: Vec::new(),
            cuts: 0,
        }
    }

    /// Opens the drive for a job, the `index`-th of whose targets it is: a number for its commands.
    ///
    /// # Errors
    /// If the drive was made otherwise: the option that differs, with its value here.
    pub fn open(
        &mut self,
        options: &SimOptions,
        writes_through: bool,
        index: usize,
        size: u64,
    ) -> Result<usize, String> {
        let ours = [self.lba.to_string(), self.cached.to_string(), self.unit.to_string()];
        let theirs = [options.lba.to_string(), options.cache.to_string(), options.atomic_bytes().to_string()];
        let names = ["sim_lba", "sim_cache", "sim_atomic_unit"];
        if let Some(index) = (0..names.len()).find(|&index| ours[index] != theirs[index]) {
            return Err(format!("{} = {}", names[index], ours[index]));
        }
        self.size = self.size.max(size);
        let key = random::derive(options.seed, index as u64);
        self.sessions.push(Session { options: *options, writes_through, key, admitted: 0, sins: 0 });
        Ok(self.sessions.len() - 1)
    }

    /// What has gone wrong so far.
    pub fn sins(&self) -> &[Sin] {
        &self.sins
    }

    /// Whether the power has gone since the command was admitted.
    pub fn has_cut(&self, ticket: &Ticket) -> bool {
        ticket.cuts != self.cuts
    }

    /// A number for the commands of one queue. Its power is on.
    pub fn user(&mut self) -> usize {
        self.users.push(User { cuts: self.cuts, ..User::default() });
        self.users.len() - 1
    }

    /// Whether a queue has no power; a read brings it back when the queue has seen all that was in
    /// flight fail.
    fn is_off(&mut self, user: usize, op: Op) -> bool {
        let cuts = self.cuts;
        let user = &mut self.users[user];
        if user.cuts != cuts && op == Op::Read && user.in_flight == 0 && user.knows {
            (user.cuts, user.knows) = (cuts, false);
        }
        user.cuts != cuts
    }

    /// A command that was refused because there is no power has come back.
    pub fn refused(&mut self, user: usize) {
        let user = &mut self.users[user];
        user.in_flight -= 1;
        user.knows = true;
    }

    /// Whether these are whole LBAs of the drive.
    pub fn fits(&self, offset: u64, len: u32) -> bool {
        let lba = u64::from(self.lba);
        let fits = offset.checked_add(u64::from(len)).is_some_and(|end| end <= self.size);
        fits && offset.is_multiple_of(lba) && u64::from(len).is_multiple_of(lba)
    }

    /// Takes a command in; it counts as in flight until `finish`, `cancel` or `abandon`, and until
    /// `refused` where the answer is ENODEV.
    pub fn admit(&mut self, session: usize, user: usize, span: Span) -> Result<Ticket, Status> {
        let Span { op, offset, len } = span;
        if op != Op::Flush && !self.fits(offset, len) {
            return Err(Status::from_errno(EINVAL));
        }
        if self.is_off(user, op) {
            self.users[user].in_flight += 1;
            return Err(Status::from_errno(ENODEV));
        }
        let number = self.commands;
        let job = &mut self.sessions[session];
        let key = random::at(job.key, number);
        let options = &job.options;
        let may_sin = job.admitted >= options.fault_after && (op == Op::Flush || len > 0);
        let has_left = options.fault_limit == 0 || job.sins < options.fault_limit;
        let drawn = options.faults.draw(op, random::derive(key, 1)).filter(|_| may_sin);
        let fault = drawn.filter(|&fault| has_left || fault == Fault::Short);
        job.sins += u64::from(fault.is_some_and(|fault| fault != Fault::Short));
        job.admitted += 1;
        let goes_out = options.cut_after == Some(job.admitted);
        self.commands += 1;
        self.users[user].in_flight += 1;
        let ticket = Ticket { session, user, number, key, fault, mark: self.log.end(), cuts: self.cuts };
        if goes_out {
            self.cut();
        } else if ticket.hangs() {
            self.confess(&ticket, span, None);
        }
        Ok(ticket)
    }

    /// The power goes: see the head of `sim`.
    pub fn cut(&mut self) {
        self.log.cut(&mut self.image, self.unit);
        for one in std::mem::take(&mut self.delayed) {
            self.forgive(&one.ticket);
        }
        self.cuts += 1;
    }

    fn confess(&mut self, ticket: &Ticket, span: Span, other: Option<u64>) {
        let Span { op, offset, len } = span;
        if let Some(fault) = ticket.fault {
            self.sins.push(Sin { fault, number: ticket.number, op, offset, len, other });
        }
    }

    /// A sin that was drawn was not committed, or left no mark.
    fn forgive(&mut self, ticket: &Ticket) {
        let session = &mut self.sessions[ticket.session];
        let counted = ticket.fault.is_some_and(|fault| fault != Fault::Short);
        session.sins = session.sins.saturating_sub(u64::from(counted));
    }

    /// Carries a command out. `data` are its bytes in the buffer: of a deallocate, its ranges if it has
    /// several.
    pub fn finish(&mut self, ticket: &Ticket, span: Span, data: &mut [u8]) -> (Status, u32) {
        if self.has_cut(ticket) {
            return (self.undone(ticket, span, data, ENODEV), 0);
        }
        self.users[ticket.user].in_flight -= 1;
        self.store_delayed(|one, now| one.due <= now);
        let (mut span, mut data) = (span, data);
        if ticket.fault == Some(Fault::Short) {
            span.len = self.shortened(ticket, span);
            data = &mut data[..span.len as usize];
        }
        let status = match span.op {
            Op::Read => self.read(ticket, span, data),
            Op::Write => self.write(ticket, span, data),
            Op::Deallocate => self.deallocate(ticket, span, data),
            Op::Flush => self.flush(ticket, span),
        };
        (status, if status.is_ok() && span.op != Op::Flush { span.len } else { 0 })
    }

    /// How much of a transfer is done that comes back short: it ends between two atomic units, as
    /// what follows is a command of its own.
    fn shortened(&self, ticket: &Ticket, span: Span) -> u32 {
        let unit = if span.op == Op::Write { self.unit } else { self.lba };
        let first = unit - u32::try_from(span.offset % u64::from(unit)).unwrap_or(0);
        let Some(rest) = span.len.checked_sub(first + 1).filter(|_| span.len > unit) else { return span.len };
        let ends = u64::from(rest / unit + 1);
        let drawn = random::below(random::derive(ticket.key, 2), ends);
        first + unit * u32::try_from(drawn).unwrap_or(0)
    }

    /// Ends a command that hangs: it may have done all, some or nothing.
    pub fn cancel(&mut self, ticket: &Ticket, span: Span, data: &[u8]) -> Status {
        let errno = if self.has_cut(ticket) { ENODEV } else { ECANCELED };
        self.undone(ticket, span, data, errno)
    }

    /// Forgets a command whose queue is no more.
    pub fn abandon(&mut self, ticket: &Ticket) {
        self.users[ticket.user].in_flight -= 1;
    }

    /// A command that failed on its way has done some of its atomic units, by chance.
    fn undone(&mut self, ticket: &Ticket, span: Span, data: &[u8], errno: i32) -> Status {
        let user = &mut self.users[ticket.user];
        user.in_flight -= 1;
        user.knows |= errno == ENODEV;
        if !ticket.hangs() {
            self.forgive(ticket);
        }
        let pieces = match span.op {
            Op::Write => vec![self.piece(span.offset, data.into())],
            Op::Deallocate => spans(span, data).into_iter().flat_map(|span| self.zeros(span)).collect(),
            Op::Read | Op::Flush => Vec::new(),
        };
        let change = Change { key: ticket.key, whole: span.len <= self.unit, pieces };
        let pieces = change.survivors(self.unit);
        // Without power there is no cache: what has landed stays.
        self.store(ticket, span, pieces, errno == ENODEV);
        Status::from_errno(errno)
    }

    fn piece(&self, offset: u64, new: Box<[u8]>) -> Piece {
        Piece { offset, old: self.image.copy(offset, new.len()), new }
    }

    fn zeros(&self, span: Span) -> Vec<Piece> {
        let parts = self.image.written(span.offset, u64::from(span.len));
        parts.into_iter().map(|(offset, len)| self.piece(offset, vec![0; len].into())).collect()
    }

    /// Puts pieces into the image, and into the cache where there is one.
    fn store(&mut self, ticket: &Ticket, span: Span, pieces: Vec<Piece>, durable: bool) {
        for piece in &pieces {
            self.image.write(piece.offset, &piece.new);
            self.heal(piece.offset, piece.new.len() as u64);
        }
        // What makes a write durable (O_DSYNC, FUA) is not asked for with a deallocate.
        let through = span.op == Op::Write && self.sessions[ticket.session].writes_through;
        if durable || !self.cached || through {
            pieces.iter().for_each(|piece| self.log.etch(piece.offset, &piece.new));
        } else if !pieces.is_empty() {
            self.log.push(Change { key: ticket.key, whole: span.len <= self.unit, pieces });
        }
    }

    fn lbas(&self, offset: u64, len: u64) -> std::ops::Range<u64> {
        let lba = u64::from(self.lba);
        offset / lba..(offset + len).div_ceil(lba)
    }

    /// What is written anew can be read again.
    fn heal(&mut self, offset: u64, len: u64) {
        let lbas = self.lbas(offset, len);
        while let Some(&bad) = self.unreadable.range(lbas.clone()).next() {
            self.unreadable.remove(&bad);
        }
    }

    fn read(&mut self, ticket: &Ticket, span: Span, data: &mut [u8]) -> Status {
        let meets = |other: Span| {
            span.offset < other.offset + u64::from(other.len)
                && other.offset < span.offset + u64::from(span.len)
        };
        self.store_delayed(|one, _| meets(one.span));
        let lbas = self.lbas(span.offset, u64::from(span.len));
        if self.unreadable.range(lbas).next().is_some() {
            self.forgive(ticket);
            return Status::from_errno(ENODATA);
        }
        self.image.read(span.offset, data);
        if ticket.fault == Some(Fault::TransientRead) {
            let bit = random::below(random::derive(ticket.key, 3), data.len() as u64 * 8);
            let byte = usize::try_from(bit / 8).unwrap_or(0);
            data[byte] ^= 1 << (bit % 8);
            self.confess(ticket, span, Some(span.offset + bit / 8));
        }
        Status::OK
    }

    fn write(&mut self, ticket: &Ticket, span: Span, data: &[u8]) -> Status {
        let Span { offset, len, .. } = span;
        let honest = self.piece(offset, data.into());
        let mut status = Status::OK;
        let stored = match ticket.fault {
            None | Some(Fault::Short) => honest,
            Some(Fault::ReadError) => {
                let lbas = self.lbas(offset, u64::from(len));
                self.store(ticket, span, vec![honest], false);
                self.unreadable.extend(lbas);
                self.confess(ticket, span, None);
                return status;
            }
            Some(Fault::RolledBack) => {
                self.store_later(ticket, span, honest.old.clone());
                honest
            }
            Some(Fault::LateWrite) => {
                self.store_later(ticket, span, honest.new);
                return Status::from_errno(EIO);
            }
            Some(fault) => {
                let key = random::derive(ticket.key, 4);
                match spoil(fault, key, offset, (&honest.old, data), self.lba, self.size) {
                    Some(spoilt) => {
                        if fault == Fault::WriteError {
                            status = Status::from_errno(EIO);
                        }
                        self.confess(ticket, span, spoilt.other);
                        self.piece(spoilt.offset, spoilt.bytes)
                    }
                    None => {
                        self.forgive(ticket);
                        honest
                    }
                }
            }
        };
        self.store(ticket, span, vec![stored], false);
        status
    }

    /// Plans that these contents are stored some commands later.
    fn store_later(&mut self, ticket: &Ticket, span: Span, contents: Box<[u8]>) {
        if self.delayed.len() == MAX_DELAYED {
            let oldest = self.delayed[0].ticket.number;
            self.store_delayed(|one, _| one.ticket.number == oldest);
        }
        let wait = 1 + random::below(random::derive(ticket.key, 5), DELAYED_WITHIN);
        let due = self.commands + wait;
        self.delayed.push(Delayed { ticket: *ticket, span, due, contents });
    }

    /// Stores the contents for which it is time.
    fn store_delayed(&mut self, is_due: impl Fn(&Delayed, u64) -> bool) {
        let mut index = 0;
        while index < self.delayed.len() {
            if !is_due(&self.delayed[index], self.commands) {
                index += 1;
                continue;
            }
            let Delayed { mut ticket, span, contents, .. } = self.delayed.remove(index);
            // At a power cut it has a fate of its own.
            ticket.key = random::derive(ticket.key, 7);
            let piece = self.piece(span.offset, contents);
            if piece.old == piece.new {
                self.forgive(&ticket);
            } else {
                self.confess(&ticket, span, None);
                self.store(&ticket, span, vec![piece], false);
            }
        }
    }

    fn deallocate(&mut self, ticket: &Ticket, span: Span, ranges: &[u8]) -> Status {
        let spans = spans(span, ranges);
        if ticket.fault == Some(Fault::UndeadTrim) {
            let marked = |span: &Span| self.zeros(*span).iter().any(|piece| piece.old != piece.new);
            let undead: Vec<Span> = spans.iter().copied().filter(marked).collect();
            undead.iter().for_each(|&span| self.confess(ticket, span, None));
            if !undead.is_empty() {
                return Status::OK;
            }
            self.forgive(ticket);
        }
        let pieces = spans.iter().flat_map(|&span| self.zeros(span)).collect();
        spans.iter().for_each(|span| self.heal(span.offset, u64::from(span.len)));
        self.store(ticket, span, pieces, false);
        Status::OK
    }

    fn flush(&mut self, ticket: &Ticket, span: Span) -> Status {
        if !self.sessions[ticket.session].options.path_flushes {
            return Status::OK;
        }
        if ticket.fault == Some(Fault::LyingFlush) {
            if self.log.holds_before(ticket.mark) {
                self.confess(ticket, span, None);
                return Status::OK;
            }
            self.forgive(ticket);
        }
        self.log.flush(ticket.mark);
        Status::OK
    }

    /// Pages that take memory.
    #[cfg(test)]
    pub fn pages(&self) -> usize {
        self.image.pages()
    }
}
