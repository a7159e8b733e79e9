//! Figures as people read them.

/// `45s`, `3m 20s`, `2h 05m`, `3d 04h`: two units, so that a column stays narrow.
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d {:02}h", hours % 24),
        () if hours > 0 => format!("{hours}h {:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m {:02}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

/// `512 B`, `1.4 KiB`, `20.0 MiB`.
pub fn octets(octets: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if octets < 1024 {
        return format!("{octets} B");
    }
    let mut value = octets as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// bit/s as the configuration has them: `512k`, `100M`, `2500k`, `1G`; `-` for no limit.
pub fn rate(bits_per_second: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let exact = |(factor, _): &&(u64, &str)| bits_per_second.is_multiple_of(*factor);
    match UNITS.iter().find(exact) {
        _ if bits_per_second == 0 => "-".to_owned(),
        Some((factor, unit)) => format!("{}{unit}", bits_per_second / factor),
        None => bits_per_second.to_string(),
    }
}

/// `1 session`, `3 sessions`.
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let shown = [0, 512_000, 100_000_000, 2_500_000, 1_000_000_000, 1_500].map(rate);
        assert_eq!(shown, ["-", "512k", "100M", "2500k", "1G", "1500"]);
    }

    #[test]
    fn durations() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m 00s"),
            (3599, "59m 59s"),
            (7500, "2h 05m"),
            (273_600, "3d 04h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (number, text) in cases {
            assert_eq!(octets(number), text);
        }
    }

    #[test]
    fn counts() {
        assert_eq!(count(1, "session"), "1 session");
        assert_eq!(count(0, "session"), "0 sessions");
    }
}
