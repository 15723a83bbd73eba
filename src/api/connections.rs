//! How many connections there may be, in all and from one address, and which of them give way to others.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rate_limit::Strangers;

/// The connections there are.
#[derive(Clone)]
pub(super) struct Connections(Arc<Inner>);

struct Inner {
    most: usize,
    most_per_address: usize,
    strangers: Arc<Strangers>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    seats: HashMap<u64, Seat>,
    by_address: HashMap<IpAddr, usize>,
    next: u64,
}

/// What is known of one connection.
struct Seat {
    address: IpAddr,
    /// Since when no request with a valid key is at work on it; None while one is.
    idle: Option<Instant>,
    /// Whether there was such a request.
    had_key: bool,
    /// Whether a part of an answer waits to be written, which may be so for long after its request was done with.
    waits: Arc<AtomicBool>,
    closed: CancellationToken,
}

/// The place of one connection, free again when this is dropped.
pub(super) struct Admission {
    connections: Connections,
    number: u64,
    address: IpAddr,
    waits: Arc<AtomicBool>,
    closed: CancellationToken,
}

impl Connections {
    /// At most so many in all and from one address; 0 is no limit.
    pub(super) fn new(most: usize, most_per_address: usize, strangers: Arc<Strangers>) -> Self {
        Self(Arc::new(Inner { most, most_per_address, strangers, open: Mutex::default() }))
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from this address, if there is one or one can be made. Where all are taken, one that
    /// has no work is closed, so that nobody without a key keeps others out by opening connections and leaving it at
    /// that. A request without a valid key is no work, or reading slowly what needs no key would do the same.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Arc<Admission>> {
        let address = network(address);
        let mut open = self.open();
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        let is_full = |count: usize, most: usize| most > 0 && count >= most;
        if is_full(here, self.0.most_per_address) {
            return None;
        }
        if is_full(open.seats.len(), self.0.most) {
            let idlest = open.idlest()?;
            if let Some(seat) = open.leave(idlest) {
                seat.closed.cancel();
            }
        }
        let number = open.next;
        open.next += 1;
        *open.by_address.entry(address).or_default() += 1;
        let (waits, closed) = (Arc::<AtomicBool>::default(), CancellationToken::new());
        let idle = Some(Instant::now());
        open.seats.insert(number, Seat { address, idle, had_key: false, waits: waits.clone(), closed: closed.clone() });
        Some(Arc::new(Admission { connections: self.clone(), number, address, waits, closed }))
    }
}

impl Open {
    /// Of the connections that may be closed, the one that has been idle for longest of the address with the most.
    fn idlest(&self) -> Option<u64> {
        let idle: Vec<(u64, IpAddr, Instant)> =
            self.seats.iter().filter_map(|(number, seat)| Some((*number, seat.address, seat.idle_since()?))).collect();
        let mut by_address = HashMap::<IpAddr, usize>::new();
        for (_, address, _) in &idle {
            *by_address.entry(*address).or_default() += 1;
        }
        let idlest = idle.iter().max_by_key(|(number, address, since)| {
            (by_address.get(address).copied().unwrap_or(0), Reverse(*since), Reverse(*number))
        });
        idlest.map(|(number, ..)| *number)
    }

    /// Takes a connection off the list; None if it is not on it any more.
    fn leave(&mut self, number: u64) -> Option<Seat> {
        let seat = self.seats.remove(&number)?;
        if let Some(here) = self.by_address.get_mut(&seat.address) {
            *here -= 1;
            if *here == 0 {
                self.by_address.remove(&seat.address);
            }
        }
        Some(seat)
    }
}

impl Seat {
    /// Since when it could be closed without harm; None if it cannot.
    fn idle_since(&self) -> Option<Instant> {
        self.idle.filter(|_| !(self.had_key && self.waits.load(Ordering::Relaxed)))
    }
}

tokio::task_local! {
    /// The place of the connection that this task serves.
    static HERE: Arc<Admission>;
}

impl Admission {
    /// Serves the connection that has this place, until it ends or is closed to make room for another one.
    pub(super) async fn hold(self: Arc<Self>, connection: impl Future<Output = ()>) {
        let closed = self.closed.clone();
        let served = async move {
            tokio::select! {
                biased;
                () = closed.cancelled() => tracing::debug!("a connection was closed to make room for another one"),
                () = connection => {}
            }
        };
        HERE.scope(self, served).await;
    }

    /// Where it is noted that a part of an answer waits to be written.
    pub(super) fn waits(&self) -> Arc<AtomicBool> {
        self.waits.clone()
    }

    /// Keeps the connection open for a request with a valid key until it is answered; false if it is closed already.
    pub(super) fn engage(&self) -> bool {
        let mut open = self.connections.open();
        let Some(seat) = open.seats.get_mut(&self.number) else { return false };
        (seat.idle, seat.had_key) = (None, true);
        true
    }

