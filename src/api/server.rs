//! Serving connections over HTTP/1.1, with limits on how many there are, on how long a client may take to say what it
//! wants, and on how long it may let its answers wait.

use std::sync::Arc;
use std::time::Duration;

use axum::{Router, middleware};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use super::connections::Connections;
use super::linger::Lingering;
use super::pace::{Pace, READING_PACE};
use super::rate_limit::Strangers;
use super::unread::{Unread, limit_unsent};
use super::{connections, context, problem};
use crate::config::Config;

/// How long a request's head may take, and how long a connection may be idle between requests.
const HEAD: Duration = Duration::from_secs(10);
/// The same on a connection that is one too many: it is told so, and closed.
const REFUSED_HEAD: Duration = Duration::from_secs(2);
/// How many connections are told so at once; for those beyond, others are closed before they are told.
const REFUSED: usize = 64;
/// The largest head of a request, in bytes: what a connection without a key may have held. Bodies are read, and answers
/// written, in pieces of that size.
const HEAD_BYTES: usize = 64 << 10;
/// How many requests a minute without a valid key are served, and told in the log, from one address: two a second.
const STRANGERS: u32 = 120;
/// How long to wait after a connection could not be accepted, which is nearly always for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// How many there may be; 0 is no limit.
    pub total: usize,
    /// The same from one address.
    pub per_address: usize,
    /// What must be read of an answer in each stretch of time in which it waits.
    pub pace: Pace,
    /// How many requests without a valid key an address may send a minute before they are served sparingly and told in
    /// the log no more; 0 is no limit.
    pub strangers: u32,
}

impl ConnectionLimits {
    /// The limits of the settings.
    pub fn new(config: &Config) -> Self {
        Self {
            total: config.max_connections,
            per_address: config.max_connections_per_address,
            pace: READING_PACE,
            strangers: STRANGERS,
        }
    }
}

/// Serves `router` on `listener` until `shutdown`, and then until the requests on their way are answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    shutdown: impl Future<Output = ()>,
) {
    let open = GracefulShutdown::new();
    let strangers = Arc::new(Strangers::new(limits.strangers));
    let admitted = Connections::new(limits.total, limits.per_address, strangers.clone());
    let refused = Connections::new(REFUSED, 0, strangers);
    let attended = |router: Router| router.layer(middleware::from_fn(connections::attend));
    let refusal = Router::new().fallback(problem::too_many_connections).layer(middleware::from_fn(context::track));
    let (router, refusal) = (attended(router), attended(refusal));
    let (http, refusing) = (builder(HEAD, true), builder(REFUSED_HEAD, false));
    tokio::pin!(shutdown);
    loop {
        let (stream, address) = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => (stream, address.ip()),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (place, http, router) = match admitted.admit(address) {
            Some(place) => (place, &http, &router),
            None => match refused.admit(address) {
                Some(place) => (place, &refusing, &refusal),
                None => continue,
            },
        };
        let _ = stream.set_nodelay(true);
        limit_unsent(&stream);
        let stream = TokioIo::new(Lingering::new(Unread::new(stream, limits.pace, place.waits())));
        let service = TowerToHyperService::new(router.clone());
        let connection = Box::pin(open.watch(http.serve_connection(stream, service).into_owned()));
        tokio::spawn(place.hold(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "a connection ended early");
            }
        }));
    }
    open.shutdown().await;
}

fn builder(head: Duration, keep_alive: bool) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new()).http1_only();
    http.http1().timer(TokioTimer::new()).header_read_timeout(head).keep_alive(keep_alive).max_buf_size(HEAD_BYTES);
    http
}
