//! Sizes and times as people type them: 512M, 250ms.

use crate::scalar::whole;
use std::time::Duration;

/// A number of bytes: plain, or with K, M, G or T for powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = units.iter().find(|(unit, _)| text.to_ascii_uppercase().ends_with(*unit));
    let (digits, shift) = unit.map_or((text, 0), |(_, shift)| (&text[..text.len() - 1], *shift));
    let size = whole(digits).ok().and_then(|count| count.checked_mul(1 << shift));
    let size = size.and_then(|size| u64::try_from(size).ok()).filter(|&size| size > 0);
    size.ok_or_else(|| format!("'{text}' is not a size (512M, 2G, or bytes)"))
}

/// A time: with a unit, or a number of seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    // The longer of two that end alike comes first.
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let unit = units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)));
    let (digits, scale) = unit.unwrap_or((text, 1.0));
    let number = digits.parse().ok().filter(|number: &f64| number.is_finite());
    let number = number.ok_or_else(|| {
        format!("'{text}' is no time (0.5s, 250ms, 10us, 2m, 1h, or a number of seconds)")
    })?;
    if number < 0.0 {
        return Err(format!("'{text}' is negative, and no time"));
    }
    let time = Duration::try_from_secs_f64(number * scale);
    time.map_err(|_| format!("'{text}' is too long a time"))
}

/// A time that something may be repeated after.
pub fn interval(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    (!time.is_zero()).then_some(time).ok_or_else(|| format!("'{text}' is no interval"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("2g"), Ok(2 << 30));
        assert_eq!(size("4096"), Ok(4096));
        for bad in ["", "M", "0", "-1M", "99999999999T", "5é"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        let times = [
            ("1s", 1_000_000_000),
            ("0.5s", 500_000_000),
            ("250ms", 250_000_000),
            ("3us", 3_000),
            ("0.1us", 100),
            ("2m", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            ("2", 2_000_000_000),
            ("0.001", 1_000_000),
            ("0", 0),
        ];
        for (text, nanoseconds) in times {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for bad in
            ["", "s", "ms", "-1s", "nan", "inf", "infs", "1 s", "1d", "1e400", "1e30h", "1..2"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
