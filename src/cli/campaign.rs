//! `vmfi campaign`: thousands of trials, by a plan.
//!
//! `init` writes a commented plan. `plan` checks one and tells what would be run, and how long that may
//! take. `run` runs it, and goes on where it was ended; what is finished is in the store. `show` tells
//! all of one trial, `rerun` makes it again, and `merge` puts the stores of several machines together.

use super::error::UsageError;
use super::{output, signal};
use crate::campaign::attempt::attempt;
use crate::campaign::base::{Base, Making};
use crate::campaign::merge::merge;
use crate::campaign::outcome::{Outcome, Verdict, judge};
use crate::campaign::ran::Ran;
use crate::campaign::session::{Campaign, CampaignError, Ended, News, Options, golden_of};
use crate::campaign::store::Store;
use crate::campaign::{Kind, Plan, Shard, TEMPLATE, Trial, expand};
use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the processes of guests bear that no campaign has.
const NO_CAMPAIGN: &str = "vmfi-once";
const BAR: &str = "{bar:30} {pos}/{len} {per_sec} left {eta} {msg}";
const TICK: Duration = Duration::from_millis(500);

/// Run a plan of trials: start from the same state, inject, judge, record
#[derive(Subcommand)]
pub enum CampaignCommand {
    /// Write a commented plan, to be changed
    Init(InitArgs),
    /// Check a plan, and tell what would be run and how long it may take
    Plan(PlanArgs),
    /// Run a plan, or go on with one; Ctrl-C finishes what is under way
    Run(RunArgs),
    /// Tell all that is known of one trial
    Show(TrialArgs),
    /// Make one trial again, and tell what happens; the store is left as it is
    Rerun(TrialArgs),
    /// Put what several stores have finished into one
    Merge(MergeArgs),
}

#[derive(Args)]
pub struct InitArgs {
    /// The file to write
    #[arg(default_value = "campaign.toml")]
    file: PathBuf,
}

#[derive(Args)]
pub struct PlanArgs {
    /// The plan
    plan: PathBuf,
    #[command(flatten)]
    jobs: JobsArgs,
}

#[derive(Args)]
pub struct RunArgs {
    /// The plan; 'vmfi campaign init' writes one
    plan: PathBuf,
    /// The file that all trials are in, made where there is none
    #[arg(long, value_name = "DB")]
    store: PathBuf,
    #[command(flatten)]
    jobs: JobsArgs,
    /// Run this part only, as one of N machines; see 'vmfi campaign merge'
    #[arg(long, value_name = "I/N", default_value = "0/1", hide_default_value = true)]
    shard: Shard,
}

#[derive(Args)]
pub struct JobsArgs {
    /// Guests at once
    #[arg(short = 'j', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
}

#[derive(Args)]
pub struct TrialArgs {
    /// The store
    #[arg(value_name = "DB")]
    store: PathBuf,
    /// The trial's number
    trial: u64,
}

#[derive(Args)]
pub struct MergeArgs {
    /// The store to put it into, made where there is none
    #[arg(value_name = "OUT.db")]
    out: PathBuf,
    /// The stores, of the same plan, program, kernel and QEMU
    #[arg(value_name = "IN.db", required = true)]
    from: Vec<PathBuf>,
}

pub fn run(command: &CampaignCommand, json: bool) -> anyhow::Result<()> {
    match command {
        CampaignCommand::Init(args) => init(&args.file, json),
        CampaignCommand::Plan(args) => plan(args, json),
        CampaignCommand::Run(args) => campaign(args, json),
        CampaignCommand::Show(args) => show(args, json),
        CampaignCommand::Rerun(args) => rerun(args, json),
        CampaignCommand::Merge(args) => {
            let (taken, out) = (merge(&args.out, &args.from)?, args.out.display().to_string());
            tell(
                json,
                &json!({"store": out, "runs": taken}),
                &format!("{out}: {taken} runs more\n"),
            )
        }
    }
}

