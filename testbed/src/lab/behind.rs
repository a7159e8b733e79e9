//! The host behind the LNS: TCP services for the transfer tests.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use md5::{Digest, Md5};

use super::error::{LabError, Result};
use super::process::POLL;
use super::{BEHIND_ADDRESS, Lab};

/// No transfer of the tests comes near this.
const TRANSFER_LIMIT: Duration = Duration::from_secs(120);
const BLOCK: usize = 64 * 1024;

/// A service that handles one connection and returns the MD5 sum of what went over it.
#[derive(Debug)]
pub struct Transfer {
    pub port: u16,
    thread: JoinHandle<std::io::Result<String>>,
}

impl Transfer {
    /// Sends `length` octets of no particular pattern to whoever connects.
    pub fn source(lab: &Lab, length: usize) -> Result<Self> {
        Self::serve(lab, move |mut stream| {
            let mut hash = Md5::new();
            let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
            let mut left = length;
            while left > 0 {
                let block = numbers.block(left.min(BLOCK));
                hash.update(&block);
                stream.write_all(&block)?;
                left -= block.len();
            }
            Ok(hex(&hash.finalize()))
        })
    }

    /// Takes what comes until the peer has no more.
    pub fn sink(lab: &Lab) -> Result<Self> {
        Self::serve(lab, |mut stream| {
            let mut hash = Md5::new();
            let mut block = vec![0; BLOCK];
            loop {
                match stream.read(&mut block)? {
                    0 => return Ok(hex(&hash.finalize())),
                    length => hash.update(&block[..length]),
                }
            }
        })
    }

    fn serve(
        lab: &Lab,
        work: impl FnOnce(TcpStream) -> std::io::Result<String> + Send + 'static,
    ) -> Result<Self> {
        let bound = lab
            .behind
            .enter(|| TcpListener::bind(SocketAddrV4::new(BEHIND_ADDRESS, 0)))?;
        let failed = |source| LabError::io("service behind the LNS", source);
        let listener = bound.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        listener.set_nonblocking(true).map_err(failed)?;
        let thread = thread::spawn(move || {
            let stream = accept(&listener)?;
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(TRANSFER_LIMIT))?;
            stream.set_write_timeout(Some(TRANSFER_LIMIT))?;
            work(stream)
        });
        Ok(Self { port, thread })
    }

    /// The MD5 sum of what this side sent or took, once the connection has ended.
    pub fn checksum(self) -> Result<String> {
        let result = self
            .thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.map_err(|source| LabError::io("service behind the LNS", source))
    }
}

fn accept(listener: &TcpListener) -> std::io::Result<TcpStream> {
    let deadline = Instant::now() + TRANSFER_LIMIT;
    loop {
        match listener.accept() {
            Ok((stream, _)) => return Ok(stream),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(POLL);
            }
            Err(error) => return Err(error),
        }
    }
}

/// xorshift64: content that no repetition or reordering of segments leaves unchanged.
struct Numbers(u64);

impl Numbers {
    fn block(&mut self, length: usize) -> Vec<u8> {
        let mut block = Vec::with_capacity(length + 8);
        while block.len() < length {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            block.extend_from_slice(&self.0.to_le_bytes());
        }
        block.truncate(length);
        block
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
