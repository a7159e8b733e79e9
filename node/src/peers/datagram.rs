//! Datagrams, sealed with a key that the sender's TLS stream gave (RFC 8446 §7.5, RFC 5705).
//!
//! ```text
//!   0                 8                 16
//!   | key id          | sequence number | AES-256-GCM of the octets, and 16 octets of tag |
//! ```
//!
//! The key is another one for each stream and direction, so a sequence number is a nonce that never comes twice. What does
//! not open is dropped without an answer.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::limits::DATAGRAM_OCTETS_MAX;

/// Octets before the sealed ones.
const HEADER_OCTETS: usize = 16;
/// Octets after them.
const TAG_OCTETS: usize = 16;
/// Octets of the largest sealed datagram.
pub(super) const SEALED_OCTETS_MAX: usize = HEADER_OCTETS + DATAGRAM_OCTETS_MAX + TAG_OCTETS;

/// The exporter's label; it changes with the format above.
const LABEL: &[u8] = b"EXPERIMENTAL holdfast datagrams 1";
const KEY_OCTETS: usize = 32;
const KEY_ID_OCTETS: usize = 8;

/// What a stream's exporter gives: a key, and a name for it that says nothing of it.
pub(super) struct Key {
    id: u64,
    key: LessSafeKey,
}

/// For the side that dialled.
#[derive(Debug)]
pub(super) struct Sealer {
    key: Key,
    next: AtomicU64,
}

/// For the side that was dialled.
#[derive(Debug)]
struct Opener {
    node: u64,
    key: Key,
    window: Window,
}

/// The keys of all streams that members have to us.
#[derive(Debug, Default)]
pub(super) struct Openers(Mutex<BTreeMap<u64, Opener>>);

/// Why a datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// Nobody who is connected has sealed it.
    Unknown,
    /// It has been here before, or is older than what is remembered.
    Replayed,
}

/// Which of the last 64 numbers have been seen.
#[derive(Debug, Default)]
struct Window {
    /// One more than the highest number; 0 while there was none.
    next: u64,
    /// Bit n: `next - 1 - n`.
    seen: u64,
}

impl Key {
    /// From a stream that is set up.
    pub(super) fn export<Data>(stream: &rustls::ConnectionCommon<Data>) -> Result<Self, rustls::Error> {
        let octets = [0_u8; KEY_OCTETS + KEY_ID_OCTETS];
        let octets = Zeroizing::new(stream.export_keying_material(octets, LABEL, None)?);
        let (key, id) = octets.split_at(KEY_OCTETS);
        let key = UnboundKey::new(&AES_256_GCM, key).expect("it has the length that the cipher asks for");
        Ok(Self {
            id: u64::from_be_bytes(id.try_into().expect("8 octets are left")),
            key: LessSafeKey::new(key),
        })
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:016x})", self.id)
    }
}

impl Sealer {
    /// Begins with number 0.
    pub(super) fn new(key: Key) -> Self {
        Self {
            key,
            next: AtomicU64::new(0),
        }
    }

    /// The octets as they are sent; `None` if they are too many.
    pub(super) fn seal(&self, octets: &[u8]) -> Option<Vec<u8>> {
        if octets.len() > DATAGRAM_OCTETS_MAX {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut sealed = Vec::with_capacity(HEADER_OCTETS + octets.len() + TAG_OCTETS);
        sealed.extend_from_slice(&self.key.id.to_be_bytes());
        sealed.extend_from_slice(&number.to_be_bytes());
        sealed.extend_from_slice(octets);
        let (header, body) = sealed.split_at_mut(HEADER_OCTETS);
        let tag = self
            .key
            .key
            .seal_in_place_separate_tag(nonce(number), Aad::from(&*header), body)
            .ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }
}

impl Openers {
    /// From now on datagrams under this key are `node`'s. The name by which to forget it.
    pub(super) fn add(&self, node: u64, key: Key) -> u64 {
        let id = key.id;
        let opener = Opener {
            node,
            key,
            window: Window::default(),
        };
        self.lock().insert(id, opener);
        id
    }

