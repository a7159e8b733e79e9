//! What `raft` 0.7 uses of protobuf 2, for prost messages.
//!
//! `raft` asks for the `protobuf` crate even with its prost codec: for one trait and one error type. The last
//! release of that line has a known hole (RUSTSEC-2024-0437), so this stands in for it through
//! `[patch.crates-io]`. Nothing else may use it.

use std::fmt;

/// A message could not be written or read.
#[derive(Debug)]
pub struct ProtobufError(prost::DecodeError);

impl fmt::Display for ProtobufError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ProtobufError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// The calls that `raft` makes on its messages.
pub trait Message {
    /// The encoded size in octets.
    fn compute_size(&self) -> u32;

    /// Encodes the message. It cannot fail; the shape is protobuf 2's.
    fn write_to_bytes(&self) -> Result<Vec<u8>, ProtobufError>;

    /// Decodes `bytes` over the message.
    fn merge_from_bytes(&mut self, bytes: &[u8]) -> Result<(), ProtobufError>;
}

impl<M: prost::Message> Message for M {
    fn compute_size(&self) -> u32 {
        u32::try_from(self.encoded_len()).unwrap_or(u32::MAX)
    }

    fn write_to_bytes(&self) -> Result<Vec<u8>, ProtobufError> {
        Ok(self.encode_to_vec())
    }

    fn merge_from_bytes(&mut self, bytes: &[u8]) -> Result<(), ProtobufError> {
        self.merge(bytes).map_err(ProtobufError)
    }
}
