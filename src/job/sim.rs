//! `sim_faults`: what a simulated drive does wrong, and how often.

use super::diagnostic::Issue;
use super::kind::with_nearest;
use super::spec::JobSpec;
use super::value::{Data, Outcome, Value};
use crate::base::sim::{Fault, FaultRates};

/// The names of the faults.
pub(crate) const FAULT_NAMES: [&str; Fault::ALL.len()] = {
    let mut names = [""; Fault::ALL.len()];
    let mut index = 0;
    while index < Fault::ALL.len() {
        names[index] = Fault::ALL[index].0;
        index += 1;
    }
    names
};

/// `sim_faults`.
pub(crate) fn set_faults(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let mut rates = FaultRates::default();
    match &value.data {
        Data::Table(entries) => {
            for (name, place, value) in entries {
                let fault = fault(name).map_err(|issue| issue.at(place))?;
                rates.set(fault, rate(value)?);
            }
        }
        Data::Text(text) => {
            for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
                let Some((name, share)) = entry.split_once(':') else {
                    return Err(value.bad(format!("`{entry}` has no rate")).help("for example torn:1%"));
                };
                let fault = fault(name.trim()).map_err(|issue| issue.at(&value.place))?;
                if rates.get(fault) > 0 {
                    return Err(value.bad(format!("`{}` is there twice", fault.name())));
                }
                rates.set(fault, share_of(value, share)?);
            }
        }
        _ => return Err(value.wrong("a table of rates, or a string")),
    }
    job.sim.faults = rates;
    Ok(())
}

fn fault(name: &str) -> Outcome<Fault> {
    Fault::from_name(name).ok_or_else(|| {
        with_nearest(Issue::new(format!("`{name}` is no fault")), name, FAULT_NAMES.into_iter())
    })
}

fn rate(value: &Value) -> Outcome<u32> {
    match &value.data {
        Data::Integer(Some(number)) => share_of(value, &number.to_string()),
        Data::Float(text) | Data::Text(text) => share_of(value, text),
        _ => Err(value.wrong("a rate such as 0.01 or \"1%\"")),
    }
}

/// A fraction of 1 or a percentage, in billionths.
fn share_of(value: &Value, text: &str) -> Outcome<u32> {
    let text = text.trim();
    let (number, whole) = match text.strip_suffix('%') {
        Some(percent) => (percent.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let number = number.parse::<f64>().ok().filter(|number| (0.0..=whole).contains(number));
    let Some(number) = number else {
        return Err(value.bad(format!("`{text}` is no rate from 0 to 1, or 0% to 100%")));
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1e9")]
    let billionths = (number / whole * f64::from(FaultRates::WHOLE)).round() as u32;
    if billionths == 0 && number > 0.0 {
        return Err(value.bad(format!("`{text}` is less than one in a billion")));
    }
    Ok(billionths)
}

/// `sim_faults` in TOML, if there are any.
pub(crate) fn show_faults(job: &JobSpec) -> Option<String> {
    let show = |(fault, rate): (Fault, u32)| {
        let (whole, part) = (rate / FaultRates::WHOLE, rate % FaultRates::WHOLE);
        let part = format!("{part:09}");
        let part = part.trim_end_matches('0');
        format!("{} = {whole}.{}", fault.name(), if part.is_empty() { "0" } else { part })
    };
    let list: Vec<String> = job.sim.faults.iter().map(show).collect();
    (!list.is_empty()).then(|| format!("{{ {} }}", list.join(", ")))
}

#[cfg(test)]
mod tests {
    use crate::base::sim::{Fault, FaultRates, SimOptions};
    use crate::job::{parse, print};

    fn jobs(lines: &str) -> Result<Vec<crate::job::JobSpec>, String> {
        let text = format!("[global]\nsize = \"1g\"\n[[job]]\n{lines}\n");
        parse(&[("job.toml".to_owned(), text)], &[]).map_err(|why| why.to_string())
    }

    #[test]
    fn each_rule_has_its_message() {
        for (lines, word) in [
            ("ioengine = \"sim\"\nsize = \"10%\"", "percentage"),
            ("sim_cache = false", "needs ioengine"),
            ("sim_faults = { torn = 0.5 }", "needs ioengine"),
            ("ioengine = \"sim\"\nsim_lba = 1024", "512 or 4096"),
            ("ioengine = \"sim\"\nsim_lba = \"4k\"\nsim_atomic_unit = 512", "multiple"),
            ("ioengine = \"sim\"\nsim_faults = \"torn:60%,lost:41%\"", "more than 100%"),
            ("sim_faults = { torm = 0.1 }", "no fault"),
            ("sim_faults = \"torn\"", "no rate"),
            ("sim_faults = \"torn:101%\"", "no rate from"),
            ("sim_faults = { lost = nan }", "no rate from"),
            ("sim_faults = { lost = -0.5 }", "no rate from"),
            ("sim_faults = { lost = 1e-12 }", "one in a billion"),
            ("sim_faults = \"lost:1%,lost:2%\"", "twice"),
            ("sim_faults = [1]", "a table of rates"),
        ] {
            let why = jobs(lines).unwrap_err();
            assert!(why.contains(word), "{lines}: {why}");
        }
    }

    #[test]
    fn a_drive_is_described_and_prints_back() {
        let lines = "ioengine = \"sim\"\nsim_seed = 3\nsim_lba = 4096\nsim_cache = false\nsim_path_flushes = false\n\
                     sim_atomic_unit = \"16k\"\nsim_latency = \"10us\"\nsim_cut_after = 7\n\
                     sim_fault_after = 2\nsim_fault_limit = 1\n";
        let faults = FaultRates::default()
            .with(Fault::Lost, 100)
            .with(Fault::Torn, 10_000_000)
            .with(Fault::StalledRead, FaultRates::WHOLE);
        let expected = SimOptions {
            seed: 3,
            lba: 4096,
            cache: false,
            path_flushes: false,
            atomic_unit: Some(16384),
            latency_ns: 10_000,
            cut_after: Some(7),
            faults,
            fault_after: 2,
            fault_limit: 1,
        };
        for rates in [
            "{ lost = 0.0000001, torn = \"1%\", stalled_read = 1 }",
            "\"lost:1e-7, torn:1%,stalled_read:100%\"",
        ] {
            let jobs = jobs(&format!("{lines}sim_faults = {rates}")).unwrap();
            assert_eq!(jobs[0].sim, expected);
            assert_eq!(parse(&[("printed".to_owned(), print(&jobs))], &[]).unwrap(), jobs);
        }
    }
}