    /// Datagrams under this key are nobody's any more.
    pub(super) fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Who sent a datagram, and what.
    pub(super) fn open(&self, sealed: &[u8]) -> Result<(u64, Vec<u8>), Dropped> {
        let (header, body) = sealed
            .split_at_checked(HEADER_OCTETS)
            .filter(|_| sealed.len() <= SEALED_OCTETS_MAX)
            .ok_or(Dropped::Unknown)?;
        let word =
            |octets: &[u8]| u64::from_be_bytes(octets.try_into().expect("half of the header is 8 octets"));
        let (id, number) = (word(&header[..8]), word(&header[8..]));
        let mut openers = self.lock();
        let opener = openers.get_mut(&id).ok_or(Dropped::Unknown)?;
        let mut body = body.to_vec();
        let length = opener
            .key
            .key
            .open_in_place(nonce(number), Aad::from(header), &mut body)
            .map_err(|_| Dropped::Unknown)?
            .len();
        // Only now: a forged number must not move the window.
        if !opener.window.take(number) {
            return Err(Dropped::Replayed);
        }
        body.truncate(length);
        Ok((opener.node, body))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Opener>> {
        self.0
            .lock()
            .expect("never poisoned: nothing panics while it is held")
    }
}

impl Window {
    /// Whether the number is new; from now on it is not.
    fn take(&mut self, number: u64) -> bool {
        if number >= self.next {
            let Some(next) = number.checked_add(1) else {
                return false;
            };
            let step = next - self.next;
            self.seen = if step < 64 { self.seen << step } else { 0 } | 1;
            self.next = next;
            return true;
        }
        let age = self.next - 1 - number;
        if age >= 64 || self.seen & (1 << age) != 0 {
            return false;
        }
        self.seen |= 1 << age;
        true
    }
}

fn nonce(number: u64) -> Nonce {
    let mut octets = [0; NONCE_LEN];
    octets[NONCE_LEN - 8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u64) -> Key {
        let key = UnboundKey::new(&AES_256_GCM, &[7; KEY_OCTETS]).expect("32 octets");
        Key {
            id,
            key: LessSafeKey::new(key),
        }
    }

    #[test]
    fn what_is_sealed_opens_once() {
        let (sealer, openers) = (Sealer::new(key(5)), Openers::default());
        openers.add(2, key(5));
        let sealed = sealer.seal(b"probe").expect("short");
        assert_eq!(openers.open(&sealed), Ok((2, b"probe".to_vec())));
        assert_eq!(openers.open(&sealed), Err(Dropped::Replayed));
        assert!(sealer.seal(&[0; DATAGRAM_OCTETS_MAX]).is_some());
        assert_eq!(sealer.seal(&[0; DATAGRAM_OCTETS_MAX + 1]), None);
    }

    #[test]
    fn whatever_octet_is_changed_it_does_not_open() {
        let (sealer, openers) = (Sealer::new(key(5)), Openers::default());
        openers.add(2, key(5));
        let sealed = sealer.seal(b"probe").expect("short");
        for index in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[index] ^= 1;
            assert_eq!(openers.open(&forged), Err(Dropped::Unknown), "octet {index}");
            assert_eq!(
                openers.open(&sealed[..index]),
                Err(Dropped::Unknown),
                "{index} octets"
            );
        }
        assert_eq!(openers.open(&sealed), Ok((2, b"probe".to_vec())));
        openers.remove(5);
        assert_eq!(openers.open(&sealed), Err(Dropped::Unknown));
    }

    #[test]
    fn the_window_takes_each_number_once() {
        let mut window = Window::default();
        for (number, new) in [
            (0, true),
            (0, false),
            (3, true),
            (1, true),
            (1, false),
            (2, true),
            (66, true),
            (3, false),
            (4, true),
            (2, false),
            (1000, true),
            (936, false),
            (937, true),
            (937, false),
            (u64::MAX, false),
        ] {
            assert_eq!(window.take(number), new, "{number}");
        }
    }
}
