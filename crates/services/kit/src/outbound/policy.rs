//! Which addresses may be reached.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::host::Host;

/// The addresses that requests may go to: all that are globally reachable, and the exceptions of the
/// configuration. It is asked for the address that is connected to, never only for a name.
///
/// Networks that translate IPv6 to IPv4 by a prefix of their own (RFC 6052) cannot be told from others: where
/// there is such a prefix, the translator must refuse private addresses.
#[derive(Debug, Default)]
pub struct OutboundPolicy {
    networks: Vec<IpNet>,
    /// In lower case.
    hosts: HashSet<String>,
    /// Allowed at one port alone.
    at_port: HashSet<(Host, u16)>,
}

/// Why a text is no exception, and what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyProblem {
    /// None of these.
    #[error(
        "`{0}` cannot be allowed; write an address (`10.0.0.7`, `fd00::7`), a network (`10.0.0.0/8`), the \
         whole name of a host (`shop.internal`), or an address or a name with one port (`10.0.0.7:3000`, \
         `[fd00::7]:3000`, `shop.internal:3000`), without scheme, path or `*`"
    )]
    Unreadable(String),
    /// A network whose address has bits past the prefix: it may be meant as more or as less.
    #[error("`{text}` is not a network; write `{network}`, or the address alone")]
    NotANetwork {
        /// As written.
        text: String,
        /// The network that has this address in it.
        network: IpNet,
    },
}

/// IPv4 that is not globally reachable, by the IANA IPv4 Special-Purpose Address Registry (RFC 6890), and
/// multicast. 192.0.0.0/24 goes whole, with its two anycast addresses of routers and relays; so do the relays
/// of 6to4.
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),      // "this network", RFC 791; 0.0.0.0 connects to the machine itself
    v4([10, 0, 0, 0], 8),     // private, RFC 1918
    v4([100, 64, 0, 0], 10),  // shared by carriers' customers, RFC 6598
    v4([127, 0, 0, 0], 8),    // loopback, RFC 1122
    v4([169, 254, 0, 0], 16), // link-local, RFC 3927; clouds' metadata
    v4([172, 16, 0, 0], 12),  // private, RFC 1918
    v4([192, 0, 0, 0], 24),   // protocol assignments, RFC 6890
    v4([192, 0, 2, 0], 24),   // documentation, RFC 5737
    v4([192, 88, 99, 0], 24), // relays of 6to4, deprecated, RFC 7526
    v4([192, 168, 0, 0], 16), // private, RFC 1918
    v4([198, 18, 0, 0], 15),  // benchmarking, RFC 2544
    v4([198, 51, 100, 0], 24), // documentation, RFC 5737
    v4([203, 0, 113, 0], 24), // documentation, RFC 5737
    v4([224, 0, 0, 0], 4),    // multicast, RFC 5771
    v4([240, 0, 0, 0], 4),    // reserved, RFC 1112
    v4([255, 255, 255, 255], 32), // broadcast, RFC 919
];

/// The only IPv6 that is given out for unicast, by the IANA IPv6 Address Space registry (RFC 4291). Outside
/// lie loopback, unspecified and IPv4-compatible (::/96), discard-only (100::/64), SRv6 (5f00::/16), unique
/// local (fc00::/7), link-local (fe80::/10), site-local (fec0::/10), multicast (ff00::/8), and what is reserved.
const UNICAST_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// What in it is not globally reachable, by the IANA IPv6 Special-Purpose Address Registry (RFC 6890).
/// 2001::/23 goes whole, with benchmarking, Teredo, ORCHID and the anycast addresses of protocols.
const SPECIAL_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), // protocol assignments, RFC 2928
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation, RFC 3849
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), // documentation, RFC 9637
];

/// IPv6 that stands for the IPv4 in its last 32 bits behind a translator, RFC 6052.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
/// IPv6 that is tunnelled to the IPv4 in its bits 16 to 48, RFC 3056.
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

// === impl OutboundPolicy ===

impl OutboundPolicy {
    /// The default with exceptions: each an address, a network, or the exact name of a host, whose addresses
    /// are then allowed whatever they are. An address or a name may have a port, and is allowed there alone.
    pub fn parse<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<OutboundPolicy, PolicyProblem> {
        let mut policy = OutboundPolicy::default();
        for text in texts {
            policy.except(text.as_ref())?;
        }
        Ok(policy)
    }

