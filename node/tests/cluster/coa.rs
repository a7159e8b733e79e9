//! Orders of a RADIUS server at nodes that do not own the session (S-157, S-158, S-159).

use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use holdfast::aaa::radius::dictionary::{Code, attribute};
use holdfast::aaa::radius::{Builder, Packet};

use crate::data::Line;
use crate::radius::{SECRET, START, STOP, Server};
use crate::site::{POOL, Site};

/// What the line's only subscriber is called.
const USER: &str = "257";

/// Orders, and hears the answers.
struct Client {
    socket: UdpSocket,
    next: u8,
}

impl Client {
    fn new(site: &Site) -> Self {
        let socket = UdpSocket::bind((site.address(0), 0)).expect("an address of loopback");
        socket
            .set_read_timeout(Some(Duration::from_millis(5)))
            .expect("a timeout");
        Self { socket, next: 0 }
    }

    /// A request that was made so many seconds ago.
    fn request(&mut self, code: Code, age: u64, secret: &str, fill: impl FnOnce(&mut Builder)) -> Vec<u8> {
        self.next += 1;
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
        let mut builder = Builder::new(code, self.next);
        builder
            .message_authenticator()
            .u32(
                attribute::EVENT_TIMESTAMP,
                u32::try_from(now - age).expect("before 2106"),
            )
            .text(attribute::NAS_IDENTIFIER, "test");
        fill(&mut builder);
        builder.finish_request(secret.as_bytes()).expect("it fits")
    }

    fn send(&self, site: &Site, node: u8, request: &[u8]) {
        let to = (site.address(node), 3799);
        self.socket.send_to(request, to).expect("sent");
    }

    /// The answer to the last request: the first that comes, from the node that was asked.
    fn answer(&self, site: &Site, line: &mut Line, node: u8) -> Vec<u8> {
        let mut buffer = [0; 4096];
        let mut answer = Vec::new();
        site.until("there is an answer", || {
            line.turn();
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                assert_eq!(from.to_string(), format!("{}:3799", site.address(node)));
                answer = buffer[..length].to_vec();
            }
            !answer.is_empty()
        });
        assert_eq!(answer[1], self.next, "an answer to what had to be dropped");
        answer
    }

    fn ask(
        &mut self,
        site: &Site,
        line: &mut Line,
        node: u8,
        code: Code,
        fill: impl FnOnce(&mut Builder),
    ) -> (Code, Option<u32>) {
        let request = self.request(code, 0, SECRET, fill);
        self.send(site, node, &request);
        let answer = self.answer(site, line, node);
        let packet = Packet::parse(&answer).expect("well-formed");
        let cause = packet.first(attribute::ERROR_CAUSE);
        (
            packet.code(),
            cause.map(|cause| cause.u32().expect("four octets")),
        )
    }
}

#[test]
fn s_157_s_158_s_159_any_node_carries_out_what_a_server_orders_and_only_that() {
    let site = Site::new();
    let server = Server::start(&site.address(0));
    let radius = format!(
        "[[radius]]\naddress = \"{}\"\nauth_port = {}\nacct_port = {}\nsecret = \"{SECRET}\"\n",
        server.access.ip(),
        server.access.port(),
        server.accounting.port()
    );
    for node in 1..=3 {
        let coa = format!(
            "[coa]\nlisten = [\"{}:3799\"]\n[[coa_client]]\naddress = \"{}\"\nsecret = \"{SECRET}\"\n",
            site.address(node),
            site.address(0)
        );
        site.configure(node, &[1, 2, 3], POOL, &format!("{radius}{coa}"));
    }
    let _daemons = site.start_three();
    let mut line = Line::dial(&site, 1, false);
    let mut client = Client::new(&site);
    let change = |class: &'static str| {
        move |b: &mut Builder| {
            b.text(attribute::USER_NAME, USER);
            b.text(attribute::CLASS, class)
                .u32(attribute::SESSION_TIMEOUT, 3600);
        }
    };
    site.until("the server hears of the session", || {
        line.turn();
        !server.heard(START).is_empty()
    });

    // The node that the line was dialled at owns it; the others have all rows.
    let done = client.ask(&site, &mut line, 2, Code::COA_REQUEST, change("silver"));
    assert_eq!(done, (Code::COA_ACK, None), "{}", site.logs());

    // S-158
    let unknown = |b: &mut Builder| {
        change("bronze")(b);
        b.octets(200, b"x");
    };
    let refused = client.ask(&site, &mut line, 3, Code::COA_REQUEST, unknown);
    assert_eq!(refused, (Code::COA_NAK, Some(401)));
    let nobody = |b: &mut Builder| _ = b.text(attribute::USER_NAME, "nobody");
    let refused = client.ask(&site, &mut line, 3, Code::DISCONNECT_REQUEST, nobody);
    assert_eq!(refused, (Code::DISCONNECT_NAK, Some(503)));

    // What must be dropped is not answered: the next answer is another request's. S-157
    let old = client.request(Code::COA_REQUEST, 600, SECRET, change("bronze"));
    client.send(&site, 2, &old);
    let forged = client.request(Code::COA_REQUEST, 0, "another-secret", change("bronze"));
    client.send(&site, 2, &forged);
    let gold = client.request(Code::COA_REQUEST, 0, SECRET, change("gold"));
    client.send(&site, 2, &gold);
    let answer = client.answer(&site, &mut line, 2);
    let again = client.ask(&site, &mut line, 2, Code::COA_REQUEST, change("silver"));
    assert_eq!((answer[0], again.0), (Code::COA_ACK.0, Code::COA_ACK));
    // Carried out again it would make the class gold.
    client.next = gold[1];
    client.send(&site, 2, &gold);
    assert_eq!(client.answer(&site, &mut line, 2), answer);
    // Nodes that have not heard it know it by the session's row: the owner, and one that is not.
    for node in [1, 3] {
        client.send(&site, node, &gold);
        assert_eq!(client.answer(&site, &mut line, node)[0], Code::COA_ACK.0);
    }
    // It was made before the session began, so it cannot mean that one; with the session's own name it does.
    let earlier = client.request(Code::DISCONNECT_REQUEST, 200, SECRET, |b| {
        b.text(attribute::USER_NAME, USER);
    });
    client.send(&site, 3, &earlier);
    let refused = client.answer(&site, &mut line, 3);
    assert_eq!(refused[0], Code::DISCONNECT_NAK.0, "{}", site.logs());
    client.next = client.next.max(gold[1]) + 1;

    // S-159
    let end = |b: &mut Builder| _ = b.text(attribute::USER_NAME, USER);
    let done = client.ask(&site, &mut line, 3, Code::DISCONNECT_REQUEST, end);
    assert_eq!(done, (Code::DISCONNECT_ACK, None), "{}", site.logs());
    site.until("the server hears of the end", || {
        line.turn();
        !server.heard(STOP).is_empty()
    });
    let stop = &server.heard(STOP)[0];
    assert_eq!(stop.number(attribute::ACCT_TERMINATE_CAUSE), Some(6));
    let classes = stop
        .attributes
        .iter()
        .filter(|(kind, _)| *kind == attribute::CLASS);
    let classes: Vec<_> = classes.map(|(_, value)| value.as_slice()).collect();
    assert_eq!(classes, [b"silver"]);
    let gone = client.ask(&site, &mut line, 2, Code::DISCONNECT_REQUEST, end);
    assert_eq!(gone, (Code::DISCONNECT_NAK, Some(503)));
}
