//! The command line of `finetuned`.

mod check_data;
mod context;
mod keys;
mod models;
mod output;
mod projects;
mod serve;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::allocator;
use crate::app::keys::DEFAULT_PROJECT;
use crate::config::{self, Config, SETTINGS, Setting};
use crate::telemetry;
use output::{Unread, remark};

fn setting(setting: &Setting) -> Arg {
    let default = if setting.default.is_empty() { "none" } else { setting.default };
    let help = format!("{} [env: {}] [default: {default}]", setting.doc, setting.env);
    Arg::new(setting.flag).long(setting.flag).value_name("VALUE").help(help).global(true).help_heading("Settings")
}

/// The same command with the settings that concern it in its help, and in that of its own commands.
fn with_settings(command: Command) -> Command {
    let own = SETTINGS.iter().filter(|setting| setting.scope.concerns(command.get_name())).map(setting);
    let own: Vec<Arg> = own.collect();
    command.args(own)
}

/// The command line. Settings are options and environment variables; every command takes all of them, before and behind
/// its name, so that one line of options serves for all, and shows those that concern it.
pub fn command() -> Command {
    let text = |name: &'static str, help: &'static str| Arg::new(name).required(true).help(help);
    Command::new("finetuned")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A self-hosted fine-tuning API that speaks OpenAI's")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(SETTINGS.iter().map(|one| setting(one).hide(true)))
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
                        )
                        .arg(
                            Arg::new("admin")
                                .long("admin")
                                .action(ArgAction::SetTrue)
                                .help("It may delete base models too, which all projects share"),
                        ),
                )
                .subcommand(Command::new("list").about("Lists all keys"))
                .subcommand(Command::new("revoke").about("Ends a key").arg(text("id", "The key's id, from the list"))),
        )
        .subcommand(
            Command::new("models")
                .about("Imports, lists and removes base models")
                .subcommand_required(true)
                .subcommand(
                    Command::new("import")
                        .about("Imports a model from a directory in the Hugging Face layout, a GGUF file, or PEFT's folder with an adapter")
                        .arg(
                            text("directory", "The directory, or a GGUF file")
                                .value_parser(clap::value_parser!(PathBuf)),
                        )
                        .arg(
                            Arg::new("name")
                                .long("name")
                                .help("What to call it; the name of the directory or file otherwise"),
                        )
                        .arg(
                            Arg::new("base")
                                .long("base")
                                .help("The base model of an adapter; the one that the adapter names otherwise"),
                        ),
                )
                .subcommand(Command::new("list").about("Lists base models"))
                .subcommand(
                    Command::new("remove")
                        .about("Removes a base model; jobs that use it go on")
                        .arg(text("name", "Its name, from the list")),
                ),
        )
        .subcommand(projects::command())
        .subcommand(check_data::command())
        .mut_subcommands(with_settings)
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    allocator::give_back();
    match run(&command().get_matches()) {
        Ok(code) => code,
        Err(error) => {
            if !error.is::<Unread>() {
                remark(&format!("error: {error:#}"));
            }
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
    telemetry::init_logs(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match (name, command.subcommand()) {
            ("serve", _) => return Ok(drained(serve::run(config, !command.get_flag("no-worker")).await?)),
            ("worker", _) => return Ok(drained(worker::run(config).await?)),
            ("migrate", _) => context::Context::open(config).await?.close().await,
            ("keys", Some((action, arguments))) => keys::run(config, action, arguments).await?,
            ("models", Some((action, arguments))) => models::run(config, action, arguments).await?,
            ("projects", Some((action, arguments))) => projects::run(config, action, arguments).await?,
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
    use super::{SETTINGS, command, settings};

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    /// The flags of settings that the help of a command shows.
    fn shown(path: &[&str]) -> Vec<&'static str> {
        let mut all = command();
        all.build();
        let mut found = &mut all;
        for name in path {
            found = found.find_subcommand_mut(name).unwrap();
        }
        let help = found.render_help().to_string();
        let flags = SETTINGS.iter().map(|setting| setting.flag);
        flags.filter(|flag| help.contains(&format!("--{flag} <VALUE>"))).collect()
    }

    #[test]
    fn the_help_of_a_command_shows_the_settings_that_concern_it() {
        assert_eq!(shown(&[]), [""; 0]);
        assert_eq!(shown(&["check-data"]), [""; 0]);
        let of_data = ["state-dir", "database-url", "postgres-bin", "store-dir", "store-url", "log", "log-format"];
        for path in [&["migrate"][..], &["keys"], &["keys", "list"], &["models", "import"]] {
            assert_eq!(shown(path), of_data, "{path:?}");
        }
        let (serve, worker) = (shown(&["serve"]), shown(&["worker"]));
        assert!(serve.contains(&"slots") && serve.contains(&"listen") && !serve.contains(&"worker-metrics"));
        assert!(worker.contains(&"slots") && !worker.contains(&"listen") && worker.contains(&"worker-metrics"));
        let nowhere = SETTINGS.iter().find(|one| !serve.contains(&one.flag) && !worker.contains(&one.flag));
        assert!(nowhere.is_none(), "{}", nowhere.unwrap().flag);
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
