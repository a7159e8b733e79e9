//! Ns of the data messages that a LAC receives on one session (RFC 2661 §5.4): none may come twice, whichever of several
//! nodes sends it.

/// Numbers behind the highest one that are remembered: half of all there are, which is how far a number counts as old.
const REMEMBERED: u16 = 0x8000;
const WORDS: usize = 1 << 10;

/// Which numbers have come.
#[derive(Clone, Debug)]
pub struct Numbers {
    highest: Option<u16>,
    seen: Box<[u64; WORDS]>,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            highest: None,
            seen: Box::new([0; WORDS]),
        }
    }
}

impl Numbers {
    /// Whether `ns` is new; from now on it is not.
    pub fn note(&mut self, ns: u16) -> bool {
        let highest = *self.highest.get_or_insert(ns);
        let step = ns.wrapping_sub(highest);
        if (1..REMEMBERED).contains(&step) {
            for passed in 1..=step {
                // It comes again when the numbers have gone round.
                self.set(highest.wrapping_add(passed).wrapping_add(REMEMBERED), false);
            }
            self.highest = Some(ns);
        }
        !self.set(ns, true)
    }

    /// What it was before.
    fn set(&mut self, ns: u16, seen: bool) -> bool {
        let word = &mut self.seen[usize::from(ns / 64)];
        let bit = 1 << (ns % 64);
        let before = *word & bit != 0;
        *word = if seen { *word | bit } else { *word & !bit };
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_once_in_a_round() {
        let mut numbers = Numbers::default();
        let cases = [
            (0, true),
            (2, true),
            (1, true),
            (2, false),
            (0, false),
            (4096, true),
            (3, true),
            (1, false),
        ];
        for (ns, new) in cases {
            assert_eq!(numbers.note(ns), new, "{ns}");
        }
        for round in 0..3 {
            let first = if round == 0 { 4097 } else { 0 };
            assert!((first..=u16::MAX).all(|ns| numbers.note(ns)), "round {round}");
            assert!((u16::MAX - 1000..=u16::MAX).all(|ns| !numbers.note(ns)));
        }
    }
}
