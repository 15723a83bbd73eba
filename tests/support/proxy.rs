//! A TCP proxy before a server that can drop connections, refuse them, and go silent without closing them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

const PASS: u8 = 0;
const REFUSE: u8 = 1;
const STALL: u8 = 2;

/// Where the proxy leads.
#[derive(Clone)]
pub enum Upstream {
    Unix(PathBuf),
    Tcp(String),
}

/// A running proxy.
#[derive(Clone)]
pub struct Proxy {
    pub address: String,
    mode: Arc<AtomicU8>,
    /// Counts up to cut every connection there is.
    cut: watch::Sender<u64>,
}

impl Proxy {
    pub async fn start(upstream: Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mode, (cut, cuts)) = (Arc::new(AtomicU8::new(PASS)), watch::channel(0));
        let shared = mode.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mode, cuts, upstream) = (shared.clone(), cuts.clone(), upstream.clone());
                tokio::spawn(async move { carry(client, upstream, mode, cuts).await });
            }
        });
        Self { address, mode, cut }
    }

    /// Lets everything through again. Connections that were silent stay so: their peers have long given up.
    pub fn pass(&self) {
        self.mode.store(PASS, Ordering::Release);
    }

    /// Cuts all connections and takes no new ones.
    pub fn refuse(&self) {
        self.mode.store(REFUSE, Ordering::Release);
        self.drop_all();
    }

    /// Takes connections and everything that is sent, and passes nothing on: a peer that vanished.
    pub fn stall(&self) {
        self.mode.store(STALL, Ordering::Release);
    }

    /// Cuts all connections that there are.
    pub fn drop_all(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

async fn carry(client: TcpStream, upstream: Upstream, mode: Arc<AtomicU8>, mut cuts: watch::Receiver<u64>) {
    cuts.mark_unchanged();
    if mode.load(Ordering::Acquire) == REFUSE {
        return;
    }
    let (down_in, down_out) = client.into_split();
    let moved = async {
        match upstream {
            Upstream::Unix(path) => {
                let Ok(server) = UnixStream::connect(path).await else { return };
                let (up_in, up_out) = server.into_split();
                tokio::select! { () = pump(down_in, up_out, &mode) => {}, () = pump(up_in, down_out, &mode) => {} }
            }
            Upstream::Tcp(address) => {
                let Ok(server) = TcpStream::connect(address).await else { return };
                let (up_in, up_out) = server.into_split();
                tokio::select! { () = pump(down_in, up_out, &mode) => {}, () = pump(up_in, down_out, &mode) => {} }
            }
        }
    };
    tokio::select! {
        () = moved => {}
        _ = cuts.changed() => {}
    }
}

/// Carries bytes one way until the end, or until the network goes silent: then for ever.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mode: &AtomicU8) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return };
        if mode.load(Ordering::Acquire) == STALL {
            std::future::pending::<()>().await;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
