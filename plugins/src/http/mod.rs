//! What all plugins that speak HTTP share: bodies that are read within bounds, the headers that steer a client, and a
//! peer's own words.

pub(crate) mod body;
pub(crate) mod headers;
pub(crate) mod text;

use std::net::IpAddr;

/// Whether a host of a URL or an address is this machine, so that nobody can read along.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let here = |address: IpAddr| address.is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(here)
}
