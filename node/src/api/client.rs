//! The client's side of the operator's socket: blocking, for the program's own subcommands.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::types::{ApiError, Envelope, Reply, Request, VERSION};

/// A node that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a node.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    reader: BufReader<UnixStream>,
}

/// Why there is no answer. Each text names the socket and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody there.
    #[error(
        "no holdfast answers at {}; is it running? Start it with \"holdfast run\", or name its socket with --socket, \
         --config or --dev",
        .0.display()
    )]
    NoDaemon(PathBuf),
    /// The file's mode keeps us out.
    #[error("not allowed to use {}; run this as root or as a member of the socket's group", .0.display())]
    NotAllowed(PathBuf),
    /// It broke.
    #[error("the connection to {} failed: {source}", path.display())]
    Io {
        /// Of the socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another release, perhaps.
    #[error("the node at {} gave an answer that this program does not understand: {text}", path.display())]
    Protocol {
        /// Of the socket.
        path: PathBuf,
        /// What is wrong with it.
        text: String,
    },
    /// The node said no.
    #[error(transparent)]
    Refused(#[from] ApiError),
}

impl Client {
    /// Connects to the socket at `path`.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon(path.to_owned())
            }
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed(path.to_owned()),
            _ => ClientError::Io {
                path: path.to_owned(),
                source,
            },
        })?;
        let timeout = |stream: &UnixStream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))
        };
        timeout(&stream).map_err(|source| ClientError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::new(stream),
        })
    }

    /// Sends a request and hands each reply to `take` until the last, which is not handed on. An error of `take`
    /// (standard output was closed) ends it early.
    pub fn request<E: From<ClientError>>(
        &mut self,
        request: Request,
        mut take: impl FnMut(Reply) -> Result<(), E>,
    ) -> Result<(), E> {
        self.send(request)?;
        loop {
            match self.receive()? {
                Reply::End { .. } => return Ok(()),
                Reply::Error(error) => return Err(ClientError::Refused(error).into()),
                reply => take(reply)?,
            }
        }
    }

    /// Waits until the node has closed the connection, as its end does; `false` if it has not after `patience`.
    pub fn wait_for_end(&mut self, patience: Duration) -> bool {
        // Without the timeout set, reading would wait for ever: then say at once that it has not ended.
        if self.reader.get_ref().set_read_timeout(Some(patience)).is_err() {
            return false;
        }
        match self.reader.fill_buf() {
            Ok(octets) => octets.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    fn send(&mut self, request: Request) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(&Envelope {
            version: VERSION,
            request,
        })
        .map_err(|error| self.protocol(error.to_string()))?;
        line.push(b'\n');
        match self.reader.get_mut().write_all(&line) {
            // A node that refused us has written why and closed; the reason can still be read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|source| self.io(source)),
        }
    }

    fn receive(&mut self) -> Result<Reply, ClientError> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Ok(0) => Err(self.io(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => serde_json::from_slice(&line).map_err(|error| self.protocol(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let text = format!("the node has said nothing for {} s", PATIENCE.as_secs());
                Err(self.io(io::Error::new(io::ErrorKind::TimedOut, text)))
            }
            Err(source) => Err(self.io(source)),
        }
    }

    fn io(&self, source: io::Error) -> ClientError {
        ClientError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn protocol(&self, text: String) -> ClientError {
        ClientError::Protocol {
            path: self.path.clone(),
            text,
        }
    }
}
