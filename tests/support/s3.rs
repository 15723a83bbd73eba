//! An S3-compatible object store: one in this process, or the one that `FINETUNED_TEST_S3_URL` names.

use std::collections::BTreeMap;
use std::sync::Arc;

use finetuned::config::StoreLocation;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;

/// A bucket to store objects in.
pub struct Bucket {
    pub url: String,
    /// The `AWS_*` variables that lead to it.
    pub options: BTreeMap<String, String>,
    _folder: Option<Arc<TempDir>>,
}

impl Bucket {
    /// A bucket of its own, or a prefix of its own in the one that the environment names.
    pub async fn new() -> Self {
        if let Ok(url) = std::env::var("FINETUNED_TEST_S3_URL") {
            let url = format!("{}/{}", url.trim_end_matches('/'), uuid::Uuid::new_v4().simple());
            let options = std::env::vars().filter(|(name, _)| name.starts_with("AWS_")).collect();
            return Self { url, options, _folder: None };
        }
        let folder = Arc::new(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path().join("models")).unwrap();
        let address = serve(folder.path()).await;
        let options = [
            ("AWS_ENDPOINT_URL", format!("http://{address}")),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ];
        let options = options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { url: "s3://models/some/prefix".to_owned(), options, _folder: Some(folder) }
    }

    pub fn location(&self) -> StoreLocation {
        StoreLocation::S3 { url: self.url.clone(), options: self.options.clone() }
    }
}

async fn serve(root: &std::path::Path) -> std::net::SocketAddr {
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    builder.set_auth(SimpleAuth::from_single("test", "secret"));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(async move {
                let http = Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    address
}
