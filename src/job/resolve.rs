//! From the settings of `[global]`, `[[job]]` and the command line to one [`JobSpec`].

use super::diagnostic::{Issue, Issues, Place};
use super::options::OPTIONS;
use super::spec::{
    CommandsSpec, ContentSpec, ContinueOn, CpusPolicy, Fallocate, FilesSpec, HostSpec, IoUringSpec, JobSpec,
    LogsSpec, MeasuringSpec, OrderSpec, PaceSpec, PlacesSpec, ReplaySpec, SyncMode,
};
use super::table::{explain_unknown, find, index_of};
use super::value::Value;
use super::{checks, shapes, spdk};
use crate::base::cut::{StateSpec, TriggerSpec};
use crate::base::shape::{Amount, BlockSizes, Distribution, Mix};
use crate::base::sim::SimOptions;
use crate::base::spdk::SpdkOptions;
use crate::base::verify::VerifySpec;
use crate::base::{Op, PerOp};

/// The options that set `JobSpec::bs`.
const BLOCK_SIZES: [&str; 3] = ["bs", "bsrange", "bssplit"];

/// One option as it was set somewhere.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Index in the table.
    pub option: usize,
    /// Where its name stands.
    pub key: Place,
    /// Its value.
    pub value: Value,
}

/// The settings of one `[global]`, of one `[[job]]`, or of the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Level {
    pub settings: Vec<Setting>,
}

/// A job on its way to a [`JobSpec`].
pub(crate) struct Draft<'a> {
    pub job: JobSpec,
    /// For each option of the table, the setting in force.
    origin: Vec<Option<&'a Setting>>,
    /// Where the job itself stands.
    pub header: Place,
}

impl Draft<'_> {
    /// The setting of an option that is in force.
    pub(crate) fn setting(&self, name: &str) -> Option<&Setting> {
        *self.origin.get(index_of(name))?
    }

    /// Where to point for an option: its value, or the job if it was not set.
    pub(crate) fn place(&self, name: &str) -> &Place {
        self.setting(name).map_or(&self.header, |setting| &setting.value.place)
    }
}

impl Level {
    /// Takes in named values; what is no option, or is set twice, becomes an issue.
    pub(crate) fn read(entries: Vec<(String, Place, Value)>, issues: &mut Issues) -> Level {
        let mut level = Level::default();
        for (name, key, value) in entries {
            // Looking for near names takes time; a table of a million of them is no job.
            if issues.stops() {
                break;
            }
            let Some((option, def)) = find(&name) else {
                let (message, help) = explain_unknown(&name);
                let mut issue = Issue::new(message).at(&key);
                issue.help.extend(help);
                issues.push(issue);
                continue;
            };
            if level.settings.iter().any(|setting| setting.option == option) {
                let message =
                    format!("`{name}` is another name of `{}`, which is already set here", def.name);
                issues.push(Issue::new(message).at(&key));
                continue;
            }
            level.settings.push(Setting { option, key, value });
        }
        level.refuse_rivals(issues);
        level
    }

    /// What a copy of the values takes, roughly, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.settings.iter().map(|setting| setting.value.bytes()).sum()
    }

    /// Options that set the same thing may replace each other between levels, not within one.
    fn refuse_rivals(&self, issues: &mut Issues) {
        let rivals: [&[&str]; 4] = [
            &BLOCK_SIZES,
            &["rwmixread", "rwmixwrite"],
            &["direct", "buffered"],
            &["cpus_allowed", "cpumask"],
        ];
        for names in rivals {
            let mut set =
                self.settings.iter().filter(|setting| names.contains(&OPTIONS[setting.option].name));
            let Some(first) = set.next() else { continue };
            for other in set {
                if self.agree(first, other) {
                    continue;
                }
                let (first, name) = (OPTIONS[first.option].name, OPTIONS[other.option].name);
                let issue = Issue::new(format!("`{name}` sets the same as `{first}`, which is set here too"));
                issues.push(issue.at(&other.key).help("keep one of them"));
            }
        }
    }

    /// Whether two rival options come to the same, as `rwmixread = 70` and `rwmixwrite = 30` do.
    fn agree(&self, one: &Setting, other: &Setting) -> bool {
        let set = |setting: &Setting| {
            let mut job = JobSpec::default();
            let outcome = OPTIONS[setting.option].kind.set(&mut job, &setting.value);
            outcome.is_ok().then_some(job)
        };
        let mix =
            |setting: &Setting| set(setting).map(|job| (job.rwmixread, job.bs, job.direct, job.cpus_allowed));
        let is_block_size = BLOCK_SIZES.contains(&OPTIONS[one.option].name);
        !is_block_size && mix(one).is_some() && mix(one) == mix(other)
    }

    /// Applies the settings to a draft.
    fn apply<'a>(&'a self, draft: &mut Draft<'a>, issues: &mut Issues) {
        for setting in &self.settings {
            let option = &OPTIONS[setting.option];
            let outcome = option.kind.set(&mut draft.job, &setting.value);
            draft.origin[setting.option] = Some(setting);
            // The place to blame for block sizes is the one that set them last.
            if BLOCK_SIZES.contains(&option.name) {
                for rival in BLOCK_SIZES.iter().filter(|rival| **rival != option.name) {
                    draft.origin[index_of(rival)] = None;
                }
            }
            if let Err(mut issue) = outcome {
                issue.place.get_or_insert_with(|| setting.value.place.clone());
                issue.message = format!("`{}`: {}", option.name, issue.message);
                if issue.label.is_empty() {
                    issue.label = format!("expected {}", option.form());
                }
                issues.push(issue);
            }
        }
    }
}

