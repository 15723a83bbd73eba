//! `finetuned models`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::ArgMatches;

use super::context::Context;
use super::output::{answer, remark, shown};
use crate::app::models;
use crate::config::Config;
use crate::domain::model::{base_model_name_near, is_base_model_name};

pub(super) async fn run(config: Config, action: &str, arguments: &ArgMatches) -> anyhow::Result<()> {
    let context = match action {
        "import" => Context::open_with_store(config).await?,
        _ => Context::open(config).await?,
    };
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
        None => name_of(&directory)?,
    };
    let imported = match arguments.get_one::<String>("base") {
        Some(base) => models::import_upon(&context.app, &directory, &name, base).await,
        None => models::import(&context.app, &directory, &name).await,
    };
    let imported = imported.map_err(|error| anyhow!(error.chain()))?;
    for note in &imported.model.facts.notes {
        remark(&format!("note: {}", shown(note)));
    }
    if !imported.skipped.is_empty() {
        let skipped: Vec<String> = imported.skipped.iter().map(|name| shown(name)).collect();
        remark(&format!("left out: {}", skipped.join(", ")));
    }
    let done = if imported.new { "is imported" } else { "was imported before" };
    remark(&format!("{} {done}", imported.model.name));
    Ok(())
}

/// The name of a model that is called as its folder or file is.
fn name_of(directory: &Path) -> anyhow::Result<String> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".gguf").map_or(name.clone(), str::to_owned);
    if is_base_model_name(&name) {
        return Ok(name);
    }
    let near = base_model_name_near(&name).unwrap_or_else(|| "my-model".to_owned());
    Err(anyhow!("{} cannot be a model's name; choose one with --name, as in --name {near}", shown(&name)))
}

async fn remove(context: &Context, arguments: &ArgMatches) -> anyhow::Result<()> {
    let name = arguments.get_one::<String>("name").context("a name is needed")?;
    let users = models::remove_base(&context.app, name).await.map_err(|error| anyhow!(error.chain()))?;
    remark(&match users {
        0 => format!("{name} is removed; the service frees its files within a minute"),
        _ => format!("{name} is removed; {users} active jobs go on with it, and its files go when they have ended"),
    });
    Ok(())
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let mut lines = String::new();
    for model in models::list_base(&context.app).await.map_err(|error| anyhow!(error.chain()))? {
        let (name, family, facts) = (model.name, model.family, model.facts);
        writeln!(lines, "{name}  {family}  {} wide, {} tokens", facts.hidden_size, facts.max_positions)?;
    }
    answer(&lines)
}
