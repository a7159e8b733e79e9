//! The Result Code AVP (RFC 2661 §4.4.2): result, error code and a text, in StopCCN and CDN.

use crate::iana::error_code;

/// Why a tunnel or a session ends.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ResultCode {
    /// `iana::stop_result` or `iana::call_result`.
    pub result: u16,
    /// `iana::error_code`; absent in the short form.
    pub error: Option<u16>,
    /// UTF-8 by the RFC, but a peer's may be anything: escape it in logs. Not sent without an error code.
    pub text: Vec<u8>,
}

impl ResultCode {
    /// A result without an error code.
    pub fn new(result: u16) -> Self {
        Self {
            result,
            error: None,
            text: Vec::new(),
        }
    }

    /// A result with an error code and a text, which may be empty.
    pub fn with_error(result: u16, error: u16, text: impl Into<Vec<u8>>) -> Self {
        Self {
            result,
            error: Some(error),
            text: text.into(),
        }
    }

    pub(crate) fn value(&self) -> Vec<u8> {
        let mut value = self.result.to_be_bytes().to_vec();
        if self.error.is_some() || !self.text.is_empty() {
            value.extend_from_slice(&self.error.unwrap_or(error_code::NONE).to_be_bytes());
            value.extend_from_slice(&self.text);
        }
        value
    }

    /// Reads a value whose length the table has checked.
    pub(crate) fn from_value(value: &[u8]) -> Option<Self> {
        let (result, rest) = value.split_first_chunk::<2>()?;
        let result = u16::from_be_bytes(*result);
        Some(match rest.split_first_chunk::<2>() {
            None => Self::new(result),
            Some((error, text)) => Self::with_error(result, u16::from_be_bytes(*error), text),
        })
    }
}

impl std::fmt::Debug for ResultCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.result)?;
        if let Some(error) = self.error {
            write!(f, "/{error}")?;
        }
        if !self.text.is_empty() {
            write!(f, " \"{}\"", self.text.escape_ascii())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_68_short_form_and_odd_text_are_accepted_and_escaped() {
        assert_eq!(ResultCode::from_value(&[0, 3]), Some(ResultCode::new(3)));
        let odd = ResultCode::from_value(&[0, 2, 0, 6, 0xff, b'x', 0x1b]).expect("long enough");
        assert_eq!(format!("{odd:?}"), r#"2/6 "\xffx\x1b""#);
        assert_eq!(odd.value(), [0, 2, 0, 6, 0xff, b'x', 0x1b]);
    }
}
