//! docs/reference.md: every command with its options, as `--help` shows them.

use super::topics::{self, Topic};
use clap::{Command, Subcommand};

/// Letters of a line.
const WIDTH: usize = 100;

/// The page about the commands of `vmfi`, and `kmem`. The same on every terminal, whatever is set.
pub fn page(vmfi: &Command, kmem: &Command) -> String {
    let shown = vmfi.get_subcommands().filter(|command| !command.is_hide_set());
    let (topics, commands): (Vec<_>, Vec<_>) =
        shown.partition(|command| Topic::has_subcommand(command.get_name()));
    let name = |command: &Command| format!("vmfi {}", command.get_name());
    let sections: String = commands.iter().map(|own| sections(&name(own), own)).collect();
    let topics: String = topics.iter().map(|topic| line(topic)).collect();
    [
        "# Reference: every command and its options\n",
        "\nWritten by `vmfi shell reference`. The options of `vmfi` itself are those of each of its\n",
        "commands too. What has a page of its own:\n\n",
        &topics,
        &section("vmfi", vmfi),
        &sections,
        &section("kmem", kmem),
    ]
    .concat()
}

/// That `topic` has a page of its own.
fn line(topic: &Command) -> String {
    let (name, about) = (topic.get_name(), topic.get_about().cloned().unwrap_or_default());
    let page = topics::page(name);
    format!("- [{page}.md]({page}.md), `vmfi help {name}`:\n  {about}\n")
}

/// The section of `command`, and those of the commands below it.
fn sections(name: &str, command: &Command) -> String {
    let below =
        command.get_subcommands().map(|own| sections(&format!("{name} {}", own.get_name()), own));
    [section(name, command)].into_iter().chain(below).collect()
}

fn section(name: &str, command: &Command) -> String {
    let command = command.clone().bin_name(name).term_width(WIDTH);
    let help = command.mut_args(|arg| arg.hide_env_values(true)).render_help().to_string();
    let lines: Vec<_> = help.trim_end().lines().map(str::trim_end).collect();
    format!("\n## {name}\n\n```text\n{}\n```\n", lines.join("\n"))
}
