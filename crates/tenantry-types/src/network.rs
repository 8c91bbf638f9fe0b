//! Addresses that begin alike.

use std::net::IpAddr;

/// Bits of version 6 before an address of version 4 that is written in it.
const MAPPED_BITS: u8 = 96;

/// A network like `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Parses an address, or one with the number of bits that count; `None` if it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().ok()?;
        let most: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).ok()?;
        if bits > most {
            return None;
        }
        // As addresses are: what is of version 4 is of version 4, however it is written.
        Some(match (address.to_canonical(), bits.checked_sub(MAPPED_BITS)) {
            (mapped @ IpAddr::V4(_), Some(bits)) if address.is_ipv6() => {
                Self { address: mapped, bits }
            }
            _ => Self { address, bits },
        })
    }

    /// True if an address is in it. One of version 4 that is written as one of version 6 is the same.
    pub fn has(&self, address: IpAddr) -> bool {
        // Of no bits at all nothing differs.
        let differs = |one: u128, other: u128, width: u32| {
            (one ^ other).checked_shr(width - u32::from(self.bits)).unwrap_or(0) != 0
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                !differs(own.to_bits().into(), other.to_bits().into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => !differs(own.to_bits(), other.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// True if an address is one of the internet's: nobody's own network, no machine itself, no group of
/// machines, and nothing that stands for an address of version 4 which is none of these.
pub fn is_public(address: IpAddr) -> bool {
    let address = match address.to_canonical() {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            // 6to4 and NAT64 lead to the address of version 4 in them; others outside 2000::/3 are
            // loopback, link-local, unique local, groups, or not given to anybody.
            let is_global = first & 0xe000 == 0x2000;
            let leads_back = first == 0x2002 || (first == 0x2001 && second < 0x0200);
            return is_global && !leads_back && (first, second) != (0x2001, 0x0db8);
        }
    };
    let [a, b, c, _] = address.octets();
    let is_shared = a == 100 && (64..128).contains(&b);
    let is_assigned = (a, b, c) == (192, 0, 0) || (a, b) == (198, 18) || (a, b) == (198, 19);
    !(a == 0
        || a >= 224
        || is_shared
        || is_assigned
        || (a, b, c) == (192, 88, 99)
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_their_addresses() {
        let has = |network: &str, address: &str| {
            Network::parse(network).unwrap().has(address.parse().unwrap())
        };
        assert!(has("127.0.0.1", "127.0.0.1") && !has("127.0.0.1", "127.0.0.2"));
        assert!(has("10.0.0.0/8", "::ffff:10.9.9.9") && !has("10.0.0.0/8", "11.0.0.1"));
        for same in ["::ffff:10.0.0.0/104", "::ffff:a00:0/104"] {
            assert!(has(same, "10.9.9.9") && has(same, "::ffff:10.9.9.9"), "{same}");
            assert!(!has(same, "11.0.0.1") && !has(same, "::a00:1"), "{same}");
        }
        assert!(has("::ffff:10.0.0.1", "10.0.0.1") && !has("::ffff:10.0.0.1", "10.0.0.2"));
        assert!(!has("::/0", "10.0.0.1"));
        assert!(has("fd00::/8", "fdff::1") && !has("0.0.0.0/0", "::1"));
        for bad in ["", "a", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(Network::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for public in
            ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for inside in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.192",
            "192.168.1.1",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_public(inside.parse().unwrap()), "{inside}");
        }
    }
}
