//! Client addresses as they stand in records.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The fields that may hold the client's address. Exchange has the second one.
pub(super) const FIELDS: [&str; 2] = ["ClientIP", "ClientIPAddress"];

/// The first address in the texts of [`FIELDS`].
pub(super) fn first(texts: &[Option<Cow<'_, str>>; FIELDS.len()]) -> Option<(IpAddr, Option<u16>)> {
    texts
        .iter()
        .find_map(|text| client_address(text.as_deref()?))
}

/// The address that a `ClientIP` names, and the port if it names one.
///
/// Understood are `v4`, `v4:port`, `v6`, `[v6]`, `[v6]:port`, v4 written as v6 (`::ffff:v4`, and `ffff:v4` as some
/// services have it), which is given as v4, and a zone (`fe80::1%4`), which is dropped. `None` for everything else,
/// `<null>` among it, and for `0.0.0.0` and `::`, which say that nothing is known. Groups with leading zeros
/// (`000.000.1.212`) are no address: whether they are meant as octal cannot be known.
#[must_use]
fn client_address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let text = text.trim();
    let (address, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, after) = bracketed.split_once(']')?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':')?.parse().ok()?),
        };
        (ip(address)?, port)
    } else if let Some(address) = ip(text) {
        (address, None)
    } else {
        // Without brackets, a port can only be told from a group where the address is complete without it.
        let (address, port) = text.rsplit_once(':')?;
        let complete = address.contains('.') || address.split(':').count() == 8;
        (ip(address).filter(|_| complete)?, Some(port.parse().ok()?))
    };
    (!address.is_unspecified()).then_some((address, port.filter(|port| *port != 0)))
}

fn ip(text: &str) -> Option<IpAddr> {
    let text = text
        .split_once('%')
        .map_or(text, |(address, _zone)| address);
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(address.into());
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(address.to_canonical());
    }
    let (prefix, address) = text.split_at_checked(5)?;
    let address = address.parse::<Ipv4Addr>().ok()?;
    prefix
        .eq_ignore_ascii_case("ffff:")
        .then_some(address.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn understands_every_shape() {
        for (text, address, port) in [
            ("10.1.2.3", "10.1.2.3", None),
            (" 10.1.2.3 ", "10.1.2.3", None),
            ("10.1.2.3:443", "10.1.2.3", Some(443)),
            ("10.1.2.3:0", "10.1.2.3", None),
            ("[10.1.2.3]:443", "10.1.2.3", Some(443)),
            ("2001:db8::1", "2001:db8::1", None),
            ("2001:DB8::1", "2001:db8::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
            ("2001:db8:0:0:0:0:0:1:443", "2001:db8::1", Some(443)),
            ("2001:db8::1:443", "2001:db8::1:443", None),
            ("fe80::1%4", "fe80::1", None),
            ("[fe80::1%eth0]:443", "fe80::1", Some(443)),
            ("::ffff:10.1.2.3", "10.1.2.3", None),
            ("::FFFF:10.1.2.3", "10.1.2.3", None),
            ("::ffff:a01:203", "10.1.2.3", None),
            ("::ffff:10.1.2.3:443", "10.1.2.3", Some(443)),
            ("[::ffff:10.1.2.3]:443", "10.1.2.3", Some(443)),
            ("ffff:10.1.2.3", "10.1.2.3", None),
            ("ffff:10.1.2.3:443", "10.1.2.3", Some(443)),
            ("::1", "::1", None),
        ] {
            let expected = Some((address.parse().unwrap(), port));
            assert_eq!(client_address(text), expected, "{text}");
        }
    }

    #[test]
    fn omits_what_is_no_address() {
        for text in [
            "",
            "<null>",
            "null",
            "0.0.0.0",
            "0.0.0.0:443",
            "::",
            "[::]:443",
            "000.000.1.212",
            "10.1.2",
            "10.1.2.256",
            "10.1.2.3:",
            "10.1.2.3:x",
            "10.1.2.3:99999",
            "10.1.2.3, 10.1.2.4",
            "[10.1.2.3",
            "[2001:db8::1]443",
            "2001:db8::1]",
            "gggg:10.1.2.3",
            "client.example.com:443",
            "ééé10.1.2.3",
        ] {
            assert_eq!(client_address(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn takes_any_text(text in any::<String>(), like in r"[0-9a-f:.\[\]%]{0,40}") {
            std::hint::black_box((client_address(&text), client_address(&like)));
        }

        #[test]
        fn reads_what_std_writes(bits in any::<u128>(), port in 1_u16..) {
            let address = Ipv6Addr::from(bits);
            prop_assume!(!address.to_canonical().is_unspecified());
            let expected = Some((address.to_canonical(), Some(port)));
            prop_assert_eq!(client_address(&format!("[{address}]:{port}")), expected);
        }
    }
}
