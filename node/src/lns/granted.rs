//! What a subscriber was granted, in the row of the session: from there it goes on after a takeover.

use std::net::IpAddr;

use holdfast_cluster::records::{Identity as IdentityRow, PppRow, Prefix, Service as ServiceRow};
use ipnet::{IpNet, Ipv6Net};

use super::session::Grant;
use crate::aaa::profile::{Identity, Service};

/// Writes a grant into the row of a link that opens.
pub fn write(ppp: &mut PppRow, grant: &Grant) {
    let profile = &grant.profile;
    let prefix = |net: Option<Ipv6Net>| net.map(|net| prefix(net.into()));
    ppp.link_prefix = prefix(grant.link_prefix);
    ppp.delegated_prefix = prefix(grant.delegated_prefix);
    let address = grant.address.map(|address| Prefix::host(IpAddr::V4(address)));
    let prefixes = [&ppp.link_prefix, &ppp.delegated_prefix].map(Clone::clone);
    ppp.addresses = address
        .into_iter()
        .chain(prefixes.into_iter().flatten())
        .collect();
    ppp.routes = profile
        .routes
        .iter()
        .map(|route| self::prefix(route.net))
        .collect();
    ppp.route_metrics = profile.routes.iter().map(|route| route.metric).collect();
    ppp.classes.clone_from(&profile.identity.classes);
    ppp.session_timeout = profile.session_timeout_s;
    ppp.idle_timeout = profile.idle_timeout_s;
    ppp.interim_interval = profile.interim_interval_s;
    ppp.service = service_row(&profile.service);
    ppp.identity = identity_row(&profile.identity);
    ppp.dns6 = profile
        .dns6
        .iter()
        .map(|address| address.octets().to_vec())
        .collect();
}

/// Keeps what was granted when the link opened before.
pub fn keep(ppp: &mut PppRow, before: &PppRow) {
    ppp.addresses.clone_from(&before.addresses);
    ppp.link_prefix.clone_from(&before.link_prefix);
    ppp.delegated_prefix.clone_from(&before.delegated_prefix);
    ppp.routes.clone_from(&before.routes);
    ppp.route_metrics.clone_from(&before.route_metrics);
    ppp.classes.clone_from(&before.classes);
    ppp.session_timeout = before.session_timeout;
    ppp.idle_timeout = before.idle_timeout;
    ppp.interim_interval = before.interim_interval;
    ppp.service.clone_from(&before.service);
    ppp.identity.clone_from(&before.identity);
    ppp.dns6.clone_from(&before.dns6);
}

/// A network as the rows have it.
pub fn prefix(net: IpNet) -> Prefix {
    Prefix {
        length: u32::from(net.prefix_len()),
        ..Prefix::host(net.network())
    }
}

/// Nothing for a session that is held to nothing: most are, and there are many.
pub fn service_row(service: &Service) -> Option<ServiceRow> {
    (*service != Service::default()).then(|| ServiceRow {
        policy: service.policy.clone(),
        rate_up: service.rate_up,
        rate_down: service.rate_down,
        burst_up: service.burst_up,
        burst_down: service.burst_down,
        filters: service.filters.clone(),
        rules: service.rules.clone(),
        mtu: u32::from(service.mtu),
    })
}

/// What a row says that the session is held to.
pub fn service(row: Option<&ServiceRow>) -> Service {
    row.map_or_else(Service::default, |row| Service {
        policy: row.policy.clone(),
        rate_up: row.rate_up,
        rate_down: row.rate_down,
        burst_up: row.burst_up,
        burst_down: row.burst_down,
        filters: row.filters.clone(),
        rules: row.rules.clone(),
        mtu: u16::try_from(row.mtu).unwrap_or(u16::MAX),
    })
}

fn identity_row(identity: &Identity) -> Option<IdentityRow> {
    let row = IdentityRow {
        accounted_user: identity.accounted_user.clone(),
        chargeable_user: identity.chargeable_user.clone(),
        state: identity.state.clone(),
        termination_action: identity.termination_action,
        server_group: identity.server_group.clone(),
    };
    (row != IdentityRow::default()).then_some(row)
}

#[cfg(test)]
mod tests {
    use crate::aaa::Profile;
    use crate::aaa::profile::Route;

    use super::*;

    fn grant() -> Grant {
        let service = Service {
            rate_up: 1_000_000,
            filters: vec!["voice".to_owned()],
            mtu: 1400,
            ..Service::default()
        };
        let identity = Identity {
            classes: vec![vec![1], vec![2]],
            chargeable_user: vec![7],
            ..Identity::default()
        };
        let profile = Profile {
            routes: vec![Route {
                net: "192.0.2.0/28".parse().expect("a network"),
                metric: 5,
            }],
            dns6: vec!["2001:db8::53".parse().expect("an address")],
            session_timeout_s: 3600,
            idle_timeout_s: 600,
            interim_interval_s: 900,
            service,
            identity,
            ..Profile::default()
        };
        Grant {
            profile,
            address: Some([100, 64, 0, 9].into()),
            link_prefix: Some("2001:db8:1::/64".parse().expect("a network")),
            delegated_prefix: Some("2001:db8:2::/56".parse().expect("a network")),
            local: [100, 64, 0, 1].into(),
            dns: [None, None],
            replaces: None,
        }
    }

    #[test]
    fn a_grant_outlives_the_link_that_opened_with_it() {
        let mut row = PppRow::default();
        write(&mut row, &grant());
        let lengths: Vec<u32> = row.addresses.iter().map(|prefix| prefix.length).collect();
        assert_eq!(lengths, [32, 64, 56], "unique in the cluster");
        assert_eq!((row.routes[0].length, row.route_metrics[0]), (28, 5));
        assert_eq!(row.classes, [[1], [2]]);
        assert_eq!(
            (row.session_timeout, row.idle_timeout, row.interim_interval),
            (3600, 600, 900)
        );
        assert_eq!(service(row.service.as_ref()), grant().profile.service);
        let mut again = PppRow::default();
        keep(&mut again, &row);
        assert_eq!(again, row);
    }

    #[test]
    fn who_is_held_to_nothing_has_an_address_alone() {
        let mut row = PppRow::default();
        let grant = Grant {
            profile: Profile::default(),
            link_prefix: None,
            delegated_prefix: None,
            ..grant()
        };
        write(&mut row, &grant);
        let expected = PppRow {
            addresses: vec![Prefix::host([100, 64, 0, 9].into())],
            ..PppRow::default()
        };
        assert_eq!(row, expected);
    }
}
