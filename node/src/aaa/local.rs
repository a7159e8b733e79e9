//! Judges the users of the configuration file.
//!
//! An unknown user costs the same digests as a wrong password and is told the same words, so that neither the answer
//! nor its time tells which names exist. (The lookup itself is a hash table's, and PAP's comparison gives away a
//! password's length at most.)

use std::collections::HashMap;

use holdfast_ppp::{AuthRequest, Secret};
use ipnet::Ipv6Net;

use super::profile::{Assignment, PrefixAssignment, Profile, Route, Service};
use crate::config::{UserConfig, UserPrefixes};

/// What an unknown user's proof is checked against; its outcome is not used.
const DECOY: [u8; 16] = [0; 16];

/// All local users by name.
#[derive(Debug)]
pub struct LocalUsers {
    users: HashMap<Vec<u8>, LocalUser>,
    decoy: Secret,
}

#[derive(Debug)]
struct LocalUser {
    name: String,
    password: Secret,
    assignment: Assignment,
    max_sessions: Option<u32>,
    policy: Option<String>,
    routes: Vec<Route>,
    ipv4: bool,
    pool: Option<String>,
    ipv6: UserPrefixes,
}

/// Why a user may not come in. For our own logs; the peer hears [`Rejection::message`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No such user.
    #[error("unknown user")]
    UnknownUser,
    /// The proof is wrong, or none was given.
    #[error("wrong password")]
    WrongPassword,
    /// The password was right.
    #[error("has {open} sessions already, max_sessions is {limit}")]
    TooManySessions {
        /// Sessions that the user has.
        open: u32,
        /// As configured.
        limit: u32,
    },
}

impl LocalUsers {
    /// From the configuration; a reload makes a new one.
    pub fn new(users: &[UserConfig]) -> Self {
        let user = |user: &UserConfig| LocalUser {
            name: user.name.clone(),
            password: Secret::new(user.password.expose()),
            assignment: match user.address {
                Some(address) => Assignment::Fixed(address),
                None => Assignment::Pool(user.pool.clone()),
            },
            max_sessions: user.max_sessions,
            policy: user.policy.clone(),
            routes: user.routes.clone(),
            ipv4: user.ipv4,
            pool: user.pool.clone(),
            ipv6: user.ipv6.clone(),
        };
        let users = users
            .iter()
            .map(|config| (config.name.clone().into_bytes(), user(config)))
            .collect();
        Self {
            users,
            decoy: Secret::new(DECOY),
        }
    }

    /// Whether there is such a user.
    pub fn knows(&self, name: &[u8]) -> bool {
        self.users.contains_key(name)
    }

    /// Checks name and proof, then the user's limit. `open_sessions` says how many sessions a user has.
    pub fn judge(
        &self,
        request: &AuthRequest,
        open_sessions: impl FnOnce(&str) -> u32,
    ) -> Result<Profile, Rejection> {
        let user = self.users.get(&request.name);
        let accepted = request.verify(user.map_or(&self.decoy, |user| &user.password));
        let user = user.ok_or(Rejection::UnknownUser)?;
        let accepted = accepted.ok_or(Rejection::WrongPassword)?;
        let profile = Profile {
            user: user.name.clone(),
            ipv4: user.ipv4.then(|| user.assignment.clone()),
            link_prefix: user.prefix(user.ipv6.link_prefix),
            delegated_prefix: user.prefix(user.ipv6.delegated_prefix),
            interface_id: user.ipv6.interface_id,
            max_sessions: user.max_sessions,
            service: Service {
                policy: user.policy.clone().unwrap_or_default(),
                ..Service::default()
            },
            routes: user.routes.clone(),
            ms_chap_success: accepted.ms_chap_success,
            ..Profile::default()
        };
        within_limit(&profile, open_sessions)?;
        Ok(profile)
    }
}

/// Holds the sessions that a user has against his limit, whoever set it.
///
/// # Errors
/// There are as many already.
pub fn within_limit(profile: &Profile, open_sessions: impl FnOnce(&str) -> u32) -> Result<(), Rejection> {
    // A fixed address bounds its user to one session by itself: the redial replaces the stale one.
    let (Some(limit), None | Some(Assignment::Pool(_))) = (profile.max_sessions, &profile.ipv4) else {
        return Ok(());
    };
    let open = open_sessions(&profile.user);
    if open >= limit {
        return Err(Rejection::TooManySessions { open, limit });
    }
    Ok(())
}

impl LocalUser {
    fn prefix(&self, fixed: Option<Ipv6Net>) -> Option<PrefixAssignment> {
        let pool = || PrefixAssignment::Pool(self.pool.clone());
        let enabled = self.ipv6.enabled;
        enabled.then(|| fixed.map_or_else(pool, PrefixAssignment::Fixed))
    }
}

impl Rejection {
    /// What the peer is told.
    pub fn message(&self) -> &'static str {
        match self {
            Self::UnknownUser | Self::WrongPassword => "Authentication failed",
            Self::TooManySessions { .. } => "Too many sessions",
        }
    }
}

#[cfg(test)]
mod tests {
    use holdfast_ppp::Credential;

