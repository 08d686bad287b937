//! Stores of several machines, put together: each made a part of one campaign.

use super::expand::{Shard, trials};
use super::store::{Facts, SHARD, Store, StoreError};
use std::path::{Path, PathBuf};

/// Puts what the stores `from` have finished into the one at `out`; how many runs that has more then.
/// An error, before anything is written, unless all are of one campaign.
pub fn merge(out: &Path, from: &[PathBuf]) -> Result<u64, StoreError> {
    let stores = from.iter().map(|path| Store::read(path)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = stores.first() else { return Ok(0) };
    let facts = whole(first.facts()?);
    for store in &stores[1..] {
        store.is_of(&whole(store.facts()?), &facts)?;
    }
    let plan = first.plan()?;
    if out.exists() {
        let known = Store::read(out)?;
        known.is_of(&whole(known.facts()?), &facts)?;
    }
    let mut merged = Store::open(out)?;
    merged.begin(&facts, &trials(&plan, Shard::WHOLE))?;
    stores.iter().try_fold(0, |taken, store| Ok(taken + merged.take_over(store)?))
}

/// The facts of the whole campaign that a part is of.
fn whole(mut facts: Facts) -> Facts {
    facts.insert(SHARD.to_owned(), Shard::WHOLE.to_string());
    facts
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Outcome;
    use super::super::samples::{facts, plan, ran, verdict};
    use super::super::store::{DIGEST, GOLDEN};
    use super::*;
    use std::fs;

    /// A finished store of the part `shard`; `fact` is one that others have otherwise.
    fn part(path: &Path, shard: &str, fact: (&str, &str)) {
        let plan = plan("");
        let mut facts = facts(&plan, shard);
        facts.insert(fact.0.to_owned(), fact.1.to_owned());
        let trials = trials(&plan, shard.parse().unwrap());
        let mut store = Store::open(path).unwrap();
        store.begin(&facts, &trials).unwrap();
        let masked = verdict(Outcome::Masked);
        for trial in &trials {
            store.finish(&plan, trial, 0, (&ran("x"), &masked)).unwrap();
        }
    }

    fn finished(path: &Path) -> usize {
        let all = Store::read(path).unwrap().trials(&[]).unwrap();
        assert!(all.iter().all(|run| run.verdict.is_some()));
        all.len()
    }

    #[test]
    fn parts_are_put_together_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let same = (GOLDEN, "the same");
        part(&path("1.db"), "1/2", same);
        part(&path("2.db"), "0/2", same);
        let (out, all) = (path("out.db"), [path("1.db"), path("2.db")]);
        // 3 trials, and 10 golden runs of each part.
        assert_eq!(merge(&out, &all).unwrap(), 23);
        assert_eq!(merge(&out, &all).unwrap(), 0);
        assert_eq!(merge(&out, std::slice::from_ref(&out)).unwrap(), 0);
        assert_eq!(finished(&out), 23);
        assert_eq!(merge(&out, &[]).unwrap(), 0);
        // Into a store that is a part itself, nothing is put: it goes on as that part.
        let error = merge(&all[0], &all[1..]).unwrap_err().to_string();
        assert!(error.contains("of another shard"), "{error}");
    }

    #[test]
    fn parts_of_something_else_are_refused_before_anything_is_written() {
        let names = [
            DIGEST,
            GOLDEN,
            "qemu",
            "qemu_version",
            "kernel",
            "program",
            "accelerator",
            "guest_cpu",
        ];
        for name in names {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let (one, other, out) = (path("one.db"), path("other.db"), path("out.db"));
            part(&one, "1/2", (name, "this"));
            part(&other, "0/2", (name, "that"));
            let error = merge(&out, &[one.clone(), other.clone()]).unwrap_err().to_string();
            let what = name.replace("plan_digest", "plan").replace('_', " ");
            assert!(error.contains(&format!("is of another {what}: ")), "{error}");
            assert!(!out.exists());
            merge(&out, &[one]).unwrap();
            let before = fs::read(&out).unwrap();
            assert!(merge(&out, &[other]).is_err());
            assert_eq!(fs::read(&out).unwrap(), before);
        }
    }
}
