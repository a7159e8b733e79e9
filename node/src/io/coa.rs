//! The socket on which RADIUS servers order changes (RFC 5176 §2.2): answers leave from the address that was asked, so that the address
//! shared by several nodes works too.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::batch::{Destination, ReceiveBatch, SendBatch};
use super::socket::{ShardSocket, SocketError, SocketGroup};

/// Where an answer is written in its slot.
const AT: usize = 4;

/// A datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub from: SocketAddr,
    /// To which of our addresses.
    pub to: IpAddr,
    /// What.
    pub octets: Vec<u8>,
}

/// See the module.
pub struct CoaSocket {
    /// A second descriptor of the socket, for tokio to watch.
    readable: AsyncFd<OwnedFd>,
    sockets: Vec<ShardSocket>,
    receive: ReceiveBatch,
    send: SendBatch,
}

impl std::fmt::Debug for CoaSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CoaSocket({})", self.address())
    }
}

impl CoaSocket {
    /// Opens one socket for each address. Must be called where tokio runs.
    ///
    /// # Errors
    /// The first that went wrong; nothing stays open.
    pub fn open(listen: &[SocketAddr]) -> Result<Vec<Self>, SocketError> {
        let sockets = SocketGroup::open(listen, 1)?.into_shards().into_iter().flatten();
        sockets.map(Self::new).collect()
    }

    fn new(socket: ShardSocket) -> Result<Self, SocketError> {
        let address = socket.address;
        let fail = |source| SocketError::Io {
            address,
            step: "epoll",
            source,
        };
        let descriptor = socket.as_fd().try_clone_to_owned().map_err(fail)?;
        // SAFETY: the descriptor is owned by what is made here, which neither replaces nor closes it before its own end.
        let readable = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        let sockets = vec![socket];
        Ok(Self {
            readable: readable.map_err(|error| fail(error.into()))?,
            receive: ReceiveBatch::new(),
            send: SendBatch::new(&sockets),
            sockets,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.sockets[0].address
    }

    /// Waits for datagrams; whoever drops the wait loses none.
    ///
    /// # Errors
    /// What the kernel said.
    pub async fn receive(&mut self) -> io::Result<Vec<Datagram>> {
        let own = self.address().ip();
        loop {
            let mut ready = self.readable.readable().await?;
            let messages = self.receive.receive(&self.sockets[0])?;
            if messages == 0 {
                ready.clear_ready();
                continue;
            }
            let mut datagrams = Vec::new();
            for at in 0..messages {
                let Some(message) = self.receive.get(at) else {
                    continue;
                };
                let to = message.to.unwrap_or(own);
                for place in message.segments {
                    datagrams.push(Datagram {
                        from: message.from,
                        to,
                        octets: self.receive.octets()[place].to_vec(),
                    });
                }
            }
            return Ok(datagrams);
        }
    }

    /// Answers a datagram. What the kernel does not take is lost; whoever asked asks again.
    pub fn answer(&mut self, to: SocketAddr, from: IpAddr, octets: &[u8]) {
        let place = AT..AT + octets.len();
        self.send.slot()[place.clone()].copy_from_slice(octets);
        let destination = Destination {
            socket: 0,
            to,
            source: Some(from).filter(|from| !from.is_unspecified()),
            tos: 0,
        };
        self.send.push(&destination, place, false);
        self.send.flush(&self.sockets);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// The socket listens everywhere and is asked at one of the host's many loopback addresses.
    #[tokio::test]
    async fn an_answer_leaves_from_the_address_that_was_asked() {
        let mut sockets = CoaSocket::open(&["0.0.0.0:0".parse().expect("an address")]).expect("opened");
        let port = sockets[0].address().port();
        let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        // A connected socket hears no other address.
        client.connect(("127.7.7.7", port)).expect("connected");
        for question in [&b"one"[..], b"two"] {
            client.send(question).expect("sent");
            let heard = sockets[0].receive().await.expect("received");
            assert_eq!((heard.len(), heard[0].octets.as_slice()), (1, question));
            assert_eq!(heard[0].to, IpAddr::from([127, 7, 7, 7]));
            sockets[0].answer(heard[0].from, heard[0].to, b"yes");
            let mut answer = [0; 8];
            let length = client.recv(&mut answer).expect("answered");
            assert_eq!(&answer[..length], b"yes");
        }
    }
}
