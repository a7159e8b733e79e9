//! Host names with `*` and `?`, as a LAC profile matches them.

use std::fmt;

/// `*` stands for any octets, `?` for one; everything else for itself, ASCII letters in either case.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Any text is a pattern.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `name` fits. Linear but for the last `*`, to which it falls back: at most
    /// `pattern * name` steps, so a hostile name cannot make it explode.
    pub fn matches(&self, name: &[u8]) -> bool {
        let pattern = self.0.as_bytes();
        let (mut p, mut n) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while n < name.len() {
            if pattern.get(p) == Some(&b'*') {
                retry = Some((p, n));
                p += 1;
            } else if pattern
                .get(p)
                .is_some_and(|c| *c == b'?' || c.eq_ignore_ascii_case(&name[n]))
            {
                p += 1;
                n += 1;
            } else if let Some((star, taken)) = retry {
                // Let the last star swallow one octet more and try the rest again.
                retry = Some((star, taken + 1));
                p = star + 1;
                n = taken + 1;
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let cases: &[(&str, &str, bool)] = &[
            ("*", "", true),
            ("*", "anything", true),
            ("lac1", "LAC1", true),
            ("lac1", "lac2", false),
            ("lac1", "lac11", false),
            ("lac?", "lac7", true),
            ("lac?", "lac", false),
            ("lac-*.example", "lac-a.b.example", true),
            ("lac-*.example", "lac-a.example.net", false),
            ("*a*b", "xaxbxb", true),
            ("", "", true),
            ("", "a", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(
                Pattern::new(*pattern).matches(name.as_bytes()),
                *expected,
                "{pattern} on {name}"
            );
        }
    }

    #[test]
    fn a_hostile_name_costs_at_most_the_product() {
        let pattern = Pattern::new("*a".repeat(64) + "b");
        assert!(!pattern.matches(&vec![b'a'; 4096]));
    }
}
