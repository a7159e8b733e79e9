//! Embedded defaults of `holdfast run --dev`: something to dial into without a file.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::model::{
    ApiConfig, Config, L2tpConfig, LacConfig, LogConfig, NodeConfig, PoolConfig, PppConfig, TunConfig,
    UserConfig,
};
use super::{Pattern, Secret};

/// Name and, on loopback, password of the one user.
const DEMO: &str = "demo";
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
    /// `home` is the user's home folder.
    pub fn dev(home: &Path, options: DevOptions) -> Dev {
        let (listen, password) = options
            .listen
            .unwrap_or_else(|| ((Ipv4Addr::LOCALHOST, 1701).into(), Secret::new(DEMO)));
        let data_dir = options.data_dir.unwrap_or_else(|| data_dir(home));
        let socket = options.socket.unwrap_or_else(|| socket(&data_dir));
        let dial_in = DialIn {
            listen,
            password: password.clone(),
            data_dir: data_dir.clone(),
            socket: socket.clone(),
        };
        let name = "holdfast-dev".to_owned();
        let config = Config {
            node: NodeConfig {
                name: name.clone(),
                host_name: name.clone(),
                data_dir,
                listen: vec![listen],
                ..NodeConfig::default()
            },
            tun: TunConfig {
                name,
                ..TunConfig::default()
            },
            log: LogConfig::default(),
            api: ApiConfig { socket, mode: 0o600 },
            l2tp: L2tpConfig::default(),
            ppp: PppConfig::default(),
            pools: vec![dev_pool()],
            lacs: vec![any_lac()],
            users: vec![UserConfig {
                name: DEMO.to_owned(),
                password,
                address: None,
                pool: None,
                max_sessions: None,
            }],
        };
        Dev { config, dial_in }
    }
}

fn dev_pool() -> PoolConfig {
    let prefix = ipnet::Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 24);
    PoolConfig {
        name: "dev".to_owned(),
        prefixes: vec![prefix],
        gateway: Ipv4Addr::new(100, 64, 0, 1),
    }
}

fn any_lac() -> LacConfig {
    LacConfig {
        name: "any".to_owned(),
        host_name: Pattern::new("*"),
        addresses: Vec::new(),
        allowed: true,
        secret: None,
        require_challenge: false,
        permissive: false,
        auth: None,
        accept_proxy: None,
        max_tunnels: None,
        max_sessions: None,
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

    #[test]
    fn on_loopback_with_demo_and_demo() {
        let dev = Config::dev(Path::new("/home/ada"), DevOptions::default());
        assert_eq!(dev.config.node.listen, ["127.0.0.1:1701".parse().unwrap()]);
        assert_eq!(
            dev.config.node.data_dir,
            Path::new("/home/ada/.local/share/holdfast-dev")
        );
        assert_eq!(dev.config.users[0].password, Secret::new("demo"));
        assert!(dev.config.lac(b"anyone", "192.0.2.1".parse().unwrap()).is_some());
        assert!(dev.dial_in.to_string().contains("password demo"));
    }

    #[test]
    fn elsewhere_with_another_password() {
        let listen = "192.0.2.7:1701".parse().unwrap();
        let options = DevOptions {
            listen: Some((listen, Secret::new("xyzzy"))),
            ..DevOptions::default()
        };
        let dev = Config::dev(Path::new("/home/ada"), options);
        assert_eq!(dev.config.node.listen, [listen]);
        assert_eq!(dev.config.users[0].password, Secret::new("xyzzy"));
        let text = dev.dial_in.to_string();
        assert!(
            text.contains("xyzzy") && text.contains("lns = 192.0.2.7"),
            "{text}"
        );
    }
}
