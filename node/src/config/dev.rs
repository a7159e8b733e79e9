//! Embedded defaults of `holdfast run --dev`, `dev.toml`: something to dial into without a file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{Config, LoadError, Mistake, Place, Secret};

const TEXT: &str = include_str!("dev.toml");
/// Would make demo/demo a door to the world.
const LISTEN: &str = "HOLDFAST_NODE__LISTEN";
/// Name and, on loopback, password of the one user.
pub const DEMO: &str = "demo";
/// Where data lie below the home folder.
const FOLDER: &str = ".local/share/holdfast-dev";

/// What the command line may change.
#[derive(Clone, Debug, Default)]
pub struct DevOptions {
    /// Listen here instead of on 127.0.0.1:1701; strangers may then reach us, so `password` must be set too.
    pub listen: Option<(SocketAddr, Secret)>,
    /// Keep data here instead of below the home folder.
    pub data_dir: Option<PathBuf>,
    /// The operator's socket, instead of `holdfast.sock` in the data folder.
    pub socket: Option<PathBuf>,
}

/// The configuration and how to use it.
#[derive(Clone, Debug)]
pub struct Dev {
    /// To be run.
    pub config: Config,
    /// To be printed.
    pub dial_in: DialIn,
}

/// How to dial in, for people. Its `Display` shows the password: it is meant for the terminal, not for a log.
#[derive(Clone, Debug)]
pub struct DialIn {
    listen: SocketAddr,
    password: Secret,
    data_dir: PathBuf,
    socket: PathBuf,
}

/// Where data lie unless `--data` says otherwise.
pub fn data_dir(home: &Path) -> PathBuf {
    home.join(FOLDER)
}

/// The socket's path for a data folder.
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("holdfast.sock")
}

