//! The words `kas` understands.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{attach, check, daemon, debug, list, logs, open, run, runs, schema, token, wait};

/// Runs a project's commands in tmux windows or PTYs, shows them live, and loses nothing
#[derive(Debug, Parser)]
#[command(name = "kas", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 project file or configuration invalid, \
    5 daemon not reachable, 6 timed out, 7 conflict or limit, 8 not permitted, 16 no usable tmux, 17 daemon runs already. \
    `kas run --wait` and `kas wait` end with the task's own code (128+n for a signal)."
)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Global {
    /// Print results and errors as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// The project's id; without it, the project around the current directory
    #[arg(long, short, global = true, value_name = "ID")]
    pub(super) project: Option<String>,
    /// The daemon's control socket
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Run(run::Args),
    Ps(list::PsArgs),
    Logs(logs::Args),
    Attach(attach::Args),
    Wait(wait::Args),
    Stop(runs::StopArgs),
    Restart(runs::RestartArgs),
    Rm(runs::RmArgs),
    Open(open::Args),
    Projects(list::ProjectsArgs),
    Check(check::Args),
    Schema(schema::Args),
    Token(token::Args),
    #[command(visible_alias = "d")]
    Daemon(daemon::Args),
    /// Look at kas's own data
    Debug(debug::DebugArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_agree_with_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_stand_anywhere_but_not_in_a_command_to_run() {
        let parse = |line: &str| Args::try_parse_from(line.split(' ')).unwrap();
        assert!(parse("kas ps --json").global.json && parse("kas --json ps").global.json);
        assert!(!parse("kas run -- ls --json").global.json);
        assert_eq!(parse("kas d status --socket /s").global.socket, Some("/s".into()));
        assert_eq!(parse("kas daemon --socket /s status").global.socket, Some("/s".into()));
    }
}
