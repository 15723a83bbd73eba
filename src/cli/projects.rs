//! `finetuned projects`.

use std::fmt::Write;

use anyhow::{anyhow, bail};
use clap::{Arg, ArgMatches, Command};

use super::context::Context;
use super::output::{answer, remark};
use crate::app::quotas;
use crate::config::Config;
use crate::domain::quota::Quota;

/// What sets a quota back to the service's own.
const DEFAULT: &str = "default";

pub(super) fn command() -> Command {
    let quotas = Quota::ALL.map(|quota| {
        let help = format!("The most {} at once; 0 is no limit, {DEFAULT} what the settings say", quota.as_str());
        Arg::new(quota.as_str()).long(flag(quota)).value_name("NUMBER").allow_negative_numbers(true).help(help)
    });
    Command::new("projects")
        .about("Lists projects and sets what each may have at once")
        .subcommand_required(true)
        .subcommand(Command::new("list").about("Lists all projects: what they have, and what they may have"))
        .subcommand(
            Command::new("set-quota")
                .about("Sets limits for one project, in place of those of the settings")
                .arg(Arg::new("name").required(true).help("The project"))
                .args(quotas),
        )
}

fn flag(quota: Quota) -> &'static str {
    match quota {
        Quota::StoredBytes => "stored-bytes",
        Quota::Files => "files",
        Quota::QueuedJobs => "queued-jobs",
        Quota::RunningJobs => "running-jobs",
        Quota::Evaluations => "evaluations",
        Quota::DryRuns => "dry-runs",
    }
}

pub(super) async fn run(config: Config, action: &str, arguments: &ArgMatches) -> anyhow::Result<()> {
    let context = Context::open(config).await?;
    let done = if action == "list" { list(&context).await } else { set(&context, arguments).await };
    context.close().await;
    done
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let mut lines = String::new();
    for (account, limits) in quotas::list(&context.app).await.map_err(|error| anyhow!(error.chain()))? {
        writeln!(lines, "{}", account.name)?;
        for quota in Quota::ALL {
            let limit = match limits.get(quota) {
                0 => "no limit".to_owned(),
                limit => format!("of {limit}"),
            };
            let own = if account.own.get(quota).is_some() { "  (its own)" } else { "" };
            match quota {
                Quota::DryRuns => writeln!(lines, "  {:14} {limit}{own}", quota.as_str())?,
                _ => writeln!(lines, "  {:14} {} {limit}{own}", quota.as_str(), account.used.get(quota))?,
            }
        }
    }
    answer(&lines)
}

async fn set(context: &Context, arguments: &ArgMatches) -> anyhow::Result<()> {
    let name = arguments.get_one::<String>("name").cloned().unwrap_or_default();
    let mut changes = Vec::new();
    for quota in Quota::ALL {
        match arguments.get_one::<String>(quota.as_str()).map(String::as_str) {
            None => {}
            Some(DEFAULT) => changes.push((quota, None)),
            Some(number) => match number.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok()) {
                Some(number) => changes.push((quota, Some(number))),
                None => bail!("--{} is {number:?}; expected a whole number, or {DEFAULT}", flag(quota)),
            },
        }
    }
    if changes.is_empty() {
        bail!("nothing is set: give one of {}", Quota::ALL.map(|quota| format!("--{}", flag(quota))).join(", "));
    }
    quotas::set(&context.app, &name, &changes).await.map_err(|error| anyhow!(error.chain()))?;
    remark(&format!("the quotas of {name} are set"));
    Ok(())
}
