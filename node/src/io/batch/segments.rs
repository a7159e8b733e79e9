//! Datagrams of one size, one behind another.

use std::ops::Range;

/// Where the datagrams of one message are, in the order in which they came. All have the same size but the last, which may
/// be shorter; a single one may be empty.
#[derive(Clone, Debug)]
pub(crate) struct Segments {
    left: Range<usize>,
    size: usize,
    empty: bool,
}

impl Segments {
    /// What is at `place`, cut into pieces of `size` octets.
    pub(crate) fn new(place: Range<usize>, size: usize) -> Self {
        Self {
            empty: place.is_empty(),
            left: place,
            size: size.max(1),
        }
    }

    /// Octets of each but the last.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// How many there are.
    pub(crate) fn datagrams(&self) -> usize {
        self.left.len().div_ceil(self.size) + usize::from(self.empty)
    }
}

impl Iterator for Segments {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.left.start;
        if self.left.is_empty() {
            return std::mem::take(&mut self.empty).then_some(start..start);
        }
        self.left.start = self.left.end.min(start + self.size);
        Some(start..self.left.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_into_what_was_sent() {
        let cut = |place, size| {
            let segments = Segments::new(place, size);
            let count = segments.datagrams();
            let cut: Vec<Range<usize>> = segments.collect();
            assert_eq!(cut.len(), count);
            cut
        };
        assert_eq!(cut(10..16, 3), [10..13, 13..16]);
        assert_eq!(cut(10..17, 3), [10..13, 13..16, 16..17]);
        assert_eq!(cut(10..12, 3), std::slice::from_ref(&(10..12)));
        assert_eq!(
            cut(10..10, 0),
            std::slice::from_ref(&(10..10)),
            "an empty datagram is one"
        );
    }
}
