//! A database of its own for each test, copied from one that is migrated once.

use finetuned::db::Db;
use sqlx::{Connection, Executor, PgConnection};

use super::proxy::{Proxy, Upstream};

const TEMPLATE: &str = "finetuned_template";

/// Makes a fresh, migrated database and returns its URL.
pub async fn fresh() -> String {
    let server = std::env::var("FINETUNED_TEST_DATABASE_URL").unwrap_or_else(|_| {
        panic!("FINETUNED_TEST_DATABASE_URL is not set: run `make test`, or scripts/with_postgres.py cargo nextest run")
    });
    let mut admin = PgConnection::connect(&server).await.unwrap();
    // One test process makes the template while the others wait.
    admin.execute("select pg_advisory_lock(7)").await.unwrap();
    let exists: Option<i32> = sqlx::query_scalar("select 1 from pg_database where datname = $1")
        .bind(TEMPLATE)
        .fetch_optional(&mut admin)
        .await
        .unwrap();
    if exists.is_none() {
        admin.execute("create database finetuned_making").await.unwrap();
        let db = Db::connect(&named(&server, "finetuned_making"), 2).await.unwrap();
        db.migrate().await.unwrap();
        db.close().await;
        execute(&mut admin, format!("alter database finetuned_making rename to {TEMPLATE}")).await;
    }
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    execute(&mut admin, format!("create database {name} template {TEMPLATE}")).await;
    admin.execute("select pg_advisory_unlock(7)").await.unwrap();
    admin.close().await.unwrap();
    named(&server, &name)
}

/// A database with what a dump says, and nothing else.
pub async fn restored(dump: &str) -> String {
    let server = std::env::var("FINETUNED_TEST_DATABASE_URL").unwrap();
    let mut admin = PgConnection::connect(&server).await.unwrap();
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    execute(&mut admin, format!("create database {name} template template0")).await;
    admin.close().await.unwrap();
    let url = named(&server, &name);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(dump.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    url
}

/// A fresh database behind a proxy: the URL through it, and the one around it.
pub async fn behind_proxy() -> (String, String, Proxy) {
    let direct = fresh().await;
    let options = direct.split_once('?').map_or("", |(_, options)| options);
    let socket = options.split('&').find_map(|option| option.strip_prefix("host="));
    let upstream = match socket {
        Some(folder) => Upstream::Unix(std::path::Path::new(&folder.replace("%2F", "/")).join(".s.PGSQL.5432")),
        None => Upstream::Tcp(direct.split('@').nth(1).unwrap().split('/').next().unwrap().to_owned()),
    };
    let proxy = Proxy::start(upstream).await;
    let (login, rest) = direct.split_once('@').unwrap();
    let database = rest.split_once('/').unwrap().1.split('?').next().unwrap();
    (format!("{login}@{}/{database}?sslmode=disable", proxy.address), direct, proxy)
}

/// Runs a statement made of names that this file chose.
async fn execute(admin: &mut PgConnection, statement: String) {
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(admin).await.unwrap();
}

/// The URL of another database on the same server.
fn named(server: &str, database: &str) -> String {
    let (address, options) = server.split_once('?').unwrap_or((server, ""));
    let (address, _) = address.rsplit_once('/').unwrap();
    format!("{address}/{database}?{options}")
}