/// Prints one of both.
fn tell(as_json: bool, json: &Value, text: &str) -> anyhow::Result<()> {
    if as_json { output::json(json) } else { output::text(text) }
}

fn init(file: &Path, json: bool) -> anyhow::Result<()> {
    if file.exists() {
        let what = format!("{} is there already; name another file", file.display());
        return Err(UsageError(what).into());
    }
    output::file(file, TEMPLATE)?;
    let path = file.display().to_string();
    tell(
        json,
        &json!({"plan": path}),
        &format!("{path}: change it, then 'vmfi campaign plan {path}'\n"),
    )
}

fn plan(args: &PlanArgs, json: bool) -> anyhow::Result<()> {
    let plan = Plan::read(&args.plan)?;
    if !json {
        output::text(&plan.summary())?;
    }
    output::note("measuring: a guest is started, and the program runs once in it");
    let (base, making) = base(&plan)?;
    let golden = expand::trials(&plan, Shard::WHOLE).into_iter().next();
    let golden = golden.context("the plan has no runs")?;
    let ran = attempt(&base, &plan, &making.program, &golden, None)
        .map_err(|error| CampaignError::from(Box::new(error)))?;
    let each = ran.time + ran.overhead.restore + ran.overhead.read;
    let runs = plan.golden + plan.null + plan.trials;
    let jobs = args.jobs.jobs;
    let all = each.mul_f64(runs as f64 / f64::from(jobs));
    let [program, each, all] = [ran.time, each, all].map(|time| time.as_secs_f64());
    let minutes = (all / 60.0).ceil();
    tell(
        json,
        &json!({
            "plan": plan.name, "summary": plan.summary(), "runs": runs, "jobs": jobs,
            "program_seconds": program, "run_seconds": each, "seconds": all,
        }),
        &format!(
            "time      {program:.1} s of the program, {each:.2} s in all for each of {runs} runs: about {minutes} min with -j {jobs}\n"
        ),
    )
}

/// A guest for something that is in no store.
fn base(plan: &Plan) -> anyhow::Result<(Base, Making)> {
    let making = Making::new(plan, NO_CAMPAIGN).map_err(CampaignError::from)?;
    let base = Base::make(plan, &making, 0).map_err(CampaignError::from)?;
    Ok((base, making))
}

fn campaign(args: &RunArgs, json: bool) -> anyhow::Result<()> {
    let plan = Plan::read(&args.plan)?;
    signal::catch()?;
    let mut store = Store::open(&args.store)?;
    let mut shown = Shown::new();
    let options = Options { jobs: args.jobs.jobs.into(), shard: args.shard, stop: &signal::caught };
    let mut tell = |news: News| shown.tell(&news);
    let campaign = Campaign::new(&plan, &args.plan, &mut store, options, &mut tell)?;
    let ended = campaign.run();
    shown.end();
    match ended? {
        Ended::Finished => super::report::of_store(&store, json),
        Ended::Stopped => {
            let again = format!("stopped; '{}' goes on", typed());
            output::note(&again);
            Err(Stopped.into())
        }
    }
}

/// It was told to stop, and more is to be done.
#[derive(Debug, thiserror::Error)]
#[error("the campaign is not finished")]
pub struct Stopped;

fn typed() -> String {
    let words: Vec<_> = std::env::args().collect();
    words.join(" ")
}

/// A campaign's progress, as people see it.
struct Shown {
    bar: ProgressBar,
    counts: BTreeMap<Outcome, u64>,
}

impl Shown {
    fn new() -> Self {
        let style = ProgressStyle::with_template(BAR);
        let bar = ProgressBar::new(0).with_style(style.unwrap_or(ProgressStyle::default_bar()));
        bar.enable_steady_tick(TICK);
        Self { bar, counts: BTreeMap::new() }
    }

