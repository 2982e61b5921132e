//! How busy each CPU of the machine was, with whatever work: what the kernel counts in `/proc/stat`.

use std::collections::BTreeMap;

use super::{Sysfs, read_lossy};

/// Time of one CPU in ticks of the kernel, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    /// With nothing to do, waiting for I/O or not.
    idle: u64,
    /// In all.
    all: u64,
}

/// The CPUs at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes(BTreeMap<u32, Ticks>);

/// How idle the CPUs were between two moments, in percent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Idleness {
    /// All CPUs together.
    pub system: f64,
    /// Each by itself.
    pub cpus: Vec<(u32, f64)>,
}

impl CpuTimes {
    /// Now; nothing where the kernel does not say.
    #[must_use]
    pub fn now(sysfs: &Sysfs) -> CpuTimes {
        read_lossy(&sysfs.proc.join("stat"))
            .map_or_else(|_| CpuTimes::default(), |text| CpuTimes::parse(&text))
    }

    fn parse(text: &str) -> CpuTimes {
        let line = |line: &str| {
            let mut words = line.strip_prefix("cpu")?.split_whitespace();
            let cpu = words.next().filter(|_| !line.starts_with("cpu "))?.parse().ok()?;
            // user nice system idle iowait irq softirq steal; guests are in user and nice already.
            let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
            let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
            Some((cpu, Ticks { idle, all: ticks.iter().sum() }))
        };
        CpuTimes(text.lines().filter_map(line).collect())
    }

    /// How idle the CPUs were from `before` to this moment. A CPU that was not there at both is left out.
    #[must_use]
    pub fn since(&self, before: &CpuTimes) -> Idleness {
        let mut whole = Ticks::default();
        let mut idleness = Idleness::default();
        for (cpu, now) in &self.0 {
            let Some(then) = before.0.get(cpu) else { continue };
            let idle = now.idle.saturating_sub(then.idle);
            let all = now.all.saturating_sub(then.all);
            whole = Ticks { idle: whole.idle + idle, all: whole.all + all };
            idleness.cpus.push((*cpu, percent(idle, all)));
        }
        idleness.system = percent(whole.idle, whole.all);
        idleness
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 100.0 / whole as f64).min(100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idleness_is_the_share_of_what_came_between() {
        let before = CpuTimes::parse(
            "cpu  9 9 9 9\ncpu0 10 0 10 80 0 0 0 0 5 0\ncpu1 0 0 0 100 0 0 0 0 0 0\nintr 5\n",
        );
        let after =
            CpuTimes::parse("cpu  9 9 9 9\ncpu0 85 0 10 95 5 5 0 0 9 0\ncpu1 0 0 0 200 0 0 0 0 0 0\n");
        let idleness = after.since(&before);
        assert_eq!(idleness, Idleness { system: 60.0, cpus: vec![(0, 20.0), (1, 100.0)] });
        assert_eq!(after.since(&CpuTimes::default()), Idleness::default());
    }
}
