//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections there are.
#[derive(Clone)]
pub(super) struct Connections(Arc<Inner>);

struct Inner {
    most: usize,
    most_per_address: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    count: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The place of one connection, free again when this is dropped.
pub(super) struct Place {
    connections: Connections,
    address: IpAddr,
}

impl Connections {
    /// At most so many in all and from one address; 0 is no limit.
    pub(super) fn new(most: usize, most_per_address: usize) -> Self {
        Self(Arc::new(Inner { most, most_per_address, open: Mutex::default() }))
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from this address, if there is one.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut open = self.open();
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        let is_full = |count: usize, most: usize| most > 0 && count >= most;
        if is_full(open.count, self.0.most) || is_full(here, self.0.most_per_address) {
            return None;
        }
        open.count += 1;
        open.by_address.insert(address, here + 1);
        Some(Place { connections: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.count -= 1;
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
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
    use super::Connections;

    #[test]
    fn places_are_counted_in_all_and_by_address() {
        let admit = |connections: &Connections, address: &str| connections.admit(address.parse().unwrap());
        let connections = Connections::new(3, 2);
        let one = admit(&connections, "10.0.0.1").unwrap();
        let _two = admit(&connections, "::ffff:10.0.0.1").unwrap();
        assert!(admit(&connections, "10.0.0.1").is_none(), "two from one address");
        let three = admit(&connections, "2001:db8::1").unwrap();
        assert!(admit(&connections, "10.0.0.2").is_none(), "three in all");
        drop(one);
        let _four = admit(&connections, "2001:db8::ffff").unwrap();
        drop(three);
        assert!(admit(&connections, "2001:db8::2").is_some());
        let endless = Connections::new(0, 0);
        let all: Vec<_> = (0..100).map(|_| admit(&endless, "::1").unwrap()).collect();
        drop(all);
        assert!(endless.open().by_address.is_empty());
    }
}
