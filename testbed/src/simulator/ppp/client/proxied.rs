//! A client whose LAC has negotiated LCP and taken its credentials before the tunnel saw it (RFC 2661 §4.4.5).

use holdfast_protocol::iana::proxy_authen;
use holdfast_protocol::message::Proxy;
use rand::RngExt;

use super::super::packet::push_option;
use super::authentication::{Authentication, Method, chap_response};
use super::{Client, Context, Phase, RESTART};

/// Octets of the challenge that the LAC sent.
const CHALLENGE_LEN: usize = 16;

impl Client {
    /// The client as it stands when its call is connected, and what the LAC passes on in the ICCN.
    ///
    /// With [`Authentication::Pap`] the LAC has a password, else the answer to a CHAP challenge; there is no
    /// standard way to pass MS-CHAPv2 on, so such a client counts as CHAP until the LNS negotiates anew.
    pub fn start_proxied(ctx: &mut Context<'_>) -> (Self, Proxy) {
        let mut client = Self::new(ctx);
        let method = match ctx.login.authentication {
            Authentication::Pap => Method::Pap,
            Authentication::Any | Authentication::Chap | Authentication::MsChapV2 => Method::ChapMd5,
        };
        client.method = Some(method);
        client.lcp.ours_acknowledged = true;
        client.lcp.theirs_acknowledged = true;
        client.phase = Phase::Authenticate;
        client.deadline = Some(ctx.now + RESTART);
        let proxy = client.proxy(ctx, method);
        (client, proxy)
    }

    fn proxy(&self, ctx: &mut Context<'_>, method: Method) -> Proxy {
        let (user, password) = (ctx.login.user.as_bytes(), ctx.login.password.as_bytes());
        let received = self.lcp_options(ctx.login.mru);
        let mut proxy = Proxy::default();
        proxy.initial_received_confreq = Some(received.clone());
        proxy.last_received_confreq = Some(received);
        proxy.last_sent_confreq = Some(sent_by_lac(method, ctx.rng.random_range(1..=u32::MAX)));
        proxy.authen_name = Some(user.to_vec());
        proxy.authen_id = Some(u16::from(self.pap_id));
        match method {
            Method::Pap => {
                proxy.authen_type = Some(proxy_authen::PAP);
                proxy.authen_response = Some(password.to_vec());
            }
            Method::ChapMd5 | Method::MsChapV2 => {
                let challenge: [u8; CHALLENGE_LEN] = ctx.rng.random();
                proxy.authen_type = Some(proxy_authen::CHAP);
                proxy.authen_challenge = Some(challenge.to_vec());
                proxy.authen_response = Some(chap_response(self.pap_id, password, &challenge).to_vec());
            }
        }
        proxy
    }
}

/// The LAC's last Configure-Request: MRU 1500, authentication, a magic number.
fn sent_by_lac(method: Method, magic: u32) -> Vec<u8> {
    let mut options = Vec::new();
    push_option(&mut options, 1, &1500_u16.to_be_bytes());
    push_option(&mut options, 3, method.option());
    push_option(&mut options, 5, &magic.to_be_bytes());
    options
}
