//! Rates as vendors and habits write them. Whatever is no rate, or one that no line has, is refused: better than to run unlimited.

use super::attributes::Attribute;
use super::error::WrongValue;
use crate::aaa::profile::Service;

/// The slowest rate that is one, bit/s.
pub const SLOWEST: u64 = 1_000;
/// The fastest, bit/s.
pub const FASTEST: u64 = 400_000_000_000;

const KILO: u64 = 1_000;
const NO_RATE: &str = "must be a rate between 1 kbit/s and 400 Gbit/s";

/// Towards whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the subscriber.
    Up,
    /// To the subscriber.
    Down,
}

/// Sets one direction, in bit/s.
pub fn set(
    service: &mut Service,
    attribute: &Attribute<'_>,
    direction: Direction,
    rate: u64,
) -> Result<(), WrongValue> {
    if !(SLOWEST..=FASTEST).contains(&rate) {
        return Err(attribute.wrong(NO_RATE));
    }
    match direction {
        Direction::Up => service.rate_up = rate,
        Direction::Down => service.rate_down = rate,
    }
    Ok(())
}

/// A number of `unit` bit/s.
pub fn number(
    service: &mut Service,
    attribute: &Attribute<'_>,
    direction: Direction,
    unit: u64,
) -> Result<(), WrongValue> {
    set(service, attribute, direction, u64::from(attribute.u32()?) * unit)
}

/// Filter-Id as accel-ppp reads it: `DOWN/UP` in kbit/s, or one number for both; `/`, `\` or `:` between, B, K, M or G behind a number.
/// `false`: it is none, but the name of a filter.
pub fn filter_id(service: &mut Service, attribute: &Attribute<'_>, text: &str) -> Result<bool, WrongValue> {
    let is_rate_like = text.starts_with(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || "/\\:bBkKmMgG".contains(c));
    if !is_rate_like {
        return Ok(false);
    }
    let (down, up) = pair(text, KILO).ok_or(attribute.wrong(NO_RATE))?;
    set(service, attribute, Direction::Down, down)?;
    set(service, attribute, Direction::Up, up)?;
    Ok(true)
}

/// Mikrotik-Rate-Limit: `RX[/TX] ...` in bit/s as the router sees it, so that the first is the subscriber's upload. Bursts and priorities
/// behind it are the router's own and passed over.
pub fn mikrotik(service: &mut Service, attribute: &Attribute<'_>) -> Result<(), WrongValue> {
    let wrong = attribute.wrong(NO_RATE);
    let first = attribute.text()?.split_ascii_whitespace().next().ok_or(wrong)?;
    let (up, down) = pair(first, 1).ok_or(wrong)?;
    set(service, attribute, Direction::Up, up)?;
    set(service, attribute, Direction::Down, down)
}

/// What follows `lcp:interface-config#N=`: `rate-limit output|input [access-group N] BIT/S BURST ...`, bursts in octets. `false`: another
/// command.
pub fn cisco(service: &mut Service, attribute: &Attribute<'_>, command: &str) -> Result<bool, WrongValue> {
    let wrong = attribute.wrong("must be \"rate-limit output|input [access-group N] BIT/S BURST\"");
    let mut words = command.split_ascii_whitespace().peekable();
    if words.next() != Some("rate-limit") {
        return Ok(false);
    }
    let direction = match words.next() {
        Some("output") => Direction::Down,
        Some("input") => Direction::Up,
        _ => return Err(wrong),
    };
    if words.next_if_eq(&"access-group").is_some() {
        words.next();
    }
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    let (rate, burst) = (number().ok_or(wrong)?, number().ok_or(wrong)?);
    set(service, attribute, direction, rate)?;
    let burst = u32::try_from(burst).map_err(|_| wrong)?;
    match direction {
        Direction::Up => service.burst_up = burst,
        Direction::Down => service.burst_down = burst,
    }
    Ok(true)
}

/// Two numbers, or one that stands for both.
fn pair(text: &str, unit: u64) -> Option<(u64, u64)> {
    match text.split_once(['/', '\\', ':']) {
        Some((first, second)) => Some((amount(first, unit)?, amount(second, unit)?)),
        None => amount(text, unit).map(|both| (both, both)),
    }
}

/// A number with a unit behind it, or else in `unit` bit/s.
fn amount(text: &str, unit: u64) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => unit,
        "b" => 1,
        "k" => KILO,
        "m" => KILO * KILO,
        "g" => KILO * KILO * KILO,
        _ => return None,
    };
    let plain = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
    plain
        .then(|| digits.parse::<u64>().ok()?.checked_mul(unit))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEGA: u64 = 1_000_000;

    fn filter(text: &str) -> Result<Option<(u64, u64)>, WrongValue> {
        let mut service = Service::default();
        let attribute = Attribute::new(11, text.as_bytes());
        let is_rate = filter_id(&mut service, &attribute, text)?;
        Ok(is_rate.then_some((service.rate_down, service.rate_up)))
    }

    #[test]
    fn accel_ppp_down_first() {
        assert_eq!(filter("50000/10000"), Ok(Some((50 * MEGA, 10 * MEGA))));
        assert_eq!(filter("50M\\10m"), Ok(Some((50 * MEGA, 10 * MEGA))));
        assert_eq!(filter("1G:512K"), Ok(Some((1_000 * MEGA, 512_000))));
        assert_eq!(filter("2000000b"), Ok(Some((2 * MEGA, 2 * MEGA))));
        assert_eq!(filter("customers-in"), Ok(None));
        assert_eq!(filter("10-customers"), Ok(None), "a name");
        for wrong in [
            "0/10",
            "10/0",
            "10/",
            "1M2",
            "401G",
            "1000000M/1",
            "10/20/30",
            "99999999999999999999",
        ] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn mikrotik_up_first() {
        let read = |text: &str| {
            let mut service = Service::default();
            let attribute = Attribute {
                vendor: Some(14988),
                ..Attribute::new(8, text.as_bytes())
            };
            mikrotik(&mut service, &attribute).map(|()| (service.rate_up, service.rate_down))
        };
        assert_eq!(read("10M/50M 20M/100M 8M/40M 5/5 8"), Ok((10 * MEGA, 50 * MEGA)));
        assert_eq!(read("64k"), Ok((64_000, 64_000)));
        for wrong in ["", " ", "0/0", "fast", "1T"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cisco_output_is_down() {
        let read = |command: &str| {
            let mut service = Service::default();
            let attribute = Attribute::new(1, command.as_bytes());
            let is_rate = cisco(&mut service, &attribute, command)?;
            Ok::<_, WrongValue>(is_rate.then_some(service))
        };
        let down = read(
            "rate-limit output access-group 101 20000000 256000 512000 conform-action transmit exceed-action drop",
        );
        let down = down.expect("right").expect("a rate");
        assert_eq!(
            (down.rate_down, down.burst_down, down.rate_up),
            (20 * MEGA, 256_000, 0)
        );
        let up = read("rate-limit input 5000000 64000 64000")
            .expect("right")
            .expect("a rate");
        assert_eq!((up.rate_up, up.burst_up, up.rate_down), (5 * MEGA, 64_000, 0));
        assert_eq!(read("ip unnumbered Loopback0"), Ok(None));
        assert!(read("rate-limit sideways 1 2").is_err());
        assert!(read("rate-limit output 0 1").is_err());
        assert!(read("rate-limit output fast").is_err());
    }
}
