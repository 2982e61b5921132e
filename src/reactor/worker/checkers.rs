//! Threads that judge beside the reactor (`verify_async`): reads go out with their buffers, and come
//! back judged.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::host::affinity;
use crate::engine::Io;

use super::checker::{Checked, Checker};
use super::sweep::SweepRead;

/// A read on its way to or from a checking thread.
#[derive(Debug)]
pub(super) struct Parcel {
    pub io: Io,
    /// What of it is judged.
    pub read: SweepRead,
    pub checked: Checked,
}

/// The threads of one worker. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Checkers {
    out: Sender<Parcel>,
    back: Receiver<Parcel>,
    outstanding: u32,
    spare: Vec<Checked>,
}

impl Checkers {
    /// Starts `threads` threads that judge as `checker` does, for at most `depth` reads on their way.
    ///
    /// # Errors
    /// If a thread cannot be started: a sentence.
    pub(super) fn start(
        checker: &Checker,
        threads: u32,
        cpus: Option<&[u32]>,
        depth: u32,
    ) -> Result<Checkers, String> {
        let (out, incoming) = bounded::<Parcel>(depth as usize);
        let (outgoing, back) = bounded::<Parcel>(depth as usize);
        for number in 0..threads {
            let (mut checker, incoming, outgoing) = (checker.clone(), incoming.clone(), outgoing.clone());
            let cpus = cpus.map(<[u32]>::to_vec);
            let work = move || {
                if let Some(cpus) = cpus {
                    // A CPU that is gone since the job was checked: anywhere, then.
                    let _ = affinity::bind(&cpus);
                }
                while let Ok(mut parcel) = incoming.recv() {
                    let Parcel { io, read, checked } = &mut parcel;
                    let range = read.range_in(io);
                    checker.check(&mut io.buffer[range], read.place, checked);
                    if outgoing.send(parcel).is_err() {
                        return;
                    }
                }
            };
            std::thread::Builder::new()
                .name(format!("verify-{number}"))
                .spawn(work)
                .map_err(|error| format!("cannot start a thread for verify_async: {error}"))?;
        }
        let spare = (0..depth).map(|_| Checked::default()).collect();
        Ok(Checkers { out, back, outstanding: 0, spare })
    }

    /// Hands a read over; there is always room, as there are no more reads than buffers.
    pub(super) fn hand_over(&mut self, io: Io, read: SweepRead) -> Result<(), Io> {
        let checked = self.spare.pop().unwrap_or_default();
        match self.out.try_send(Parcel { io, read, checked }) {
            Ok(()) => {
                self.outstanding += 1;
                Ok(())
            }
            Err(error) => Err(error.into_inner().io),
        }
    }

    /// A read that has been judged, if there is one.
    #[inline]
    pub(super) fn take_back(&mut self) -> Option<Parcel> {
        if self.outstanding == 0 {
            return None;
        }
        let parcel = self.back.try_recv().ok()?;
        self.outstanding -= 1;
        Some(parcel)
    }

    /// Gives the memory of a result back.
    pub(super) fn reuse(&mut self, checked: Checked) {
        self.spare.push(checked);
    }

    /// Reads that are out.
    #[inline]
    pub(super) fn outstanding(&self) -> u32 {
        self.outstanding
    }
}
