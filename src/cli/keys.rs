//! `finetuned keys`.

use anyhow::{anyhow, bail};
use clap::ArgMatches;

use super::context::Context;
use crate::app::keys;
use crate::config::Config;
use crate::domain::id::KeyId;

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
            let (id, secret) = keys::create(&context.app, &text("project"), &text("name"))
                .await
                .map_err(|error| anyhow!(error.chain()))?;
            eprintln!("{id} for project {}; the key is shown only now:", text("project"));
            println!("{}", secret.expose());
        }
        "list" => {
            for key in keys::list(&context.app).await.map_err(|error| anyhow!(error.chain()))? {
                let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
                let used = key.last_used_at.map_or("never used".to_owned(), |time| format!("used {}", date(time)));
                println!(
                    "{}  {:8} {:16} {:16} {}  made {}  {used}",
                    key.id,
                    state,
                    key.project,
                    key.name,
                    key.hint,
                    date(key.created_at)
                );
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