/// Makes a job of its levels, the later ones above the earlier. `None` if there is an issue.
/// Unless the levels are `complete`, what holds between options is not checked.
pub(crate) fn resolve(
    levels: &[&Level],
    index: usize,
    header: &Place,
    complete: bool,
    issues: &mut Issues,
) -> Option<JobSpec> {
    let origin = OPTIONS.iter().map(|_| None).collect();
    let mut draft = Draft { job: unfinished(), origin, header: header.clone() };
    if index > 0 {
        draft.job.name = format!("job{}", index + 1);
    }
    let before = issues.len();
    for level in levels {
        level.apply(&mut draft, issues);
    }
    if complete {
        spdk::settle(&mut draft, before, issues);
    }
    if issues.len() > before {
        return None;
    }
    // One job file serves the run that only writes and the one that only judges: the later word wins.
    if draft.job.verify.only && level_of(levels, "verify_only") > level_of(levels, "do_verify") {
        draft.job.verify.do_verify = true;
    }
    finish(&mut draft.job);
    if complete {
        checks::check(&draft, issues);
    }
    if issues.len() > before {
        return None;
    }
    draft.job.options = options_of(&draft.job);
    Some(draft.job)
}

/// The last of the levels that sets an option, counted from 0.
fn level_of(levels: &[&Level], name: &str) -> Option<usize> {
    let option = index_of(name);
    levels.iter().rposition(|level| level.settings.iter().any(|setting| setting.option == option))
}

/// What [`JobSpec::options`] holds: all that differs from the defaults, in TOML.
pub(crate) fn options_of(job: &JobSpec) -> Vec<(String, String)> {
    let (mut job, mut default) = (job.clone(), JobSpec::default());
    let differing = OPTIONS.iter().filter_map(|option| {
        let text = option.kind.show(&mut job)?;
        (option.kind.show(&mut default).as_ref() != Some(&text)).then(|| (option.name.to_owned(), text))
    });
    differing.collect()
}

impl Default for JobSpec {
    /// A job for which nothing was said.
    fn default() -> JobSpec {
        let mut job = unfinished();
        finish(&mut job);
        job
    }
}

/// Fills in what depends on other options.
fn finish(job: &mut JobSpec) {
    let depth = job.iodepth;
    let as_depth = |number: &mut u32| {
        if *number == 0 {
            *number = depth;
        }
    };
    as_depth(&mut job.iodepth_batch_submit);
    as_depth(&mut job.iodepth_batch_complete_max);
    as_depth(&mut job.iodepth_low);
    // Who judges by a snapshot writes nothing.
    if job.state.load {
        (job.verify.only, job.verify.do_verify) = (true, true);
    }
    job.finish_places();
    // Only direct writes can be atomic, as in fio.
    job.direct |= job.commands.atomic;
    for op in [Op::Read, Op::Write, Op::Deallocate] {
        if *job.blockalign.get(op) == 0 {
            *job.blockalign.get_mut(op) = job.sizes_of(op).min();
        }
    }
}

/// The defaults, with 0 where an option follows another one.
fn unfinished() -> JobSpec {
    JobSpec {
        name: "job".to_owned(),
        description: None,
        ioengine: "psync".to_owned(),
        filename: Vec::new(),
        directory: None,
        nrfiles: 1,
        random: false,
        mix: Mix::Read,
        rw_modifier: None,
        rwmixread: 50,
        bs: PerOp::all(BlockSizes::Fixed(shapes::DEFAULT_BS)),
        blockalign: PerOp::all(0),
        size: None,
        io_size: None,
        offset: Amount::Bytes(0),
        offset_increment: Amount::Bytes(0),
        number_ios: None,
        loops: 1,
        runtime_ns: None,
        time_based: false,
        ramp_time_ns: 0,
        numjobs: 1,
        iodepth: 1,
        iodepth_batch_submit: 0,
        iodepth_batch_complete_min: 1,
        iodepth_batch_complete_max: 0,
        iodepth_low: 0,
        direct: false,
        sync: SyncMode::None,
        fsync: 0,
        fdatasync: 0,
        end_fsync: false,
        randseed: None,
        randrepeat: true,
        norandommap: false,
        random_distribution: PerOp::all(Distribution::Random),
        percentage_random: PerOp::all(100),
        cpus_allowed: None,
        cpus_allowed_policy: CpusPolicy::Shared,
        stonewall: false,
        group_reporting: false,
        new_group: false,
        content: ContentSpec::default(),
        continue_on_error: ContinueOn::default(),
        fill_device: false,
        allow_mounted_write: false,
        readonly: false,
        create_only: false,
        fallocate: Fallocate::Native,
        invalidate: true,
        verify: VerifySpec::default(),
        state: StateSpec::default(),
        trigger: TriggerSpec::default(),
        writefua: false,
        serialize_overlap: false,
        reap_timeout_ns: 300 * crate::base::units::SECOND_NS,
        io_uring: IoUringSpec::default(),
        sim: SimOptions::default(),
        spdk: SpdkOptions::default(),
        pace: PaceSpec::default(),
        order: OrderSpec::default(),
        host: HostSpec::default(),
        files: FilesSpec::default(),
        logs: LogsSpec::default(),
        replay: ReplaySpec::default(),
        measuring: MeasuringSpec::default(),
        places: PlacesSpec::default(),
        commands: CommandsSpec::default(),
        options: Vec::new(),
    }
}
