//! Subscribers' addresses in the configuration: how routes and policies are written, and that nothing of ours is among them.

use ipnet::IpNet;

use super::model::{AddressConflict, Config, UserConfig};
use super::read::{Raw, Reader, Scalar};
use crate::aaa::networks::{Own, ROUTES_MAX, nobodys};
use crate::aaa::profile::Route;

/// Of a route that says none (RFC 2865 §5.22).
const METRIC: u32 = 1;

impl AddressConflict {
    /// As written in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReplaceSameUser => "replace-same-user",
            Self::Replace => "replace",
            Self::Refuse => "refuse",
        }
    }
}

impl Scalar for AddressConflict {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        [Self::ReplaceSameUser, Self::Replace, Self::Refuse]
            .into_iter()
            .find(|policy| policy.name() == text)
            .ok_or_else(|| {
                format!("must be \"replace-same-user\", \"replace\" or \"refuse\", not \"{text}\"")
            })
    }
}

/// `"192.0.2.0/28"`, or with a metric `"192.0.2.0/28 5"`.
impl Scalar for Route {
    fn from_raw(raw: &Raw) -> Result<Self, String> {
        let text = raw.text()?;
        let wrong =
            || format!("must be a prefix and perhaps a metric, such as \"192.0.2.0/28 5\", not \"{text}\"");
        let mut words = text.split_ascii_whitespace();
        let net: IpNet = words
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or_else(wrong)?;
        let metric = words.next().map_or(Ok(METRIC), str::parse).map_err(|_| wrong())?;
        if words.next().is_some() {
            return Err(wrong());
        }
        if net.trunc() != net {
            return Err(format!(
                "\"{net}\" has bits beyond its length; the prefix is \"{}\"",
                net.trunc()
            ));
        }
        Ok(Self { net, metric })
    }
}

/// Notes pools in which an address of ours would be handed out, or one that nobody can have.
pub fn check_pools(config: &Config, reader: &Reader) {
    // Gateways lie within the pools; they are left out when addresses are picked.
    let own = Own::but_gateways(config);
    for (index, pool) in config.pools.iter().enumerate() {
        for (position, prefix) in pool.prefixes.iter().enumerate() {
            let key = format!("pool[{index}].prefixes[{position}]");
            let net = IpNet::V4(*prefix);
            if let Some((address, what)) = own.within(&net) {
                reader.mistake(&key, format!("{prefix} contains {address}, {what}"));
            } else if let Some(name) = nobodys(&net) {
                reader.mistake(
                    &key,
                    format!("{prefix} reaches into what nobody can have: {name}"),
                );
            }
        }
        if let Some((address, what)) = own.within(&IpNet::from(std::net::IpAddr::V4(pool.gateway))) {
            reader.mistake(
                &format!("pool[{index}].gateway"),
                format!("{address} is {what} already"),
            );
        }
    }
}

/// Notes what of a user's address and routes is ours or nobody's.
pub fn check_user(own: &Own, index: usize, user: &UserConfig, reader: &Reader) {
    if let Some(address) = user.address
        && let Some(why) = own.forbids(&IpNet::from(std::net::IpAddr::V4(address)))
    {
        let key = format!("user[{index}].address");
        reader.mistake(&key, format!("{address} cannot be a user's: {why}"));
    }
    if user.routes.len() > ROUTES_MAX {
        let key = format!("user[{index}].routes");
        reader.mistake(&key, format!("more than {ROUTES_MAX} are not taken"));
    }
    for (position, route) in user.routes.iter().enumerate() {
        let key = format!("user[{index}].routes[{position}]");
        if let Some(why) = own.forbids(&route.net) {
            reader.mistake(&key, format!("{} cannot be a user's: {why}", route.net));
        }
        if user.routes[..position]
            .iter()
            .any(|earlier| earlier.net == route.net)
        {
            reader.mistake(&key, format!("{} is listed twice", route.net));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("h.toml"), text, []).map_err(|error| error.to_string())
    }

    fn with(more: &str) -> String {
        format!(
            "{more}[[pool]]\nname = \"p\"\nprefixes = [\"100.64.0.0/24\"]\n[[lac]]\nname = \"l\"\nhost_name = \"*\"\n"
        )
    }

    #[test]
    fn routes_and_policies_are_read() {
        let text = with("[ppp]\naddress_conflict = \"replace\"\n")
            + "[[user]]\nname = \"ada\"\npassword = \"x\"\naddress = \"203.0.113.7\"\n\
               routes = [\"192.0.2.0/28 5\", \"2001:db8::/48\"]\n";
        let config = parse(&text).expect("no mistake");
        assert_eq!(config.ppp.address_conflict, AddressConflict::Replace);
        let routes: Vec<_> = config.users[0]
            .routes
            .iter()
            .map(|route| (route.net.to_string(), route.metric))
            .collect();
        assert_eq!(
            routes,
            [
                ("192.0.2.0/28".to_owned(), 5),
                ("2001:db8::/48".to_owned(), METRIC)
            ]
        );
        assert!(!config.pools[0].drain);
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for (route, text) in [
            (
                "192.0.2.1/28",
                "has bits beyond its length; the prefix is \"192.0.2.0/28\"",
            ),
            ("192.0.2.0/28 x", "must be a prefix"),
            ("192.0.2.0/28 1 2", "must be a prefix"),
            ("", "must be a prefix"),
            ("0.0.0.0/0", "it is the way to everywhere"),
            (
                "100.64.0.0/16",
                "it holds 100.64.0.1, our own address in the pool \"p\"",
            ),
        ] {
            let text_of =
                with("") + &format!("[[user]]\nname = \"a\"\npassword = \"x\"\nroutes = [\"{route}\"]\n");
            let error = parse(&text_of).expect_err(route);
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn no_pool_holds_an_address_of_ours() {
        let error = parse(&with(
            "[node]\nlisten = [\"100.64.0.9:1701\"]\n[anycast]\naddresses = [\"100.64.0.9\"]\nneighbours = [\"100.64.0.8\"]\n",
        ))
        .expect_err("a mistake");
        assert!(error.contains("100.64.0.0/24 contains 100.64.0.9"), "{error}");
        let error =
            parse(&with("").replace("100.64.0.0/24", "127.0.0.0/24")).expect_err("nobody reaches these");
        assert!(error.contains("the loopback"), "{error}");
        let anycast = with("[anycast]\naddresses = [\"192.0.2.1\"]\nneighbours = [\"100.64.0.8\"]\n");
        let error = parse(&anycast).expect_err("a router's");
        assert!(error.contains("a router of anycast.neighbours"), "{error}");
    }
}
