//! Reports: what a server measured, in the terms of the wire, and back.
//!
//! What arrives is not trusted. What contradicts itself is refused, with a sentence; what only a newer
//! version knows is left out or put under the nearest thing that is known here, with a note in the report.

mod device;
mod job;
mod stats;
#[cfg(test)]
mod tests;
mod verify;

use super::bench;
use super::live::{trigger_from, trigger_to};
use crate::base::host::cpu_time::Idleness;
use crate::base::host::disk_util::{DiskCounts, DiskUse};
use crate::base::host::printable;
use crate::report::{CpuUse, MachineReport, PremisesReport, ReactorReport, Report, TargetReport};

/// All counters of a report together: so nothing that is added up later overflows.
const MOST_IN_ALL: u128 = 1 << 60;
/// All times of a report together: a month of hundreds of workers is more than 2^60 ns.
const MOST_TIME_NS: u128 = 1 << 62;
/// Lines of a report, as there are workers at most.
pub const MOST_JOBS: usize = 4096;
/// A histogram takes 30 KB of memory even where nothing is in it: so many there are of a job, and so many
/// more of priorities and the like.
const HISTOGRAMS_OF_JOB: usize = 16;
const MORE_HISTOGRAMS: usize = 4096;
/// Reactors, targets, disks, notes: each.
const MOST_ENTRIES: usize = 1 << 16;
/// Notes that are added here.
const MOST_OWN_NOTES: usize = 64;

/// In the terms of the wire.
#[must_use]
pub fn encode(report: &Report) -> bench::Report {
    bench::Report {
        time_unix_ms: report.time_unix_ms,
        started_unix_ms: report.started_unix_ms,
        unfinished: report.unfinished,
        ended_by_signal: report.ended_by_signal,
        notes: report.notes.clone(),
        jobs: report.jobs.iter().map(job::to).collect(),
        reactors: report.reactors.iter().map(reactor_to).collect(),
        targets: report.targets.iter().map(target_to).collect(),
        job_toml: report.job_toml.clone(),
        trigger: report.trigger.as_ref().map(trigger_to),
        machine: Some(machine_to(&report.machine)),
    }
}

/// In our own.
///
/// # Errors
/// What is wrong with it, to be put behind "the report of ... is damaged: ".
pub fn decode(report: &bench::Report) -> Result<Report, String> {
    decode_at_most(report, MOST_JOBS)
}

/// Like [`decode`], for who knows how many jobs there can be: more would be made up to take memory.
///
/// # Errors
/// See [`decode`].
pub fn decode_at_most(report: &bench::Report, most_jobs: usize) -> Result<Report, String> {
    let most_jobs = most_jobs.min(MOST_JOBS);
    let histograms_left = HISTOGRAMS_OF_JOB * most_jobs + MORE_HISTOGRAMS;
    let mut reader = Reader { counted: 0, timed_ns: 0, histograms_left, notes: Vec::new() };
    few("jobs", report.jobs.len(), most_jobs)?;
    few("reactors", report.reactors.len(), MOST_ENTRIES)?;
    few("targets", report.targets.len(), MOST_ENTRIES)?;
    few("notes", report.notes.len(), MOST_ENTRIES)?;
    let jobs = report.jobs.iter().map(|job| job::from(job, &mut reader)).collect::<Result<_, _>>()?;
    let reactors = report.reactors.iter().map(|one| reactor_from(one, &mut reader));
    let reactors = reactors.collect::<Result<_, _>>()?;
    let machine = report.machine.as_ref().map(|machine| machine_from(machine, &mut reader)).transpose()?;
    let targets = report.targets.iter().map(target_from).collect::<Result<_, _>>()?;
    let mut notes = report.notes.clone();
    notes.append(&mut reader.notes);
    Ok(Report {
        time_unix_ms: report.time_unix_ms,
        started_unix_ms: report.started_unix_ms,
        unfinished: report.unfinished,
        ended_by_signal: report.ended_by_signal,
        notes,
        jobs,
        reactors,
        targets,
        job_toml: report.job_toml.clone(),
        trigger: report.trigger.clone().map(trigger_from),
        machine: machine.unwrap_or_default(),
    })
}

