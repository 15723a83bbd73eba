//! `finetuned keys`.

use std::fmt::Write;

use anyhow::{anyhow, bail};
use clap::ArgMatches;

use super::context::Context;
use super::output::{answer, remark, shown};
use crate::app::keys::{self, bootstrap_file};
use crate::config::Config;
use crate::domain::id::KeyId;
use crate::domain::project::Role;

pub(super) async fn run(config: Config, action: &str, arguments: &ArgMatches) -> anyhow::Result<()> {
    let context = Context::open(config).await?;
    let done = match action {
        "create" => create(&context, arguments).await,
        "list" => list(&context).await,
        _ => revoke(&context, arguments).await,
    };
    context.close().await;
    done
}

fn text(arguments: &ArgMatches, name: &str) -> String {
    arguments.get_one::<String>(name).cloned().unwrap_or_default()
}

/// A key that could not be shown is no use to anyone, and is ended again.
async fn create(context: &Context, arguments: &ArgMatches) -> anyhow::Result<()> {
    let app = &context.app;
    let (project, name) = (text(arguments, "project"), text(arguments, "name"));
    let role = if arguments.get_flag("admin") { Role::Admin } else { Role::Member };
    let created = keys::create_as(app, &project, &name, role).await;
    let (id, secret) = created.map_err(|error| anyhow!(error.chain()))?;
    remark(&format!("{id} for project {project}; the key is shown only now:"));
    if let Err(error) = answer(&format!("{}\n", secret.expose())) {
        keys::revoke(app, id).await.map_err(|error| anyhow!("{id} is not revoked: {}", error.chain()))?;
        bail!("the key {id} could not be shown and is revoked: {error:#}");
    }
    let had_file = bootstrap_file(app).exists();
    keys::forget_bootstrap(app).await;
    if had_file && !bootstrap_file(app).exists() {
        remark("the file of the first key is removed; that key can be used until it is revoked");
    }
    Ok(())
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let mut lines = String::new();
    for key in keys::list(&context.app).await.map_err(|error| anyhow!(error.chain()))? {
        let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
        let used = key.last_used_at.map_or("never used".to_owned(), |time| format!("used {}", date(time)));
        writeln!(
            lines,
            "{}  {:8} {:6} {:16} {:16} {}  made {}  {used}",
            key.id,
            state,
            key.role.as_str(),
            key.project,
            shown(&key.name),
            key.hint,
            date(key.created_at)
        )?;
    }
    answer(&lines)?;
    let path = bootstrap_file(&context.app);
    if path.exists() {
        remark(&format!("the first key is in {} until another one is made or it is revoked", path.display()));
    }
    Ok(())
}

async fn revoke(context: &Context, arguments: &ArgMatches) -> anyhow::Result<()> {
    let given = text(arguments, "id");
    let id: KeyId = given.parse().map_err(|error| anyhow!("{given}: {error}"))?;
    if !keys::revoke(&context.app, id).await.map_err(|error| anyhow!(error.chain()))? {
        bail!("there is no active key {id}");
    }
    remark(&format!("{id} is revoked"));
    Ok(())
}

fn date(time: crate::domain::Timestamp) -> String {
    time.date().to_string()
}