    fn except(&mut self, text: &str) -> Result<(), PolicyProblem> {
        if text.contains('/') {
            self.networks.push(network(text)?);
        } else if let Ok(address) = text.parse::<IpAddr>() {
            self.networks.push(address.to_canonical().into());
        } else if let Some((host, port)) = with_port(text) {
            self.at_port.insert((host, port));
        } else {
            let name = Host::parse_name(text).map_err(|_| PolicyProblem::Unreadable(text.to_owned()))?;
            self.hosts.insert(name);
        }
        Ok(())
    }

    /// Whether an address may be connected to, reached by that host: the name that was looked up, or itself.
    pub(super) fn allows(&self, host: &Host, address: SocketAddr) -> bool {
        // `::ffff:127.0.0.1` is the same destination as `127.0.0.1`.
        let (address, port) = (address.ip().to_canonical(), address.port());
        let is_at_port = |host: Host| !self.at_port.is_empty() && self.at_port.contains(&(host, port));
        matches!(host, Host::Name(name) if self.hosts.contains(name))
            || is_at_port(Host::Address(address))
            || matches!(host, Host::Name(_)) && is_at_port(host.clone())
            || self.networks.iter().any(|network| network.contains(&address))
            || is_globally_reachable(address)
    }
}

/// A host with a port, an IPv6 address in brackets.
fn with_port(text: &str) -> Option<(Host, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| is_port && *port > 0)?;
    let host = match Host::parse(host).ok()? {
        Host::Address(address) => Host::Address(address.to_canonical()),
        name => name,
    };
    Some((host, port))
}

fn network(text: &str) -> Result<IpNet, PolicyProblem> {
    let written = text.parse::<IpNet>().map_err(|_| PolicyProblem::Unreadable(text.to_owned()))?;
    let network = written.trunc();
    if network != written {
        return Err(PolicyProblem::NotANetwork { text: text.to_owned(), network });
    }
    Ok(canonical(network))
}

/// Addresses are asked for in their canonical form, so a network of mapped ones becomes what it maps.
fn canonical(network: IpNet) -> IpNet {
    let mapped = match (network, network.addr().to_canonical()) {
        (IpNet::V6(_), IpAddr::V4(address)) => network
            .prefix_len()
            .checked_sub(96)
            .and_then(|prefix| Ipv4Net::new(address, prefix).ok())
            .map(IpNet::V4),
        _ => None,
    };
    mapped.unwrap_or(network)
}

fn is_globally_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_v4_reachable(address),
        IpAddr::V6(address) => is_v6_reachable(address),
    }
}

fn is_v4_reachable(address: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|special| special.contains(&address))
}

