//! A campaign under way: golden runs over several starts of the guest, then the trials, so many at
//! once, each written to the store as it is finished. What is in the store is not made again.

use super::attempt::{AttemptError, attempt};
use super::base::{Base, BaseError, Making};
use super::expand::{Kind, Shard, Trial, trials};
use super::golden::{Golden, GoldenError, output_digest};
use super::outcome::{JudgeError, Outcome, Verdict, judge};
use super::plan::Plan;
use super::ran::Ran;
use super::store::{
    DIGEST, Facts, GOLDEN, MARK, NOT_REPEATABLE, PLAN, PLAN_PATH, SHARD, Store, StoreError, Stored,
};
use crate::digest;
use crate::lab::{LabError, end_left_behind};
use crate::vmm::{host_available_memory, host_cpu_model};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// How often a run may come to nothing in a row.
const TRIES: u32 = 5;
/// Starts of the guest that golden runs are made from, at least.
const BOOTS: usize = 2;

/// A campaign that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// Its store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its guest cannot be had.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// Nor what it is made from.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Its golden runs do not serve.
    #[error(transparent)]
    Golden(#[from] GoldenError),
    /// A run failed, which would fail the next time too.
    #[error(transparent)]
    Attempt(#[from] Box<AttemptError>),
    /// Its results cannot be judged.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// A run came to nothing again and again.
    #[error(
        "trial {number} came to nothing {TRIES} times, at last for this: {why}; what is finished is in the store"
    )]
    NeverRan {
        /// Which.
        number: u64,
        /// Why.
        why: String,
    },
    /// So many guests have no room.
    #[error(
        "{jobs} guests at once may need {needed} MiB of memory, and {available} MiB are available: take -j {fit}, or less 'ram' in [guest]"
    )]
    Memory {
        /// How many were asked for.
        jobs: usize,
        /// What they may need.
        needed: u64,
        /// What there is.
        available: u64,
        /// How many there is room for.
        fit: u64,
    },
    /// A file of the plan cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// How a campaign is run.
pub struct Options<'o> {
    /// How many guests at once.
    pub jobs: usize,
    /// Which part of it.
    pub shard: Shard,
    /// Whether to begin nothing more.
    pub stop: &'o (dyn Fn() -> bool + Sync),
}

/// What happens.
#[derive(Debug)]
pub enum News<'n> {
    /// So many runs are finished already, and so many there are.
    Begins {
        /// Finished.
        done: u64,
        /// All.
        all: u64,
    },
    /// A guest is started.
    Boots,
    /// The golden runs are done.
    Golden(&'n Golden),
    /// A run is finished.
    Finished(&'n Trial, &'n Verdict),
    /// A run came to nothing, and is made again.
    Failed(&'n Trial, &'n str),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All is done.
    Finished,
    /// It was told to stop.
    Stopped,
}

/// A campaign, ready to run.
pub struct Campaign<'c> {
    plan: &'c Plan,
    store: &'c mut Store,
    making: Making,
    options: Options<'c>,
    tell: &'c mut dyn FnMut(News),
}

impl<'c> Campaign<'c> {
    /// The campaign of `plan`, in `store`, read from the file at `path`. All that can be checked
    /// without starting a guest is.
    pub fn new(
        plan: &'c Plan,
        path: &Path,
        store: &'c mut Store,
        options: Options<'c>,
        tell: &'c mut dyn FnMut(News),
    ) -> Result<Self, CampaignError> {
        let known = store.facts()?;
        let mark = known.get(MARK).cloned().unwrap_or_else(new_mark);
        let making = Making::new(plan, &mark)?;
        let mut facts = facts(&making)?;
        let own = [
            (PLAN, plan.text.clone()),
            (PLAN_PATH, absolute(path)),
            (DIGEST, plan.digest()),
            (SHARD, options.shard.to_string()),
            (MARK, mark.clone()),
        ];
        facts.extend(own.map(|(name, value)| (name.to_owned(), value)));
        store.begin(&facts, &trials(plan, options.shard))?;
        let left = end_left_behind(&mark);
        if left > 0 {
            log::info!("ended {left} guests that an earlier run had left behind");
        }
        Ok(Self { plan, store, making, options, tell })
    }

    /// Runs all that is not finished.
    pub fn run(mut self) -> Result<Ended, CampaignError> {
        let all = self.store.trials(&[])?;
        let done = all.iter().filter(|run| run.verdict.is_some()).count() as u64;
        (self.tell)(News::Begins { done, all: all.len() as u64 });
        if done == all.len() as u64 {
            return Ok(Ended::Finished);
        }
        let (base, golden) = match self.golden_runs()? {
            Some(done) => done,
            None => return Ok(Ended::Stopped),
        };
        (self.tell)(News::Golden(&golden));
        let left = self.left(|kind| kind != Kind::Golden)?;
        self.each(&base, left, Some(&golden))
    }

