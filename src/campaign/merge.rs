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