    fn release(&self) {
        if let Some(seat) = self.connections.open().seats.get_mut(&self.number) {
            seat.idle = seat.idle.or(Some(Instant::now()));
        }
    }

    /// How long until its address may send another request without a valid key; None if it may now.
    pub(super) fn strangers_wait(&self) -> Option<Duration> {
        self.connections.0.strangers.wait(self.address)
    }

    /// Counts a request without a valid key; false if its address had sent too many.
    pub(super) fn take_stranger(&self) -> bool {
        self.connections.0.strangers.take(self.address)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.connections.open().leave(self.number);
    }
}

/// A request, up to the end of its answer.
struct AtWork(Arc<Admission>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Middleware around everything: tells a request its connection's place, which a connection over HTTP/1 can do since it
/// answers in the task that serves it, and notes when the last of its answer was handed over.
pub(super) async fn attend(mut request: Request, next: Next) -> Response {
    let Ok(place) = HERE.try_with(Arc::clone) else { return next.run(request).await };
    request.extensions_mut().insert(place.clone());
    let at_work = AtWork(place);
    let mut response = next.run(request).await;
    if response.body().is_end_stream() {
        return response;
    }
    // A stream does not tell its length.
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(length.into());
    }
    response.map(|body| {
        let chunks = (body.into_data_stream(), at_work);
        Body::from_stream(futures_util::stream::unfold(chunks, |(mut chunks, at_work)| async move {
            chunks.next().await.map(|chunk| (chunk, (chunks, at_work)))
        }))
    })
}

/// What counts as one address: of IPv6 the first half, which is what a subscriber gets (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::{Admission, Connections, Strangers};

    fn connections(most: usize, most_per_address: usize) -> Connections {
        Connections::new(most, most_per_address, Arc::new(Strangers::new(0)))
    }

    fn admit(connections: &Connections, address: &str) -> Option<Arc<Admission>> {
        connections.admit(address.parse().unwrap())
    }

    /// The numbers of those that were closed.
    fn closed(places: &[Arc<Admission>]) -> Vec<usize> {
        (0..places.len()).filter(|number| places[*number].closed.is_cancelled()).collect()
    }

    #[test]
    fn places_are_counted_in_all_and_by_address() {
        let connections = connections(3, 2);
        let one = admit(&connections, "10.0.0.1").unwrap();
        let two = admit(&connections, "::ffff:10.0.0.1").unwrap();
        assert!(admit(&connections, "10.0.0.1").is_none(), "two from one address");
        let three = admit(&connections, "2001:db8::1").unwrap();
        assert!([&one, &two, &three].into_iter().all(|place| place.engage()));
        assert!(admit(&connections, "10.0.0.2").is_none(), "three in all");
        drop(one);
        let four = admit(&connections, "2001:db8::ffff").unwrap();
        assert!(four.engage());
        drop(three);
        assert!(admit(&connections, "2001:db8::2").is_some());
        let endless = self::connections(0, 0);
        let all: Vec<_> = (0..100).map(|_| admit(&endless, "::1").unwrap()).collect();
        drop(all);
        assert!(endless.open().by_address.is_empty() && endless.open().seats.is_empty());
    }

    #[test]
    fn whoever_has_most_and_does_least_gives_way() {
        let connections = connections(4, 0);
        let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.2"];
        let mut places: Vec<_> = addresses.iter().map(|address| admit(&connections, address).unwrap()).collect();
        assert!(places[1].engage());
        places.push(admit(&connections, "10.0.0.3").unwrap());
        assert_eq!(closed(&places), [2], "of two that are idle, the older one");
        assert!(!places[2].engage(), "it is too late for a request");
        places.push(admit(&connections, "10.0.0.4").unwrap());
        assert_eq!(closed(&places), [0, 2], "among equals the oldest");
        for place in [3, 4, 5] {
            assert!(places[place].engage());
        }
        assert!(admit(&connections, "10.0.0.5").is_none(), "all of them work");

        places[4].release();
        places[4].waits.store(true, Ordering::Relaxed);
        assert!(admit(&connections, "10.0.0.5").is_none(), "its answer is still being read");
        places[4].waits.store(false, Ordering::Relaxed);
        let last = admit(&connections, "10.0.0.5").unwrap();
        assert_eq!(closed(&places), [0, 2, 4]);
        last.waits.store(true, Ordering::Relaxed);
        assert!(admit(&connections, "10.0.0.6").is_some(), "an answer to nobody we know");
        assert!(last.closed.is_cancelled());
        drop((places, last));
        assert!(connections.open().by_address.is_empty() && connections.open().seats.is_empty());
    }
}