    fn tell(&mut self, news: &News) {
        match news {
            News::Begins { done, all } => {
                self.bar.set_length(*all);
                self.bar.set_position(*done);
                self.bar.reset_eta();
                log::info!("{done} of {all} runs are finished already");
            }
            News::Boots => self.bar.set_message("starting a guest"),
            News::Golden(golden) => {
                self.bar.set_message("");
                if !golden.repeatable {
                    let what = "the program's output is another one each time: results are judged by the noise of the golden runs";
                    self.bar.suspend(|| output::note(what));
                }
            }
            News::Finished(trial, verdict) => self.finished(trial, verdict),
            News::Failed(trial, why) => {
                let what = format!("trial {} came to nothing, once more: {why}", trial.number);
                self.bar.suspend(|| log::warn!("{what}"));
            }
        }
    }

    fn finished(&mut self, trial: &Trial, verdict: &Verdict) {
        self.bar.inc(1);
        log::debug!("trial {}: {} {}", trial.number, verdict.outcome, verdict.why);
        if trial.kind == Kind::Injected {
            *self.counts.entry(verdict.outcome).or_default() += 1;
        }
        let counts = self.counts.iter().map(|(outcome, count)| format!("{outcome} {count}"));
        self.bar.set_message(counts.collect::<Vec<_>>().join(", "));
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn show(args: &TrialArgs, json: bool) -> anyhow::Result<()> {
    let store = Store::read(&args.store)?;
    let story = store.story(args.trial)?;
    if json {
        return output::json(&story);
    }
    output::text(&format!("{}\n{}", store.plan()?.summary(), told(&story)))
}

/// A trial's story for people: what has no value is left out.
fn told(story: &Value) -> String {
    let mut text = String::new();
    for (name, value) in story.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Array(rows) => {
                for row in rows {
                    let _ = writeln!(text, "{name}: {row}");
                }
            }
            Value::String(own) if own.contains('\n') => {
                let lines: String = own.lines().map(|line| format!("    {line}\n")).collect();
                let _ = write!(text, "{name}:\n{}", output::visible(&lines));
            }
            Value::String(own) => {
                let _ = writeln!(text, "{name}: {}", output::visible(own));
            }
            other => {
                let _ = writeln!(text, "{name}: {other}");
            }
        }
    }
    text
}

fn rerun(args: &TrialArgs, json: bool) -> anyhow::Result<()> {
    let store = Store::read(&args.store)?;
    let plan = store.plan()?;
    let golden = golden_of(&plan, &store)?;
    let mut all = store.trials(&[])?.into_iter();
    let stored = all.find(|run| run.trial.number == args.trial);
    let Some(stored) = stored else {
        store.story(args.trial)?;
        return Ok(());
    };
    super::log_more();
    let (base, making) = base(&plan)?;
    let trial = &stored.trial;
    let own = (trial.kind != Kind::Golden).then_some(&golden);
    let ran = attempt(&base, &plan, &making.program, trial, own)
        .map_err(|error| CampaignError::from(Box::new(error)))?;
    let verdict = judge(&plan, &golden, trial.kind, &ran).map_err(CampaignError::from)?;
    let before = stored.verdict.map(|verdict| verdict.outcome.name());
    output::note(
        "the same start, places, bits and triggers; not the very instant, so the outcome may differ",
    );
    match json {
        true => output::json(&again(&ran, &verdict, before)),
        false => output::text(&told(&again(&ran, &verdict, before))),
    }
}

/// What came of making a trial again.
fn again(ran: &Ran, verdict: &Verdict, before: Option<&str>) -> Value {
    let injections: Vec<_> = ran
        .injections
        .iter()
        .map(|made| {
            json!({
                "number": made.number,
                "receipt": made.receipt,
                "why": made.why,
                "iteration": made.iteration,
                "fate": made.fate,
            })
        })
        .collect();
    json!({
        "outcome": verdict.outcome.name(),
        "why": verdict.why,
        "outcome_before": before,
        "iterations": ran.iterations,
        "stdout_text": String::from_utf8_lossy(&ran.stdout.tail),
        "stderr_text": String::from_utf8_lossy(&ran.stderr.tail),
        "injections": injections,
    })
}