fn is_v6_reachable(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    if NAT64.contains(&address) {
        is_v4_reachable(Ipv4Addr::from_bits(bits as u32))
    } else if SIX_TO_FOUR.contains(&address) {
        is_v4_reachable(Ipv4Addr::from_bits((bits >> 80) as u32))
    } else {
        UNICAST_V6.contains(&address) && !SPECIAL_V6.iter().any(|special| special.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ends of every special range, and addresses in them.
    const REFUSED: [&str; 73] = [
        "0.0.0.0",
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.9",
        "192.0.0.255",
        "192.0.2.0",
        "192.0.2.255",
        "192.88.99.1",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.0",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.254",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::1",
        "64:ff9b:1::8.8.8.8",
        "100::",
        "100::1",
        "100:0:0:1::1",
        "2001::",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db8::1",
        "2002::",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2002:a9fe:a9fe::1",
        "2002:c0a8:101::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::",
        "fd00:ec2::254",
        "fdff:ffff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];

    const REACHABLE: [&str; 24] = [
        "1.0.0.0",
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2001:4860:4860::8888",
        "2a00:1450::1",
    ];

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn allows(policy: &OutboundPolicy, text: &str) -> bool {
        policy.allows(&Host::Address(address(text)), SocketAddr::new(address(text), 443))
    }

    fn except(text: &str) -> OutboundPolicy {
        OutboundPolicy::parse([text]).unwrap()
    }

    #[test]
    fn every_special_range_is_refused_and_allowed_when_excepted() {
        let policy = OutboundPolicy::default();
        for text in REFUSED {
            assert!(!allows(&policy, text), "{text}");
            assert!(allows(&except(text), text), "{text}");
            let is_v4 = address(text).to_canonical().is_ipv4();
            assert!(allows(&except(if is_v4 { "0.0.0.0/0" } else { "::/0" }), text), "{text}");
            assert!(!allows(&except(if is_v4 { "::/0" } else { "0.0.0.0/0" }), text), "{text}");
        }
    }

    #[test]
    fn what_is_globally_reachable_is_allowed() {
        let policy = OutboundPolicy::default();
        for text in REACHABLE {
            assert!(allows(&policy, text), "{text}");
        }
    }

    #[test]
    fn an_exception_allows_no_more_than_it_says() {
        let one = except("10.0.0.7");
        assert!(allows(&one, "10.0.0.7") && allows(&one, "::ffff:10.0.0.7"));
        assert!(!allows(&one, "10.0.0.8") && !allows(&one, "64:ff9b::10.0.0.7"));
        let network = except("10.0.0.0/8");
        assert!(allows(&network, "10.255.0.1") && !allows(&network, "127.0.0.1"));
        let mapped = except("::ffff:10.0.0.0/104");
        assert!(allows(&mapped, "10.255.0.1") && !allows(&mapped, "127.0.0.1"));
        let local = except("fd00::/8");
        assert!(allows(&local, "fd12::1") && !allows(&local, "fc00::1"));
    }

    #[test]
    fn a_named_host_is_allowed_whatever_its_addresses_are() {
        let policy = except("Shop.internal");
        let allows = |name: &str| {
            policy.allows(&Host::Name(name.to_owned()), SocketAddr::new(address("10.0.0.1"), 443))
        };
        assert!(allows("shop.internal"));
        assert!(!allows("a.shop.internal") && !allows("internal") && !allows("shop.internal.example"));
        assert!(!self::allows(&policy, "10.0.0.1"));
    }

    #[test]
    fn an_exception_with_a_port_is_for_that_port_alone() {
        let policy = OutboundPolicy::parse(["127.0.0.1:3000", "[::1]:3000", "Shop.internal:3000"]).unwrap();
        let allows = |host: &str, address: &str| {
            policy.allows(&Host::parse(host).unwrap(), address.parse::<SocketAddr>().unwrap())
        };
        assert!(allows("127.0.0.1", "127.0.0.1:3000") && allows("[::ffff:7f00:1]", "[::ffff:7f00:1]:3000"));
        assert!(allows("localhost", "127.0.0.1:3000"), "it is the address that counts");
        assert!(allows("[::1]", "[::1]:3000") && allows("shop.internal", "10.0.0.1:3000"));
        for (host, address) in [
            ("127.0.0.1", "127.0.0.1:3001"),
            ("127.0.0.2", "127.0.0.2:3000"),
            ("[::1]", "[::1]:80"),
            ("shop.internal", "10.0.0.1:3001"),
            ("other.internal", "10.0.0.1:3000"),
        ] {
            assert!(!allows(host, address), "{host} {address}");
        }
        // Colons alone are an address, as they always were.
        assert!(self::allows(&except("fd00::7:3000"), "fd00::7:3000"));
    }

    #[test]
    fn what_is_no_exception_is_an_error_that_says_what_is() {
        for text in [
            "",
            " ",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/",
            "/8",
            "fd00::/129",
            "*.internal",
            "*",
            "shop.internal.",
            "http://shop.internal",
            "shop.internal:",
            "shop.internal:0",
            "shop.internal:+80",
            "shop.internal:65536",
            "10.0.0.0:80/8",
            "fd00::7:x",
            "127.1:80",
            "shop.internal/path",
            "[::1]",
            "127.1",
            "0x7f.1",
            "2130706433",
            "10.0.0.1 ",
            "m\u{fc}nchen.example",
            "fe80::1%eth0",
            "10.0.0.1-10.0.0.9",
        ] {
            let problem = OutboundPolicy::parse([text]).unwrap_err();
            assert_eq!(problem, PolicyProblem::Unreadable(text.to_owned()), "{text}");
            assert!(problem.to_string().contains("a network (`10.0.0.0/8`)"));
        }
        let problem = OutboundPolicy::parse(["127.0.0.1", "10.1.2.3/8"]).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "`10.1.2.3/8` is not a network; write `10.0.0.0/8`, or the address alone"
        );
    }
}
