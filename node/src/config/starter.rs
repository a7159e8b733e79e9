//! The commented file that `holdfast init` writes.

const TEMPLATE: &str = include_str!("starter.toml");

/// The starter file with the given secrets, which must need no escaping in TOML.
pub fn starter(lac_secret: &str, user_password: &str) -> String {
    TEMPLATE
        .replace("@LAC_SECRET@", lac_secret)
        .replace("@USER_PASSWORD@", user_password)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{
        AccountingConfig, ApiConfig, Config, L2tpConfig, LogConfig, NodeConfig, PppConfig, Secret, TunConfig,
    };

    #[test]
    fn the_starter_file_means_the_defaults() {
        let config = Config::parse(Path::new("starter.toml"), &starter("s1", "s2"), []).expect("no mistake");
        assert_eq!(config.node, NodeConfig::default());
        assert_eq!(config.tun, TunConfig::default());
        assert_eq!(config.log, LogConfig::default());
        assert_eq!(config.api, ApiConfig::default());
        assert_eq!(config.l2tp, L2tpConfig::default());
        assert_eq!(config.ppp, PppConfig::default());
        assert_eq!(config.accounting, AccountingConfig::default());
        assert_eq!(config.cluster, None);
        assert_eq!(config.lacs[0].secret, Some(Secret::new("s1")));
        assert!(config.lacs[0].require_challenge);
        assert_eq!(config.users[0].password, Secret::new("s2"));
    }

    #[test]
    fn every_commented_key_is_right_and_shows_the_default() {
        let uncommented: String = starter("s1", "s2")
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => rest,
                Some(rest) if rest.starts_with('[') => rest,
                _ => line,
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let config = Config::parse(Path::new("starter.toml"), &uncommented, []).expect("no mistake");
        assert_eq!(config.node, NodeConfig::default());
        assert_eq!(config.tun, TunConfig::default());
        assert_eq!(config.log, LogConfig::default());
        assert_eq!(config.api, ApiConfig::default());
        assert_eq!(config.l2tp, L2tpConfig::default());
        assert_eq!(config.ppp, PppConfig::default());
        assert_eq!(config.accounting, AccountingConfig::default());
        let cluster = config.cluster.expect("its section is uncommented");
        assert_eq!(cluster.listen, config.members[0].address);
        assert_eq!(config.members.len(), 3);
        assert_eq!(config.users[0].address, Some([100, 64, 0, 10].into()));
        let shown = config.anycast.expect("it is there");
        let least = "[anycast]\naddresses = [\"192.0.2.1\"]\n";
        let least =
            Config::parse(Path::new("h.toml"), &(starter("s1", "s2") + least), []).expect("no mistake");
        let default = least.anycast.expect("it is there");
        assert_eq!(
            (
                shown.table,
                shown.local_as,
                shown.neighbour_as,
                shown.bfd_interval,
                shown.bfd_multiplier
            ),
            (
                default.table,
                default.local_as,
                default.neighbour_as,
                default.bfd_interval,
                default.bfd_multiplier
            )
        );
    }
}