/// What is counted while a report is read, and what the reader of it should know.
struct Reader {
    counted: u128,
    timed_ns: u128,
    histograms_left: usize,
    notes: Vec<String>,
}

impl Reader {
    /// A counter.
    fn count(&mut self, number: u64) -> Result<u64, String> {
        self.counted += u128::from(number);
        if self.counted > MOST_IN_ALL {
            return Err("its counters together exceed 2^60".to_owned());
        }
        Ok(number)
    }

    /// A time that somebody took.
    fn time(&mut self, ns: u64) -> Result<u64, String> {
        self.timed_ns += u128::from(ns);
        if self.timed_ns > MOST_TIME_NS {
            return Err("its times together exceed 2^62 ns".to_owned());
        }
        Ok(ns)
    }

    /// Something that only a newer version knows.
    fn note(&mut self, text: String) {
        if self.notes.len() < MOST_OWN_NOTES && !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}

fn few(what: &str, number: usize, most: usize) -> Result<(), String> {
    if number > most { Err(format!("{number} {what}: {most} are the most")) } else { Ok(()) }
}

/// A number that is one.
fn finite(what: &str, number: f64) -> Result<f64, String> {
    if number.is_finite() { Ok(number) } else { Err(format!("{what} is not a number")) }
}

/// A number that has less room here than on the wire.
fn small<T: TryFrom<u32>>(what: &str, number: u32) -> Result<T, String> {
    T::try_from(number).map_err(|_| format!("{what} is {number}"))
}

fn shown(text: Option<&String>) -> Option<String> {
    text.map(|text| printable(text))
}

fn cpu_to(cpu: &CpuUse) -> bench::CpuUse {
    bench::CpuUse {
        user_ns: cpu.user_ns,
        system_ns: cpu.system_ns,
        elapsed_ns: cpu.elapsed_ns,
        context_switches: cpu.context_switches,
        major_faults: cpu.major_faults,
        minor_faults: cpu.minor_faults,
        waiting_ns: cpu.waiting_ns,
    }
}

fn cpu_from(cpu: Option<&bench::CpuUse>, reader: &mut Reader) -> Result<CpuUse, String> {
    let Some(cpu) = cpu else { return Ok(CpuUse::default()) };
    Ok(CpuUse {
        user_ns: reader.time(cpu.user_ns)?,
        system_ns: reader.time(cpu.system_ns)?,
        elapsed_ns: reader.time(cpu.elapsed_ns)?,
        context_switches: reader.count(cpu.context_switches)?,
        major_faults: reader.count(cpu.major_faults)?,
        minor_faults: reader.count(cpu.minor_faults)?,
        waiting_ns: reader.time(cpu.waiting_ns)?,
    })
}

fn reactor_to(reactor: &ReactorReport) -> bench::ReactorReport {
    bench::ReactorReport {
        cpu: reactor.cpu,
        workers: reactor.workers.clone(),
        busy_turns: reactor.busy_turns,
        idle_turns: reactor.idle_turns,
        cpu_use: Some(cpu_to(&reactor.cpu_use)),
        unpinned_ns: reactor.unpinned_ns,
    }
}

fn reactor_from(reactor: &bench::ReactorReport, reader: &mut Reader) -> Result<ReactorReport, String> {
    Ok(ReactorReport {
        cpu: reactor.cpu,
        workers: reactor.workers.clone(),
        busy_turns: reader.count(reactor.busy_turns)?,
        idle_turns: reader.count(reactor.idle_turns)?,
        cpu_use: cpu_from(reactor.cpu_use.as_ref(), reader)?,
        unpinned_ns: reader.time(reactor.unpinned_ns)?,
    })
}

fn target_to(target: &TargetReport) -> bench::TargetReport {
    bench::TargetReport {
        path: target.path.clone(),
        size_bytes: target.size_bytes,
        device: target.device.as_ref().map(device::summary_to),
        nvme: target.nvme.as_ref().map(device::facts_to),
        premises: target.premises.as_ref().map(premises_to),
    }
}

fn target_from(target: &bench::TargetReport) -> Result<TargetReport, String> {
    Ok(TargetReport {
        path: target.path.clone(),
        size_bytes: target.size_bytes,
        device: target.device.as_ref().map(device::summary_from),
        nvme: target.nvme.as_ref().map(device::facts_from).transpose()?,
        premises: target.premises.as_ref().map(premises_from),
    })
}

fn premises_to(premises: &PremisesReport) -> bench::Premises {
    bench::Premises {
        cache_on: premises.cache_on,
        cache: premises.cache.clone(),
        flushes_reach: premises.flushes_reach,
        flushes: premises.flushes.clone(),
        atomic: premises.atomic.clone(),
        deallocated: premises.deallocated.clone(),
        power_loss_protection: premises.protection.clone(),
        broken: premises.broken.clone(),
    }
}

fn premises_from(premises: &bench::Premises) -> PremisesReport {
    PremisesReport {
        cache_on: premises.cache_on,
        cache: premises.cache.clone(),
        flushes_reach: premises.flushes_reach,
        flushes: premises.flushes.clone(),
        atomic: premises.atomic.clone(),
        deallocated: premises.deallocated.clone(),
        protection: premises.power_loss_protection.clone(),
        broken: premises.broken.clone(),
    }
}

fn machine_to(machine: &MachineReport) -> bench::MachineReport {
    let percent = |&(cpu, percent): &(u32, f64)| bench::CpuIdleness { cpu, percent };
    bench::MachineReport {
        disks: machine.disks.iter().map(disk_to).collect(),
        idleness: machine.idleness.as_ref().map(|idleness| bench::Idleness {
            system_percent: idleness.system,
            cpus: idleness.cpus.iter().map(percent).collect(),
        }),
        each_cpu: machine.each_cpu,
    }
}

fn machine_from(machine: &bench::MachineReport, reader: &mut Reader) -> Result<MachineReport, String> {
    few("disks", machine.disks.len(), MOST_ENTRIES)?;
    let idleness = |idleness: &bench::Idleness| {
        few("CPUs", idleness.cpus.len(), MOST_ENTRIES)?;
        let percent = |one: &bench::CpuIdleness| Ok((one.cpu, finite("how idle a CPU was", one.percent)?));
        Ok::<_, String>(Idleness {
            system: finite("how idle the CPUs were", idleness.system_percent)?,
            cpus: idleness.cpus.iter().map(percent).collect::<Result<_, String>>()?,
        })
    };
    Ok(MachineReport {
        disks: machine.disks.iter().map(|disk| disk_from(disk, reader)).collect::<Result<_, _>>()?,
        idleness: machine.idleness.as_ref().map(idleness).transpose()?,
        each_cpu: machine.each_cpu,
    })
}

fn disk_to(disk: &DiskUse) -> bench::DiskUse {
    let side = |side: usize| bench::DiskCounts {
        ios: disk.counts.ios[side],
        merges: disk.counts.merges[side],
        sectors: disk.counts.sectors[side],
        ticks_ms: disk.counts.ticks[side],
    };
    bench::DiskUse {
        name: disk.name.clone(),
        read: Some(side(0)),
        write: Some(side(1)),
        busy_ms: disk.counts.busy,
        in_queue_ms: disk.counts.in_queue,
        elapsed_ms: disk.elapsed_ms,
        slaves: disk.slaves.clone(),
    }
}

fn disk_from(disk: &bench::DiskUse, reader: &mut Reader) -> Result<DiskUse, String> {
    let sides = [disk.read.unwrap_or_default(), disk.write.unwrap_or_default()];
    let mut counts = DiskCounts {
        busy: reader.count(disk.busy_ms)?,
        in_queue: reader.count(disk.in_queue_ms)?,
        ..DiskCounts::default()
    };
    for (index, side) in sides.iter().enumerate() {
        counts.ios[index] = reader.count(side.ios)?;
        counts.merges[index] = reader.count(side.merges)?;
        counts.sectors[index] = reader.count(side.sectors)?;
        counts.ticks[index] = reader.count(side.ticks_ms)?;
    }
    Ok(DiskUse {
        name: printable(&disk.name),
        counts,
        elapsed_ms: disk.elapsed_ms,
        slaves: disk.slaves.iter().map(|name| printable(name)).collect(),
    })
}
