use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::aaa::radius::client::{EndpointSettings, Purpose, Requirement, TlsSettings, Transport};
use crate::aaa::radius::request::Content;
use crate::aaa::radius::{Builder, Code, Packet, verify_request};
use crate::config::Secret;

const SECRET: &[u8] = b"s3cret";
/// Longer than anything here takes; no test asserts a time.
const LONG: Duration = Duration::from_secs(60);

fn settings(address: std::net::SocketAddr, transport: Transport) -> Settings {
    let endpoint = EndpointSettings {
        group: "main".to_owned(),
        purpose: Purpose::Accounting,
        address,
        secret: Secret::new(SECRET),
        priority: 0,
        message_authenticator: Requirement::Yes,
        status_interval: None,
        timeout: Duration::from_millis(200),
        tries: 3,
        dead_time: LONG,
        transport,
    };
    Settings {
        endpoints: vec![endpoint],
        ..Settings::default()
    }
}

fn ask(radius: &Radius, token: u64, patience: Duration) -> Receiver<Answer> {
    let mut packet = Builder::new(Code::ACCOUNTING_REQUEST, 0);
    packet.u32(40, 1).text(44, "session");
    let (sender, receiver) = channel();
    let ask = Ask {
        token,
        groups: vec!["main".into()],
        purpose: Purpose::Accounting,
        content: Content::accounting(packet),
        patience,
    };
    radius.ask(
        ask,
        Box::new(move |answer| sender.send(answer).expect("the test waits")),
    );
    receiver
}

fn response(request: &[u8]) -> Vec<u8> {
    let packet = verify_request(request, SECRET).expect("signed");
    let mut response = Builder::new(Code::ACCOUNTING_RESPONSE, packet.id());
    response
        .finish_reply(SECRET, &packet.authenticator())
        .expect("it fits")
}

#[test]
fn the_first_packet_of_a_new_socket_leaves() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = server.local_addr().expect("bound");
    let metrics = Arc::new(Metrics::default());
    let radius = Radius::start(settings(address, Transport::Udp), metrics.clone()).expect("started");
    let answer = ask(&radius, 1, LONG);
    let mut buffer = [0; 4096];
    let (length, from) = server.recv_from(&mut buffer).expect("a request");
    server.send_to(&response(&buffer[..length]), from).expect("sent");
    assert!(matches!(answer.recv_timeout(LONG), Ok(Answer::Reply { .. })));
    assert_eq!(metrics.get(Counter::RadiusNotSent), 0);
}

#[test]
fn a_lost_request_is_sent_again_and_answered() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = server.local_addr().expect("bound");
    let radius = Radius::start(settings(address, Transport::Udp), Arc::default()).expect("started");
    let answer = ask(&radius, 1, LONG);
    let mut buffer = [0; 4096];
    let (first, _) = server.recv_from(&mut buffer).expect("a request");
    let lost = buffer[..first].to_vec();
    let (length, from) = server.recv_from(&mut buffer).expect("again");
    assert_eq!(buffer[..length], lost);
    // From elsewhere: the socket does not even hear it.
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger.send_to(&response(&lost), from).expect("sent");
    server.send_to(&response(&lost), from).expect("sent");
    let Ok(Answer::Reply { group, octets, .. }) = answer.recv_timeout(LONG) else {
        panic!("no reply")
    };
    assert_eq!(group, "main");
    assert_eq!(
        Packet::parse(&octets).expect("well-formed").code(),
        Code::ACCOUNTING_RESPONSE
    );
    assert_eq!(radius.servers()[0].counts.accepted, 1);
}

#[test]
fn nobody_answers() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = server.local_addr().expect("bound");
    let metrics = Arc::new(Metrics::default());
    let radius = Radius::start(settings(address, Transport::Udp), metrics.clone()).expect("started");
    let answer = ask(&radius, 1, Duration::from_millis(500));
    let heard = answer.recv_timeout(LONG);
    assert!(matches!(heard, Ok(Answer::None(NoAnswer::Silence))), "{heard:?}");
    assert_eq!(metrics.get(Counter::RadiusUnanswered), 1);
    radius.configure(Settings::default());
    let heard = ask(&radius, 2, LONG).recv_timeout(LONG);
    assert!(
        matches!(heard, Ok(Answer::None(NoAnswer::NotAsked(_)))),
        "{heard:?}"
    );
}

/// A server that speaks TLS: answers one request a stream and closes it.
fn tls_server(folder: &std::path::Path) -> (std::net::SocketAddr, TlsSettings) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let issue = |names: &[&str]| {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)
            .expect("parameters")
            .signed_by(&key, &ca);
        (certificate.expect("signed").pem(), key.serialize_pem())
    };
    let (certificate, key) = issue(&["client"]);
    let files = TlsSettings {
        ca: write("ca.pem", &ca.pem()),
        certificate: write("client.pem", &certificate),
        key: write("client.key", &key),
        server_name: Some("radius.example".to_owned()),
    };
    let (certificate, key) = issue(&["radius.example"]);
    use rustls::pki_types::pem::PemObject;
    let chain = vec![rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
    let mut roots = rustls::RootCertStore::empty();
    let ca = rustls::pki_types::CertificateDer::from_pem_slice(ca.pem().as_bytes()).expect("PEM");
    roots.add(ca).expect("a CA");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(chain, key)
        .expect("a certificate");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let config = Arc::new(config);
        for tcp in listener.incoming() {
            use std::io::{Read, Write};
            let session = rustls::ServerConnection::new(config.clone()).expect("a session");
            let mut stream = rustls::StreamOwned::new(session, tcp.expect("a connection"));
            let mut request = vec![0; 4];
            stream.read_exact(&mut request).expect("a header");
            request.resize(usize::from(u16::from_be_bytes([request[2], request[3]])), 0);
            stream.read_exact(&mut request[4..]).expect("a packet");
            stream.write_all(&response(&request)).expect("answered");
            stream.conn.send_close_notify();
            stream.flush().expect("closed");
        }
    });
    (address, files)
}

#[test]
fn over_tls_and_again_after_the_stream_has_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, files) = tls_server(folder.path());
    let radius = Radius::start(settings(address, Transport::Tls(files)), Arc::default()).expect("started");
    for token in 1..=3 {
        let heard = ask(&radius, token, LONG).recv_timeout(LONG);
        assert!(matches!(heard, Ok(Answer::Reply { .. })), "{token}: {heard:?}");
    }
}

#[test]
fn a_server_with_another_name_is_told_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, files) = tls_server(folder.path());
    let files = TlsSettings {
        server_name: Some("other.example".to_owned()),
        ..files
    };
    let radius = Radius::start(settings(address, Transport::Tls(files)), Arc::default()).expect("started");
    let heard = ask(&radius, 1, Duration::from_secs(2)).recv_timeout(LONG);
    assert!(matches!(heard, Ok(Answer::None(NoAnswer::Silence))), "{heard:?}");
}
