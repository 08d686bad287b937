//! `vmfi shell`: what `make install` puts where shells and `man` find it. Hidden, as nobody types it.
//!
//! `vmfi shell completions SHELL` prints the completions of a shell, `vmfi shell man FOLDER` writes
//! `vmfi.1`, a page for each command, and `kmem.1`. `vmfi shell reference` prints docs/reference.md.

use super::kmem::Kmem;
use super::{output, reference};
use anyhow::Context;
use clap::{CommandFactory, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// What 'make install' installs besides the programs, and the reference
#[derive(Subcommand)]
pub enum ShellCommand {
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the page of all commands and their options
    Reference,
    /// Write the manual pages
    Man {
        /// The folder to write them to
        folder: PathBuf,
    },
}

pub fn run(command: &ShellCommand, vmfi: clap::Command) -> anyhow::Result<()> {
    match command {
        ShellCommand::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut visible(&vmfi), "vmfi", &mut text);
            output::text(&String::from_utf8(text)?)
        }
        ShellCommand::Reference => output::text(&reference::page(&vmfi, &Kmem::command())),
        ShellCommand::Man { folder } => clap_mangen::generate_to(vmfi, folder)
            .and_then(|()| clap_mangen::generate_to(Kmem::command(), folder))
            .with_context(|| format!("cannot write manual pages to {}", folder.display())),
    }
}

/// `vmfi` without its hidden commands, which completions would offer.
fn visible(vmfi: &clap::Command) -> clap::Command {
    let shown = vmfi.get_subcommands().filter(|command| !command.is_hide_set());
    let version = vmfi.get_version().unwrap_or_default().to_owned();
    clap::Command::new("vmfi")
        .version(version)
        .args(vmfi.get_arguments().cloned())
        .subcommands(shown.cloned())
}