    /// Makes the golden runs that are missing, and at least one from the guest that trials begin from.
    fn golden_runs(&mut self) -> Result<Option<(Base, Golden)>, CampaignError> {
        loop {
            let missing = self.left(|kind| kind == Kind::Golden)?;
            let boots = self.boots()?;
            let base = self.boot(boots.iter().max().map_or(0, |last| last + 1))?;
            if missing.is_empty() {
                let golden = self.golden()?;
                let check = self.first_golden()?;
                let ran = self.attempt(&base, &check, None).map_err(Box::new)?;
                golden.check(self.plan, &ran)?;
                return Ok(Some((base, golden)));
            }
            // Each start of the guest makes its part of them.
            let starts_left = BOOTS.saturating_sub(boots.len()).max(1);
            let part = missing.len().div_ceil(starts_left);
            let part: VecDeque<_> = missing.into_iter().take(part).collect();
            if self.each(&base, part, None)? == Ended::Stopped {
                return Ok(None);
            }
            if self.left(|kind| kind == Kind::Golden)?.is_empty() {
                return Ok(Some((base, self.golden()?)));
            }
        }
    }

    fn boot(&mut self, number: u64) -> Result<Base, CampaignError> {
        (self.tell)(News::Boots);
        let base = Base::make(self.plan, &self.making, number)?;
        self.enough_memory(&base)?;
        let environment = &base.environment;
        let mut facts = Facts::new();
        let mut add = |name: &str, value: Option<String>| {
            facts.extend(value.map(|value| (name.to_owned(), value)));
        };
        add("qemu_version", Some(base.qemu.clone()));
        add("kernel_release", Some(environment.kernel_release.clone()));
        add("kernel_build_id", environment.kernel_build_id.clone());
        add("guest_cpu", environment.cpu_model.clone());
        add("host_cpu", host_cpu_model());
        add("vmfi", Some(environment.vmfi.clone()));
        self.store.learn(&facts)?;
        Ok(base)
    }

    fn enough_memory(&self, base: &Base) -> Result<(), CampaignError> {
        let (jobs, each) = (self.options.jobs, base.ram_bytes().max(1));
        let available = host_available_memory();
        let needed = each.saturating_mul(jobs as u64);
        if needed <= available {
            return Ok(());
        }
        let fit = available / each;
        let (needed, available) = (needed >> 20, available >> 20);
        Err(CampaignError::Memory { jobs, needed, available, fit })
    }

    /// The starts of the guest that golden runs were made from.
    fn boots(&self) -> Result<Vec<u64>, CampaignError> {
        let golden = |run: &Stored| run.trial.kind == Kind::Golden && run.verdict.is_some();
        let all = self.store.trials(&[])?;
        let mut boots: Vec<_> =
            all.iter().filter(|run| golden(run)).filter_map(|run| run.boot).collect();
        boots.sort_unstable();
        boots.dedup();
        Ok(boots)
    }

    fn left(&self, wanted: impl Fn(Kind) -> bool) -> Result<VecDeque<Trial>, CampaignError> {
        let all = self.store.trials(&[])?.into_iter();
        let left = all.filter(|run| run.verdict.is_none() && wanted(run.trial.kind));
        Ok(left.map(|run| run.trial).collect())
    }

    fn first_golden(&self) -> Result<Trial, CampaignError> {
        let mut all = self.store.trials(&[])?.into_iter().map(|run| run.trial);
        Ok(all.find(|trial| trial.kind == Kind::Golden).ok_or(GoldenError::Changed)?)
    }

    fn golden(&mut self) -> Result<Golden, CampaignError> {
        let golden = golden_of(self.plan, self.store)?;
        let printed = match golden.repeatable {
            true => output_digest(self.plan, &golden.stdout),
            false => NOT_REPEATABLE.to_owned(),
        };
        self.store.learn(&[(GOLDEN.to_owned(), printed)].into())?;
        Ok(golden)
    }

    fn attempt(
        &self,
        base: &Base,
        trial: &Trial,
        golden: Option<&Golden>,
    ) -> Result<Ran, AttemptError> {
        attempt(base, self.plan, &self.making.program, trial, golden)
    }

    /// Makes `left`, so many at once.
    fn each(
        &mut self,
        base: &Base,
        left: VecDeque<Trial>,
        golden: Option<&Golden>,
    ) -> Result<Ended, CampaignError> {
        let (give, take) = channel();
        let (report, reports) = channel();
        let take = Mutex::new(take);
        let (plan, program) = (self.plan, self.making.program.clone());
        let work = Work { base, plan, program: &program, golden };
        std::thread::scope(|scope| {
            for _ in 0..self.options.jobs.min(left.len()) {
                let (take, report, work) = (&take, report.clone(), &work);
                scope.spawn(move || work.each(take, &report));
            }
            drop(report);
            let ended = self.dispatch(base, left, &give, &reports);
            drop(give);
            // Who waits for more work, and what is under way, ends.
            while reports.recv().is_ok() {}
            ended
        })
    }

