//! Serving connections over HTTP/1.1, with limits on how many there are, on how long a client may take to say what it
//! wants, and on how long it may let its answers wait.

use std::time::Duration;

use axum::{Router, middleware};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use super::connections::Connections;
use super::linger::Lingering;
use super::pace::{PACE, Pace};
use super::unread::Unread;
use super::{context, problem};
use crate::config::Config;

/// How long a request's head may take, and how long a connection may be idle between requests.
const HEAD: Duration = Duration::from_secs(10);
/// The same on a connection that is one too many: it is told so, and closed.
const REFUSED_HEAD: Duration = Duration::from_secs(2);
/// How many connections are told so at once; those beyond are closed at once.
const REFUSED: usize = 64;
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
}

impl ConnectionLimits {
    /// The limits of the settings.
    pub fn new(config: &Config) -> Self {
        Self { total: config.max_connections, per_address: config.max_connections_per_address, pace: PACE }
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
    let (admitted, refused) = (Connections::new(limits.total, limits.per_address), Connections::new(REFUSED, 0));
    let refusal = Router::new().fallback(problem::too_many_connections).layer(middleware::from_fn(context::track));
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
        let stream = TokioIo::new(Lingering::new(Unread::new(stream, limits.pace, forget)));
        let service = TowerToHyperService::new(router.clone());
        let connection = open.watch(http.serve_connection(stream, service).into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "a connection ended early");
            }
            drop(place);
        });
    }
    open.shutdown().await;
}

fn builder(head: Duration, keep_alive: bool) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new()).http1_only();
    http.http1().timer(TokioTimer::new()).header_read_timeout(head).keep_alive(keep_alive);
    http
}

/// Makes the system drop what was not read when the stream is closed, rather than offer it for minutes.
fn forget(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
