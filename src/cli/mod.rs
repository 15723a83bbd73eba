//! The command line of `finetuned`.

#![expect(clippy::print_stdout, reason = "commands answer on standard output")]

mod check_data;
mod context;
mod keys;
mod models;
mod serve;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::app::keys::DEFAULT_PROJECT;
use crate::config::{self, Config, SETTINGS};
use crate::telemetry;

/// The command line: settings are options of every command, and environment variables.
pub fn command() -> Command {
    let settings = SETTINGS.iter().map(|setting| {
        let help = format!("{} [env: {}] [default: {}]", setting.doc, setting.env, setting.default);
        Arg::new(setting.flag).long(setting.flag).value_name("VALUE").help(help).global(true).help_heading("Settings")
    });
    let text = |name: &'static str, help: &'static str| Arg::new(name).required(true).help(help);
    Command::new("finetuned")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A self-hosted fine-tuning API that speaks OpenAI's")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(settings)
        .subcommand(Command::new("serve").about("Runs the API, and a worker unless told otherwise").arg(
            Arg::new("no-worker").long("no-worker").action(ArgAction::SetTrue).help("Leave the jobs to other workers"),
        ))
        .subcommand(Command::new("worker").about("Runs jobs of a service elsewhere on the same database"))
        .subcommand(Command::new("migrate").about("Brings the database's schema up to date"))
        .subcommand(
            Command::new("keys")
                .about("Makes, lists and revokes API keys")
                .subcommand_required(true)
                .subcommand(
                    Command::new("create")
                        .about("Makes a key and prints it, once")
                        .arg(text("name", "What the key is for").required(false).default_value("key"))
                        .arg(
                            Arg::new("project")
                                .long("project")
                                .default_value(DEFAULT_PROJECT)
                                .help("The project it acts for; made if new"),
                        ),
                )
                .subcommand(Command::new("list").about("Lists all keys"))
                .subcommand(Command::new("revoke").about("Ends a key").arg(text("id", "The key's id, from the list"))),
        )
        .subcommand(
            Command::new("models")
                .about("Imports and lists base models")
                .subcommand_required(true)
                .subcommand(
                    Command::new("import")
                        .about("Imports a model from a directory in the Hugging Face layout")
                        .arg(text("directory", "The directory").value_parser(clap::value_parser!(PathBuf)))
                        .arg(Arg::new("name").long("name").help("What to call it; the directory's name otherwise")),
                )
                .subcommand(Command::new("list").about("Lists base models")),
        )
        .subcommand(
            Command::new("check-data")
                .about("Checks data files as a job would, without a service")
                .arg(text("training", "The training file").value_parser(clap::value_parser!(PathBuf)))
                .arg(
                    Arg::new("validation")
                        .long("validation")
                        .value_parser(clap::value_parser!(PathBuf))
                        .help("The validation file"),
                )
                .arg(
                    Arg::new("method").long("method").help("The method to check for: text_classification unless given"),
                )
                .arg(Arg::new("text-column").long("text-column").help("Column of the text"))
                .arg(Arg::new("label-column").long("label-column").help("Column of the label")),
        )
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match run(&command().get_matches()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let Some((name, command)) = matches.subcommand() else { return Ok(ExitCode::FAILURE) };
    if name == "check-data" {
        return check_data::run(command);
    }
    let config = settings(command)?;
    telemetry::init_logs(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match (name, command.subcommand()) {
            ("serve", _) => return Ok(drained(serve::run(config, !command.get_flag("no-worker")).await?)),
            ("worker", _) => return Ok(drained(worker::run(config).await?)),
            ("migrate", _) => context::Context::open(config).await?.close().await,
            ("keys", Some((action, arguments))) => keys::run(config, action, arguments).await?,
            ("models", Some((action, arguments))) => models::run(config, action, arguments).await?,
            _ => return Ok(ExitCode::FAILURE),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// `EX_TEMPFAIL` (`sysexits.h(3head)`): what was left undone is worth another start.
const WORK_LEFT: u8 = 75;

/// Tells whoever started a worker whether it should be started again.
fn drained(unfinished: usize) -> ExitCode {
    if unfinished == 0 {
        return ExitCode::SUCCESS;
    }
    tracing::info!(unfinished, "stopped; these jobs go on where a worker is started again");
    ExitCode::from(WORK_LEFT)
}

/// The settings from flags, wherever on the line they stood, and the environment.
fn settings(matches: &ArgMatches) -> anyhow::Result<Config> {
    let deepest = |matches: &ArgMatches| -> BTreeMap<String, String> {
        let given = |flag: &str| matches.try_get_one::<String>(flag).ok().flatten().cloned();
        SETTINGS.iter().filter_map(|setting| Some((setting.flag.to_owned(), given(setting.flag)?))).collect()
    };
    let mut flags = deepest(matches);
    if let Some((_, inner)) = matches.subcommand() {
        flags.extend(deepest(inner));
    }
    Ok(config::load(&flags)?)
}

#[cfg(test)]
mod tests {
    use super::{command, settings};

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn settings_are_read_before_and_behind_the_command() {
        for line in [
            ["finetuned", "--slots", "3", "keys", "list"],
            ["finetuned", "keys", "--slots", "3", "list"],
            ["finetuned", "keys", "list", "--slots", "3"],
        ] {
            let matches = command().get_matches_from(line);
            let (_, keys) = matches.subcommand().unwrap();
            assert_eq!(settings(keys).unwrap().slots, Some(3), "{line:?}");
        }
    }
}
