//! Numbers, and texts of a store, as reports print them.

use super::statistics::Estimate;

/// As many digits as tell `value` from all others, as C prints it: `8.97885e-08`, `0.25`, `74`.
pub fn exact(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-4..1e16).contains(&size) || !value.is_finite() {
        return value.to_string();
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// To six significant digits, as `%g` of C has it.
pub fn short(value: f64) -> String {
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    exact(rounded)
}

/// A share, in percent.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// What lies between two shares, in percent.
pub fn interval(low: f64, high: f64) -> String {
    format!("[{:.1}, {:.1}]", 100.0 * low, 100.0 * high)
}

/// A number that is not known, and what it lies between.
pub fn estimate(own: &Estimate) -> String {
    format!("{} [{}, {}]", short(own.value), short(own.low), short(own.high))
}

/// `text` as one line, without anything that is obeyed instead of shown, or that turns the order round:
/// names and outputs of a store may hold anything.
pub fn line(text: &str) -> String {
    let letter = |letter: char| match letter {
        '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{feff}' => letter.escape_unicode().to_string(),
        // XML has no place for these.
        '\u{fffe}' | '\u{ffff}' => letter.escape_unicode().to_string(),
        letter if letter.is_control() => letter.escape_default().to_string(),
        letter => letter.to_string(),
    };
    text.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_c_prints_them() {
        let all =
            [8.97885e-8, 8.978797666666667e-8, 0.25, 74.0, 1e16, -1.5e300, 0.0, 1e-4, f64::NAN];
        let told = all.map(exact);
        let expected = [
            "8.97885e-08",
            "8.978797666666667e-08",
            "0.25",
            "74",
            "1e+16",
            "-1.5e+300",
            "0",
            "0.0001",
            "NaN",
        ];
        assert_eq!(told, expected);
        assert_eq!(short(7.385861438143572e-8), "7.38586e-08");
        assert_eq!(short(123_456_789.0), "123457000");
        assert_eq!(
            (percent(0.114), interval(0.0, 0.1135)),
            ("11.4 %".into(), "[0.0, 11.3]".into())
        );
    }
}