    use super::*;
    use crate::config;

    fn users() -> LocalUsers {
        let user = |name: &str, password: &str| UserConfig {
            name: name.to_owned(),
            password: config::Secret::new(password),
            address: None,
            pool: None,
            max_sessions: None,
            policy: None,
            routes: Vec::new(),
            ipv4: true,
            ipv6: UserPrefixes::default(),
        };
        LocalUsers::new(&[
            UserConfig {
                pool: Some("q".to_owned()),
                max_sessions: Some(2),
                ..user("ada", "secret")
            },
            UserConfig {
                address: Some([10, 0, 0, 2].into()),
                max_sessions: Some(1),
                ..user("bob", "builder")
            },
        ])
    }

    fn pap(name: &str, password: &[u8]) -> AuthRequest {
        let credential = Credential::Pap {
            password: Secret::new(password),
        };
        AuthRequest {
            name: name.as_bytes().to_vec(),
            credential,
        }
    }

    #[test]
    fn right_and_wrong() {
        let users = users();
        let grant = users.judge(&pap("ada", b"secret"), |_| 0).expect("accepted");
        assert_eq!(
            (grant.user.as_str(), grant.ipv4),
            ("ada", Some(Assignment::Pool(Some("q".to_owned()))))
        );
        let judge = |name: &str, password: &[u8]| users.judge(&pap(name, password), |_| 0);
        assert_eq!(judge("ada", b"Secret"), Err(Rejection::WrongPassword));
        assert_eq!(judge("Ada", b"secret"), Err(Rejection::UnknownUser));
        assert_eq!(judge("", b""), Err(Rejection::UnknownUser));
        assert_eq!(judge("ada", b""), Err(Rejection::WrongPassword));
        assert_eq!(
            judge("eve", &DECOY),
            Err(Rejection::UnknownUser),
            "the decoy opens no door"
        );
        assert_eq!(
            Rejection::UnknownUser.message(),
            Rejection::WrongPassword.message()
        );
    }

    #[test]
    fn each_family_may_be_left_out_and_prefixes_may_be_fixed() {
        let of = |user: UserConfig| {
            let users = LocalUsers::new(&[user]);
            users.judge(&pap("ada", b"secret"), |_| 0).expect("accepted")
        };
        let ada = |ipv4: bool, ipv6: UserPrefixes| UserConfig {
            policy: None,
            routes: Vec::new(),
            name: "ada".to_owned(),
            password: config::Secret::new("secret"),
            address: None,
            pool: None,
            max_sessions: None,
            ipv4,
            ipv6,
        };
        let both = of(ada(true, UserPrefixes::default()));
        assert_eq!(both.link_prefix, Some(PrefixAssignment::Pool(None)));
        assert!(both.ipv4.is_some() && both.delegated_prefix.is_some());
        let six = of(ada(false, UserPrefixes::default()));
        assert!(six.ipv4.is_none() && six.link_prefix.is_some());
        let none = UserPrefixes {
            enabled: false,
            ..UserPrefixes::default()
        };
        let four = of(ada(true, none));
        assert_eq!((four.link_prefix, four.delegated_prefix), (None, None));
        let prefix = "2001:db8:7::/56".parse().expect("a prefix");
        let fixed = UserPrefixes {
            delegated_prefix: Some(prefix),
            ..UserPrefixes::default()
        };
        let fixed = of(ada(true, fixed));
        assert_eq!(fixed.delegated_prefix, Some(PrefixAssignment::Fixed(prefix)));
    }

    #[test]
    fn chap_and_no_proof() {
        let users = users();
        let request = |response: u128| AuthRequest {
            name: b"ada".to_vec(),
            credential: Credential::ChapMd5 {
                id: 7,
                challenge: 0x00112233445566778899aabbccddeeff_u128.to_be_bytes().to_vec(),
                response: response.to_be_bytes(),
            },
        };
        assert!(
            users
                .judge(&request(0x15c1682eb7ac3daca85d727884af20a0), |_| 0)
                .is_ok()
        );
        assert_eq!(users.judge(&request(1), |_| 0), Err(Rejection::WrongPassword));
        let none = AuthRequest {
            name: b"ada".to_vec(),
            credential: Credential::None,
        };
        assert_eq!(users.judge(&none, |_| 0), Err(Rejection::WrongPassword));
    }

    #[test]
    fn sessions_of_a_user() {
        let users = users();
        let judge = |open: u32| {
            users.judge(
                &pap("ada", b"secret"),
                |user| if user == "ada" { open } else { 99 },
            )
        };
        assert!(judge(1).is_ok());
        assert_eq!(judge(2), Err(Rejection::TooManySessions { open: 2, limit: 2 }));
        let redial = users
            .judge(&pap("bob", b"builder"), |_| 1)
            .expect("replaces the stale session");
        assert_eq!(redial.ipv4, Some(Assignment::Fixed([10, 0, 0, 2].into())));
    }

    #[test]
    fn debug_shows_no_password() {
        let shown = format!("{:?}", users());
        assert!(!shown.contains("secret") && !shown.contains("builder"), "{shown}");
    }
}
