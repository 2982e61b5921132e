//! What the machine did during the run: block devices below the targets, and idle CPUs.

use serde_json::{Map, Value};

use crate::base::host::cpu_time::Idleness;
use crate::base::host::disk_util::{DiskCounts, DiskUse};

use super::MachineReport;
use super::json::number;
use super::text::{counted, printable, wrapped};

/// fio's `disk_util`.
pub(super) fn disks_object(disks: &[DiskUse]) -> Value {
    disks.iter().map(|disk| disk_object(disks, disk)).collect()
}

fn disk_object(disks: &[DiskUse], disk: &DiskUse) -> Value {
    let mut map = Map::new();
    map.insert("name".to_owned(), disk.name.clone().into());
    put(&mut map, "", &disk.counts, disk.busy_percent());
    if let Some((average, busiest)) = below(disks, disk) {
        put(&mut map, "aggr_", &average, busiest);
    }
    Value::Object(map)
}

fn put(map: &mut Map<String, Value>, before: &str, counts: &DiskCounts, busy_percent: f64) {
    let merge = if before.is_empty() { "write_merges" } else { "write_merge" };
    let numbers = [
        ("read_ios", counts.ios[0]),
        ("write_ios", counts.ios[1]),
        ("read_sectors", counts.sectors[0]),
        ("write_sectors", counts.sectors[1]),
        ("read_merges", counts.merges[0]),
        (merge, counts.merges[1]),
        ("read_ticks", counts.ticks[0]),
        ("write_ticks", counts.ticks[1]),
        ("in_queue", counts.in_queue),
    ];
    for (name, value) in numbers {
        map.insert(format!("{before}{name}"), value.into());
    }
    map.insert(format!("{before}util"), number(busy_percent));
}

/// The average of the devices that one is made of, and how busy the busiest was, as in fio.
fn below(disks: &[DiskUse], disk: &DiskUse) -> Option<(DiskCounts, f64)> {
    let slaves: Vec<&DiskUse> = disks.iter().filter(|other| disk.slaves.contains(&other.name)).collect();
    let count = slaves.len() as u64;
    if count == 0 {
        return None;
    }
    let mut sum = DiskCounts::default();
    slaves.iter().for_each(|slave| sum.add(&slave.counts));
    let share = |pair: [u64; 2]| pair.map(|value| value / count);
    let average = DiskCounts {
        ios: share(sum.ios),
        merges: share(sum.merges),
        sectors: share(sum.sectors),
        ticks: share(sum.ticks),
        busy: sum.busy / count,
        in_queue: sum.in_queue / count,
    };
    Some((average, slaves.iter().map(|slave| slave.busy_percent()).fold(0.0, f64::max)))
}

/// fio's `cpu_idleness`, without the unit work that nothing is calibrated by here.
pub(super) fn idleness_object(idleness: &Idleness, each_cpu: bool) -> Value {
    let mut map = Map::new();
    map.insert("system".to_owned(), number(idleness.system));
    if each_cpu {
        for (cpu, idle) in &idleness.cpus {
            map.insert(format!("cpu-{cpu}"), number(*idle));
        }
    }
    Value::Object(map)
}

/// Both for people; nothing where nothing was watched.
pub(super) fn text(machine: &MachineReport, width: usize) -> String {
    let mut out = String::new();
    if !machine.disks.is_empty() {
        out.push_str("\ndisks (read/write):\n");
    }
    for disk in &machine.disks {
        let mut line = counts_text(&disk.counts, disk.busy_percent());
        if let Some((average, busiest)) = below(&machine.disks, disk) {
            let devices = counted(disk.slaves.len() as u64, "device", "devices");
            line.push_str(&format!(
                "; {devices} below it, on average {}, of the busiest",
                counts_text(&average, busiest)
            ));
        }
        out.push_str(&wrapped(&format!("  {}: ", printable(&disk.name)), &line, width));
    }
    if let Some(idleness) = &machine.idleness {
        out.push_str(&format!("\nCPU idleness:\n  system: {:.2}%\n", idleness.system));
        if machine.each_cpu {
            let each: Vec<String> =
                idleness.cpus.iter().map(|(cpu, idle)| format!("cpu {cpu}: {idle:.2}%")).collect();
            out.push_str(&wrapped("  percpu: ", &each.join(", "), width));
        }
    }
    out
}

fn counts_text(counts: &DiskCounts, busy_percent: f64) -> String {
    let pair = |[reads, writes]: [u64; 2]| format!("{reads}/{writes}");
    format!(
        "ios={}, sectors={}, merge={}, ticks={}, in_queue={}, util={busy_percent:.2}%",
        pair(counts.ios),
        pair(counts.sectors),
        pair(counts.merges),
        pair(counts.ticks),
        counts.in_queue,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn disk(name: &str, reads: u64, busy: u64, slaves: &[&str]) -> DiskUse {
        DiskUse {
            name: name.to_owned(),
            counts: DiskCounts { ios: [reads, 2], busy, ..DiskCounts::default() },
            elapsed_ms: 1000,
            slaves: slaves.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn what_a_device_is_made_of_is_averaged_and_the_busiest_named() {
        let disks =
            [disk("md0", 100, 500, &["sda", "sdb"]), disk("sda", 60, 300, &[]), disk("sdb", 41, 900, &[])];
        let objects = disks_object(&disks);
        let raid = &objects[0];
        assert_eq!((&raid["read_ios"], &raid["util"]), (&json!(100), &json!(50.0)));
        assert_eq!((&raid["aggr_read_ios"], &raid["aggr_util"]), (&json!(50), &json!(90.0)));
        assert!(raid.get("aggr_write_merge").is_some() && objects[1].get("aggr_util").is_none());
        let machine = MachineReport { disks: disks.to_vec(), ..MachineReport::default() };
        assert!(text(&machine, 110).contains("  md0: ios=100/2"), "{}", text(&machine, 110));
    }

    #[test]
    fn idle_cpus_are_told_one_by_one_only_when_asked_for() {
        let idleness = Idleness { system: 60.0, cpus: vec![(0, 20.0), (1, 100.0)] };
        assert_eq!(idleness_object(&idleness, false), json!({ "system": 60.0 }));
        assert_eq!(idleness_object(&idleness, true)["cpu-1"], json!(100.0));
    }
}
