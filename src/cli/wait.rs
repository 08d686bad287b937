//! Waiting until a place may be written.

use super::number;
use crate::inject::{InjectError, SeriesError};
use crate::site::SiteError;
use clap::Args;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the place is looked at meanwhile: a look takes some µs.
const PAUSE: Duration = Duration::from_millis(1);

/// What these options, and others about the write itself, stand under.
pub const HEADING: &str = "The write";

#[derive(Args, Clone, Copy, Default)]
pub struct WaitArgs {
    /// Wait up to this long until the victim has a page of its own there
    #[arg(long, help_heading = HEADING, value_name = "TIME", value_parser = number::parse_duration)]
    wait_private: Option<Duration>,
    /// Wait up to this long until there is a page at all
    #[arg(long, help_heading = HEADING, value_name = "TIME", value_parser = number::parse_duration)]
    wait_resident: Option<Duration>,
    /// When that began: the victim may be looked for again meanwhile, which takes no longer for it.
    #[arg(skip = Some(Instant::now()))]
    started: Option<Instant>,
}

impl WaitArgs {
    /// Whether what `error` says may pass, and there is time left.
    fn goes_on(self, error: &SiteError) -> bool {
        let private = self.wait_private.filter(|_| error.until_private());
        let resident = self.wait_resident.filter(|_| error.until_resident());
        let limit = private.or(resident);
        limit.zip(self.started).is_some_and(|(limit, started)| started.elapsed() < limit)
    }
}

/// Makes the `attempt` until it does not fail for a page that may come, or waiting has no end.
pub fn once_ready<T>(wait: WaitArgs, attempt: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    loop {
        match attempt() {
            Err(error) if refusal(&error).is_some_and(|error| wait.goes_on(error)) => sleep(PAUSE),
            done => return done,
        }
    }
}

/// Why a place was refused, if that is what `error` is about.
pub fn refusal(error: &anyhow::Error) -> Option<&SiteError> {
    match error.downcast_ref() {
        Some(SeriesError::Inject(InjectError::Site(error))) => Some(error),
        _ => None,
    }
}
