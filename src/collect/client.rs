//! Whom a request counts against: the address of the browser, also behind reverse proxies.
//!
//! Owns: which address that is. An IPv6 client has a whole /64 to choose from, so that is what counts.
//! Does not own: what it may do (`limit`).

use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;

const FORWARDED_FOR: &str = "x-forwarded-for";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client(IpAddr);

impl Client {
    /// The last address that is no proxy of ours. What stands before it in `X-Forwarded-For` was written by whoever sent
    /// the request; without a proxy of ours, so was all of it.
    pub(super) fn of(peer: IpAddr, headers: &HeaderMap, proxies: &[IpAddr]) -> Self {
        let mut address = peer.to_canonical();
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut hops = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.rsplit(','))
            .map_while(|hop| hop.trim().parse::<IpAddr>().ok());
        while proxies.contains(&address)
            && let Some(before) = hops.next()
        {
            address = before.to_canonical();
        }
        Self(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        })
    }

    #[cfg(test)]
    pub(super) fn nth(n: u32) -> Self {
        Self(std::net::Ipv4Addr::from_bits(n).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str], proxies: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, line.parse().expect("a header"));
        }
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let proxies: Vec<IpAddr> = proxies.iter().map(|proxy| address(proxy)).collect();
        Client::of(address(peer), &headers, &proxies).0.to_string()
    }

    #[test]
    fn only_proxies_of_ours_are_believed() {
        assert_eq!(client("203.0.113.7", &["198.51.100.1"], &[]), "203.0.113.7");
        assert_eq!(client("203.0.113.7", &["198.51.100.1"], &["127.0.0.1"]), "203.0.113.7");
        let ours = ["127.0.0.1", "10.0.0.2"];
        assert_eq!(client("127.0.0.1", &["198.51.100.1"], &ours), "198.51.100.1");
        assert_eq!(
            client("127.0.0.1", &["6.6.6.6, 198.51.100.1,10.0.0.2"], &ours),
            "198.51.100.1"
        );
        assert_eq!(client("127.0.0.1", &["6.6.6.6", "198.51.100.1"], &ours), "198.51.100.1");
        assert_eq!(client("127.0.0.1", &["198.51.100.1, nonsense"], &ours), "127.0.0.1");
        assert_eq!(client("127.0.0.1", &[], &ours), "127.0.0.1");
    }

    #[test]
    fn of_ipv6_the_network_counts() {
        assert_eq!(client("2001:db8:1:2:3:4:5:6", &[], &[]), "2001:db8:1:2::");
        assert_eq!(client("::ffff:203.0.113.7", &[], &[]), "203.0.113.7");
        assert_eq!(
            client("::ffff:127.0.0.1", &["203.0.113.7"], &["127.0.0.1"]),
            "203.0.113.7"
        );
    }
}
