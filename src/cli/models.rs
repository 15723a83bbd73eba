//! `finetuned models`.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::ArgMatches;

use super::context::Context;
use crate::app::models;
use crate::config::Config;

pub(super) async fn run(config: Config, action: &str, arguments: &ArgMatches) -> anyhow::Result<()> {
    let context = Context::open(config).await?;
    let done = match action {
        "import" => import(&context, arguments).await,
        "remove" => remove(&context, arguments).await,
        _ => list(&context).await,
    };
    context.close().await;
    done
}

async fn import(context: &Context, arguments: &ArgMatches) -> anyhow::Result<()> {
    let directory = arguments.get_one::<PathBuf>("directory").context("a directory is needed")?;
    let directory = directory.canonicalize().with_context(|| directory.display().to_string())?;
    let name = match arguments.get_one::<String>("name") {
        Some(name) => name.clone(),
        None => directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let imported = models::import(&context.app, &directory, &name).await.map_err(|error| anyhow!(error.chain()))?;
    if !imported.skipped.is_empty() {
        eprintln!("left out: {}", imported.skipped.join(", "));
    }
    eprintln!("{} {}", imported.model.name, if imported.new { "is imported" } else { "was imported before" });
    Ok(())
}

async fn remove(context: &Context, arguments: &ArgMatches) -> anyhow::Result<()> {
    let name = arguments.get_one::<String>("name").context("a name is needed")?;
    let users = models::remove_base(&context.app, name).await.map_err(|error| anyhow!(error.chain()))?;
    match users {
        0 => eprintln!("{name} is removed; the service frees its files within a minute"),
        _ => eprintln!("{name} is removed; {users} active jobs go on with it, and its files go when they have ended"),
    }
    Ok(())
}

async fn list(context: &Context) -> anyhow::Result<()> {
    for model in models::list_base(&context.app).await.map_err(|error| anyhow!(error.chain()))? {
        println!(
            "{}  {}  {} wide, {} tokens",
            model.name, model.family, model.facts.hidden_size, model.facts.max_positions
        );
    }
    Ok(())
}