impl Config {
    /// `home` is the user's home folder. The environment overrides as it does for a file, but for the listen address:
    /// away from loopback it takes another password, which only `options` brings.
    pub fn dev(
        home: &Path,
        options: DevOptions,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Dev, LoadError> {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        if environment.contains_key(LISTEN) {
            let text = "has no effect with --dev; use --listen or --port".to_owned();
            let place = Place::Environment(LISTEN.to_owned());
            return Err(LoadError::Mistakes(vec![Mistake {
                place,
                key: "node.listen".to_owned(),
                text,
            }]));
        }
        let set = |variable: &str| environment.contains_key(variable);
        let (data_dir_set, socket_set) = (set("HOLDFAST_NODE__DATA_DIR"), set("HOLDFAST_API__SOCKET"));
        let mut config = Config::parse(Path::new("(--dev)"), TEXT, environment)?;
        if let Some(data_dir) = options
            .data_dir
            .or_else(|| (!data_dir_set).then(|| data_dir(home)))
        {
            config.node.data_dir = data_dir;
        }
        if let Some(path) = options
            .socket
            .or_else(|| (!socket_set).then(|| socket(&config.node.data_dir)))
        {
            config.api.socket = path;
        }
        let loopback = || (SocketAddr::from((Ipv4Addr::LOCALHOST, 1701)), Secret::new(DEMO));
        let (listen, password) = options.listen.unwrap_or_else(loopback);
        config.node.listen = vec![listen];
        for user in &mut config.users {
            user.password = password.clone();
        }
        let (data_dir, socket) = (config.node.data_dir.clone(), config.api.socket.clone());
        Ok(Dev {
            config,
            dial_in: DialIn {
                listen,
                password,
                data_dir,
                socket,
            },
        })
    }
}

impl fmt::Display for DialIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.listen.ip();
        let target = match address.is_unspecified() {
            true => "ADDRESS-OF-THIS-HOST".to_owned(),
            false => address.to_string(),
        };
        let port = self.listen.port();
        let password = String::from_utf8_lossy(self.password.expose());
        writeln!(f, "Development mode: for trying out, not for subscribers.")?;
        writeln!(f, "  listening on  {}", self.listen)?;
        writeln!(f, "  user          {DEMO}, password {password}")?;
        writeln!(
            f,
            "  pool          100.64.0.0/24; ping 100.64.0.1 once you are in"
        )?;
        writeln!(f, "  data          {}", self.data_dir.display())?;
        writeln!(
            f,
            "  status        holdfast status --socket {}",
            self.socket.display()
        )?;
        writeln!(f)?;
        writeln!(f, "To dial in with xl2tpd, /etc/xl2tpd/xl2tpd.conf:")?;
        writeln!(f, "  [global]")?;
        // Two daemons on one host cannot share a port.
        writeln!(
            f,
            "  port = {}          ; any but ours, where both run on one host",
            if port == 1702 { 1703 } else { 1702 }
        )?;
        writeln!(f, "  [lac holdfast]")?;
        writeln!(f, "  lns = {target}:{port}")?;
        writeln!(f, "  pppoptfile = /etc/ppp/options.holdfast")?;
        writeln!(f, "and /etc/ppp/options.holdfast:")?;
        for option in ["noauth", "noipdefault", "nodefaultroute", "mtu 1492", "mru 1492"] {
            writeln!(f, "  {option}")?;
        }
        writeln!(f, "  user {DEMO}")?;
        writeln!(f, "  password {password}")?;
        write!(f, "then: echo 'c holdfast' > /var/run/xl2tpd/l2tp-control")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev(options: DevOptions, environment: &[(&str, &str)]) -> Result<Dev, LoadError> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::dev(Path::new("/home/ada"), options, environment)
    }

    #[test]
    fn on_loopback_with_demo_and_demo() {
        let dev = dev(DevOptions::default(), &[]).expect("no mistake");
        assert_eq!(dev.config.node.listen, ["127.0.0.1:1701".parse().unwrap()]);
        assert_eq!(
            dev.config.node.data_dir,
            Path::new("/home/ada/.local/share/holdfast-dev")
        );
        assert_eq!(
            dev.config.api.socket,
            Path::new("/home/ada/.local/share/holdfast-dev/holdfast.sock")
        );
        assert_eq!(dev.config.api.mode, 0o600);
        assert_eq!(dev.config.users[0].password, Secret::new("demo"));
        let lac = dev
            .config
            .lac(b"anyone", "192.0.2.1".parse().unwrap())
            .expect("any LAC is allowed");
        assert!(lac.secret.is_none() && !lac.require_challenge);
        assert!(dev.dial_in.to_string().contains("password demo"));
    }

    #[test]
    fn elsewhere_with_another_password() {
        let listen = "192.0.2.7:1701".parse().unwrap();
        let options = DevOptions {
            listen: Some((listen, Secret::new("xyzzy"))),
            ..DevOptions::default()
        };
        let dev = dev(options, &[]).expect("no mistake");
        assert_eq!(dev.config.node.listen, [listen]);
        assert_eq!(dev.config.users[0].password, Secret::new("xyzzy"));
        let text = dev.dial_in.to_string();
        assert!(
            text.contains("xyzzy") && text.contains("lns = 192.0.2.7:1701"),
            "{text}"
        );
    }

    #[test]
    fn the_environment_overrides_but_does_not_open_the_door() {
        let environment = [("HOLDFAST_NODE__SHARDS", "4"), ("HOLDFAST_NODE__DATA_DIR", "/d")];
        let dev1 = dev(DevOptions::default(), &environment).expect("no mistake");
        assert_eq!(
            (dev1.config.node.shards, dev1.config.node.data_dir.as_path()),
            (4, Path::new("/d"))
        );
        assert_eq!(dev1.config.api.socket, Path::new("/d/holdfast.sock"));
        let options = DevOptions {
            data_dir: Some("/e".into()),
            ..DevOptions::default()
        };
        let dev2 = dev(options, &environment).expect("no mistake");
        assert_eq!(
            dev2.config.node.data_dir,
            Path::new("/e"),
            "the command line goes first"
        );
        let error = dev(DevOptions::default(), &[(LISTEN, "0.0.0.0:1701")]).expect_err("a door to the world");
        assert!(error.to_string().contains("use --listen"), "{error}");
    }
}
