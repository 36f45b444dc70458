//! Where a request comes from, and whether that is allowed.

use std::net::IpAddr;

/// Whether an address is among those listed, or nothing is listed. Entries are addresses or networks
/// such as `10.0.0.0/8`; what cannot be read allows nobody.
pub fn is_allowed(list: &[String], address: IpAddr) -> bool {
    list.is_empty() || is_listed(list, address)
}

/// Whether an address is among those listed.
pub fn is_listed(list: &[String], address: IpAddr) -> bool {
    list.iter().any(|entry| matches(entry, address))
}

fn matches(entry: &str, address: IpAddr) -> bool {
    let (network, bits) = match entry.split_once('/') {
        Some((network, bits)) => (network, bits.parse::<u32>().ok()),
        None => (entry, Some(u32::MAX)),
    };
    match (network.parse(), address, bits) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address), Some(bits)) => {
            same_prefix(network.to_bits().into(), address.to_bits().into(), 32, bits)
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address), Some(bits)) => {
            same_prefix(network.to_bits(), address.to_bits(), 128, bits)
        }
        _ => false,
    }
}

fn same_prefix(a: u128, b: u128, width: u32, bits: u32) -> bool {
    let ignored = width - bits.min(width);
    ignored >= 128 || (a >> ignored) == (b >> ignored)
}

/// The client's address: the peer's, unless one of the trusted headers is there. Of the first such
/// header's last line it is the last address that reads, or the first (CONTRACT §1.14).
pub fn client_address<'h>(
    peer: IpAddr,
    trusted: &[String],
    use_leftmost: bool,
    last_line: impl Fn(&str) -> Option<&'h str>,
) -> IpAddr {
    let Some(line) = trusted.iter().find_map(|name| last_line(name)) else { return peer };
    let mut addresses = line.split(',').filter_map(|part| part.trim().parse().ok());
    let found = if use_leftmost { addresses.next() } else { addresses.next_back() };
    found.unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed_by(entry: &str, address: &str) -> bool {
        is_allowed(&[entry.to_owned()], address.parse().unwrap())
    }

    #[test]
    fn addresses_and_networks_are_matched() {
        assert!(is_allowed(&[], "1.2.3.4".parse().unwrap()));
        assert!(is_allowed_by("1.2.3.4", "1.2.3.4"));
        assert!(!is_allowed_by("1.2.3.4", "1.2.3.5"));
        assert!(is_allowed_by("10.0.0.0/8", "10.200.0.1"));
        assert!(!is_allowed_by("10.0.0.0/8", "11.0.0.1"));
        assert!(is_allowed_by("0.0.0.0/0", "9.9.9.9"));
        assert!(is_allowed_by("2001:db8::/32", "2001:db8:1::1"));
        assert!(is_allowed_by("::/0", "2001:db8:1::1"));
        assert!(!is_allowed_by("2001:db8::/32", "1.2.3.4"));
        assert!(!is_allowed_by("nonsense", "1.2.3.4"));
    }

    #[test]
    fn only_trusted_headers_say_where_a_client_is() {
        let peer = IpAddr::from([127, 0, 0, 1]);
        let header = |name: &str| (name == "X-Forwarded-For").then_some("1.1.1.1, junk, 2.2.2.2, x");
        let trusted = ["X-Forwarded-For".to_owned()];
        assert_eq!(client_address(peer, &[], false, header), peer);
        assert_eq!(client_address(peer, &trusted, false, header), IpAddr::from([2, 2, 2, 2]));
        assert_eq!(client_address(peer, &trusted, true, header), IpAddr::from([1, 1, 1, 1]));
        assert_eq!(client_address(peer, &["Other".to_owned()], false, header), peer);
    }
}
