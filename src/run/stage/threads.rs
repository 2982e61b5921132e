//! The threads of a stage: each makes its workers, says so, waits for the start and drives them.

use super::*;

pub(super) type Maker = (Arc<dyn OpenJob>, WorkerRequest);

/// What a thread says.
pub enum Message {
    /// Its workers are made, or could not be.
    Ready(Result<Vec<String>, (usize, String)>),
    /// It has ended.
    Ended(Box<Ended>),
}

pub struct Ended {
    pub thread: usize,
    pub(super) outcomes: Vec<WorkerOutcome>,
    pub(super) used: ThreadUse,
}

pub fn thread_name(thread: &Thread, watched: &[Watched]) -> String {
    if let Some(name) = &thread.settings.name {
        return name.clone();
    }
    match (thread.cpus.as_slice(), thread.workers.as_slice()) {
        ([cpu], [_, _, ..]) => format!("reactor-{cpu}"),
        (_, [worker, ..]) => watched[*worker].name.clone(),
        _ => "reactor".to_owned(),
    }
}

/// The life of a thread: bind, make the workers, wait for the start, drive, report.
pub(super) fn reactor_thread(
    number: usize,
    place: &Thread,
    makers: Vec<(usize, Maker)>,
    started: &Receiver<()>,
    messages: &Sender<Message>,
) {
    let first = makers.first().map_or(0, |(worker, _)| *worker);
    // Before buffers and queues are made: they follow what the thread has.
    let bound = bind(&place.cpus).and_then(|()| place.settings.apply(&Sysfs::default()));
    let made = bound.map_err(|why| (first, why)).and_then(|()| make_workers(makers));
    let (workers, notes) = match made {
        Ok(made) => made,
        Err(failure) => {
            let _ = messages.send(Message::Ready(Err(failure)));
            return;
        }
    };
    if messages.send(Message::Ready(Ok(notes))).is_err() || started.recv().is_err() {
        return;
    }
    let clock = Clock::get();
    let (before, begun_ns) = (ThreadUse::now(), clock.now_ns());
    let outcomes = drive(workers, std::thread::sleep);
    let mut used = ThreadUse::now().since(&before);
    used.elapsed_ns = clock.now_ns() - begun_ns;
    let _ = messages.send(Message::Ended(Box::new(Ended { thread: number, outcomes, used })));
}

fn bind(cpus: &[u32]) -> Result<(), String> {
    if cpus.is_empty() { Ok(()) } else { affinity::bind(cpus) }
}

type Made = (Vec<Box<dyn crate::reactor::Turning>>, Vec<String>);

fn make_workers(makers: Vec<(usize, Maker)>) -> Result<Made, (usize, String)> {
    let mut workers = Vec::with_capacity(makers.len());
    let mut notes = Vec::new();
    for (number, (opened, request)) in makers {
        let memory = u64::from(request.config.depth) * u64::from(request.largest_io);
        let (worker, said) = opened.worker(request).map_err(|why| {
            (
                number,
                if why.contains("memory") {
                    format!("{why} ({} for this worker)", format_size(memory))
                } else {
                    why
                },
            )
        })?;
        workers.push(worker);
        notes.extend(said);
    }
    Ok((workers, notes))
}
