//! Durations as an operator writes them: a whole number and its unit, `500ms`, `60s`, `5m`, `1h`.

use std::time::Duration;

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// The error says what it must be.
pub fn parse(text: &str) -> Result<Duration, String> {
    let mistake =
        || format!("must be a duration such as \"500ms\", \"60s\", \"5m\" or \"1h\", not \"{text}\"");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| mistake())?;
    let (_, factor) = UNITS
        .iter()
        .find(|(name, _)| *name == unit.trim())
        .ok_or_else(mistake)?;
    number
        .checked_mul(*factor)
        .map(Duration::from_millis)
        .ok_or_else(mistake)
}

/// The inverse of [`parse`], in the largest unit that loses nothing; below a millisecond is cut off.
pub fn format(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let exact = |(_, factor): &&(&str, u64)| milliseconds.is_multiple_of(u128::from(*factor));
    match UNITS.iter().rev().filter(|_| milliseconds > 0).find(exact) {
        Some((unit, factor)) => format!("{}{unit}", milliseconds / u128::from(*factor)),
        None => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("60ms", 60),
            ("59s", 59_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)));
            assert_eq!(format(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(parse("60 s"), Ok(Duration::from_secs(60)));
        assert_eq!(format(Duration::from_secs(60)), "1m");
    }

    #[test]
    fn mistakes() {
        for text in [
            "",
            "60",
            "s",
            "-1s",
            "1.5s",
            "60seconds",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
