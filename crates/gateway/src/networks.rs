//! Lists of networks, as the configuration has them, asked for many addresses.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// Some networks. A look-up costs the same for three as for three thousand of them, or almost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// As they were given.
    listed: Vec<IpNet>,
    /// The first and the last address of each, in order, none within another.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    /// Reads addresses and networks such as `10.0.0.0/8`. The error is the first text that is neither.
    pub fn parse<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Self, String> {
        let listed = texts.into_iter().map(|text| network(text).ok_or_else(|| text.to_owned()));
        Ok(Self::new(listed.collect::<Result<_, _>>()?))
    }

    fn new(listed: Vec<IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        // Merged, so that none of those that are left lies within another.
        for network in IpNet::aggregate(&listed) {
            match network {
                IpNet::V4(network) => v4.push((network.network().to_bits(), network.broadcast().to_bits())),
                IpNet::V6(network) => v6.push((network.network().to_bits(), network.broadcast().to_bits())),
            }
        }
        v4.sort_unstable();
        v6.sort_unstable();
        Self { listed, v4, v6 }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether an address lies in one of them. An IPv4 address in IPv6's clothes is the IPv4 address.
    pub fn contain(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => lies_in(&self.v4, address.to_bits()),
            IpAddr::V6(address) => lies_in(&self.v6, address.to_bits()),
        }
    }

    /// As they were given.
    pub fn iter(&self) -> impl Iterator<Item = &(impl fmt::Display + use<>)> {
        self.listed.iter()
    }
}

fn network(text: &str) -> Option<IpNet> {
    let network: IpNet = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    // `::ffff:10.0.0.0/104` would never fit: addresses are compared in their own clothes.
    match network {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => None,
        network => Some(network.trunc()),
    }
}

fn lies_in<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).is_some_and(|position| address <= ranges[position].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contain(texts: &[&str], address: &str) -> bool {
        Networks::parse(texts.iter().copied()).unwrap().contain(address.parse().unwrap())
    }

    #[test]
    fn an_address_lies_in_the_networks_that_hold_it() {
        let listed = ["10.0.0.0/8", "192.0.2.7", "10.1.0.0/16", "2001:db8::/32", "192.0.2.128/25"];
        for inside in
            ["10.0.0.0", "10.255.255.255", "192.0.2.7", "192.0.2.255", "2001:db8:1::", "::ffff:10.1.1.1"]
        {
            assert!(contain(&listed, inside), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.8", "2001:db9::", "::1", "::10.0.0.1"] {
            assert!(!contain(&listed, outside), "{outside}");
        }
        assert!(contain(&["0.0.0.0/0", "::/0"], "255.255.255.255") && contain(&["::/0"], "ffff::ffff"));
        assert!(!contain(&[], "10.0.0.1"));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in ["10.0.0.0/33", "example.com", "", "10.0.0", "::ffff:10.0.0.0/104"] {
            assert_eq!(Networks::parse(["::1", text]).unwrap_err(), text);
        }
        let networks = Networks::parse(["10.1.2.3/8", "::1"]).unwrap();
        let listed = networks.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(listed, ["10.0.0.0/8", "::1/128"]);
    }
}