    /// Hands out work until there is none, or it is told to stop; what is under way then is finished.
    fn dispatch(
        &mut self,
        base: &Base,
        mut left: VecDeque<Trial>,
        give: &Sender<Trial>,
        reports: &Receiver<Report>,
    ) -> Result<Ended, CampaignError> {
        let mut tries: BTreeMap<u64, u32> = BTreeMap::new();
        let mut under_way = 0;
        let next = |left: &mut VecDeque<Trial>, stopped: bool| match left.pop_front() {
            Some(trial) if !stopped => give.send(trial).is_ok(),
            Some(trial) => {
                left.push_front(trial);
                false
            }
            None => false,
        };
        for _ in 0..self.options.jobs {
            under_way += usize::from(next(&mut left, (self.options.stop)()));
        }
        while under_way > 0 {
            let Ok((trial, came)) = reports.recv() else { break };
            under_way -= 1;
            match came {
                Ok((ran, verdict)) => {
                    self.store.finish(self.plan, &trial, base.boot, (&ran, &verdict))?;
                    (self.tell)(News::Finished(&trial, &verdict));
                }
                Err(Failed::Judge(error)) => return Err(error.into()),
                Err(Failed::Golden(error)) => return Err(error.into()),
                Err(Failed::Attempt(error)) if error.is_of_plan() => {
                    return Err(error.into());
                }
                Err(Failed::Attempt(error)) => {
                    let why = error.to_string();
                    self.store.failure(trial.number, &why)?;
                    (self.tell)(News::Failed(&trial, &why));
                    let tries = tries.entry(trial.number).or_default();
                    *tries += 1;
                    if *tries == TRIES {
                        return Err(CampaignError::NeverRan { number: trial.number, why });
                    }
                    left.push_back(trial);
                }
            }
            under_way += usize::from(next(&mut left, (self.options.stop)()));
        }
        Ok(if left.is_empty() { Ended::Finished } else { Ended::Stopped })
    }
}

/// What the golden runs in `store` show.
pub fn golden_of(plan: &Plan, store: &Store) -> Result<Golden, CampaignError> {
    let runs = store.trials(&[Kind::Golden])?.into_iter().filter_map(|run| run.ran);
    Ok(Golden::of(plan, &runs.collect::<Vec<_>>())?)
}

/// What each who works needs.
struct Work<'w> {
    base: &'w Base,
    plan: &'w Plan,
    program: &'w Path,
    golden: Option<&'w Golden>,
}

/// Why a run came to nothing.
enum Failed {
    Attempt(Box<AttemptError>),
    Judge(JudgeError),
    Golden(GoldenError),
}

type Report = (Trial, Result<(Ran, Verdict), Failed>);

impl Work<'_> {
    /// Makes what is handed out, until there is no more.
    fn each(&self, take: &Mutex<Receiver<Trial>>, report: &Sender<Report>) {
        loop {
            let next = take.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
            let Ok(trial) = next else { return };
            let came = self.one(&trial);
            if report.send((trial, came)).is_err() {
                return;
            }
        }
    }

    fn one(&self, trial: &Trial) -> Result<(Ran, Verdict), Failed> {
        let ran = attempt(self.base, self.plan, self.program, trial, self.golden);
        let ran = ran.map_err(|error| Failed::Attempt(Box::new(error)))?;
        let verdict = match self.golden {
            Some(golden) => judge(self.plan, golden, trial.kind, &ran).map_err(Failed::Judge)?,
            None => {
                // By itself, it must end well.
                Golden::of(self.plan, std::slice::from_ref(&ran)).map_err(Failed::Golden)?;
                Verdict { outcome: Outcome::Masked, why: String::new(), tolerated: false }
            }
        };
        Ok((ran, verdict))
    }
}

/// What the guests are made from, by its digests.
fn facts(making: &Making) -> Result<Facts, CampaignError> {
    let mut facts = Facts::new();
    facts.insert("program".to_owned(), digest_of(&making.program)?);
    if let Some(kernel) = &making.kernel {
        facts.insert("kernel".to_owned(), digest_of(kernel)?);
    }
    facts.extend(making.accel.map(|accel| ("accelerator".to_owned(), accel.name().to_owned())));
    // One that is not there is told of when it is started.
    let qemu = digest::of_file(&making.recipe.program_path());
    facts.extend(qemu.ok().map(|digest| ("qemu".to_owned(), digest)));
    Ok(facts)
}

fn digest_of(path: &Path) -> Result<String, CampaignError> {
    let unreadable = |source| CampaignError::Unreadable { path: path.to_owned(), source };
    digest::of_file(path).map_err(unreadable)
}

fn absolute(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn new_mark() -> String {
    format!("vmfi-{:016x}", rand::random::<u64>())
}
