//! `finetuned keys`.

use anyhow::{anyhow, bail};
use clap::ArgMatches;

use super::context::Context;
use crate::app::keys::{self, bootstrap_file};
use crate::config::Config;
use crate::domain::id::KeyId;
use crate::domain::project::Role;

pub(super) async fn run(config: Config, action: &str, arguments: &ArgMatches) -> anyhow::Result<()> {
    let context = Context::open(config).await?;
    let done = act(&context, action, arguments).await;
    context.close().await;
    done
}

async fn act(context: &Context, action: &str, arguments: &ArgMatches) -> anyhow::Result<()> {
    let text = |name: &str| arguments.get_one::<String>(name).cloned().unwrap_or_default();
    match action {
        "create" => {
            let role = if arguments.get_flag("admin") { Role::Admin } else { Role::Member };
            let had_file = bootstrap_file(&context.app).exists();
            let (id, secret) = keys::create_as(&context.app, &text("project"), &text("name"), role)
                .await
                .map_err(|error| anyhow!(error.chain()))?;
            if had_file && !bootstrap_file(&context.app).exists() {
                eprintln!("the file of the first key is removed; that key can be used until it is revoked");
            }
            eprintln!("{id} for project {}; the key is shown only now:", text("project"));
            println!("{}", secret.expose());
        }
        "list" => {
            for key in keys::list(&context.app).await.map_err(|error| anyhow!(error.chain()))? {
                let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
                let used = key.last_used_at.map_or("never used".to_owned(), |time| format!("used {}", date(time)));
                println!(
                    "{}  {:8} {:6} {:16} {:16} {}  made {}  {used}",
                    key.id,
                    state,
                    key.role.as_str(),
                    key.project,
                    key.name,
                    key.hint,
                    date(key.created_at)
                );
            }
            let path = bootstrap_file(&context.app);
            if path.exists() {
                eprintln!("the first key is in {} until another one is made or it is revoked", path.display());
            }
        }
        _ => {
            let id: KeyId = text("id").parse().map_err(|error| anyhow!("{}: {error}", text("id")))?;
            if !keys::revoke(&context.app, id).await.map_err(|error| anyhow!(error.chain()))? {
                bail!("there is no active key {id}");
            }
            eprintln!("{id} is revoked");
        }
    }
    Ok(())
}

fn date(time: crate::domain::Timestamp) -> String {
    time.date().to_string()
}
