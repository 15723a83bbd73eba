//! Whose a store is. A database and its store have the same id: a service that is pointed at the store of another
//! database would take all of its objects for leftovers, and remove them.

use uuid::Uuid;

use super::App;
use crate::db::objects;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::store::ID_KEY;

/// Where objects are.
pub const PREFIXES: [&str; 3] = ["files/", "jobs/", "models/"];
/// How many objects of a store are looked up to see whether the database knows them.
const SAMPLE: usize = 1000;

/// Sees to it that the store is this database's and says so. A store that says nothing becomes its own if it is empty,
/// or if the database knows most of its objects: it was filled before stores said whose they are. One that does becomes
/// that of a database which has none yet, and knows most of its objects: it is the one of before, restored from a backup.
///
/// # Errors
/// The store is another's ([`ErrorKind::Conflict`]; the message says how to go on), or the database or the store is away.
pub async fn claim(app: &App) -> Result<()> {
    let (db, store) = (app.db.pool(), &app.store);
    let (said, own) = (store.id().await?, objects::store_id(db).await?);
    if let (Some(said), Some(own)) = (&said, own) {
        return if names(said, own) { Ok(()) } else { Err(foreign(app, Some(said), own)) };
    }
    let keys = keys(app).await?;
    let is_ours = if keys.is_empty() { said.is_none() } else { knows_most(app, &keys).await? };
    let adopted = said.as_ref().filter(|_| is_ours).and_then(|said| said.parse::<Uuid>().ok());
    let own = objects::keep_store_id(db, own.or(adopted).unwrap_or_else(Uuid::new_v4)).await?;
    if !is_ours {
        return Err(foreign(app, said.as_deref(), own));
    }
    if said.is_none() {
        if keys.is_empty() && objects::any_named(db).await? {
            tracing::warn!(store = ?app.config.store, "the store is empty, but the database names objects in it");
        }
        store.set_id(&own.to_string()).await?;
    }
    // Another database may have been faster.
    match store.id().await? {
        Some(said) if names(&said, own) => Ok(()),
        said => Err(foreign(app, said.as_deref(), own)),
    }
}

fn names(said: &str, own: Uuid) -> bool {
    said.parse().is_ok_and(|said: Uuid| said == own)
}

async fn keys(app: &App) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for prefix in PREFIXES {
        keys.extend(app.store.list(prefix).await?.into_iter().map(|object| object.key));
    }
    Ok(keys)
}

/// Whether rows name at least half of these objects. Keys hold random ids, so no other database can know them.
async fn knows_most(app: &App, keys: &[String]) -> Result<bool> {
    let sample: Vec<String> = keys.iter().step_by(keys.len().div_ceil(SAMPLE).max(1)).cloned().collect();
    let unnamed = objects::unnamed(app.db.pool(), &sample).await?;
    Ok(unnamed.len() * 2 <= sample.len())
}

/// The error of a store that is not this database's, whose own has the id `own`.
fn foreign(app: &App, said: Option<&str>, own: Uuid) -> Error {
    let store = &app.config.store;
    let why = match said {
        Some(said) => format!("it says {said:?} in its object {ID_KEY}, and this database's store is {own}"),
        None => format!("it holds objects that the database does not know, and no object {ID_KEY} that says {own}"),
    };
    let message = format!(
        "the store {store:?} is not this database's: {why}. Its objects would be taken for leftovers and removed, so \
         nothing is done with it. Name the store of this database (FINETUNED_STORE_DIR or FINETUNED_STORE_URL), or the \
         database of this store (DATABASE_URL or FINETUNED_STATE_DIR). If the two shall belong together all the same, \
         write {own} into {store:?}/{ID_KEY}: objects that the database does not know are removed then"
    );
    Error::new(ErrorKind::Conflict, message)
}
