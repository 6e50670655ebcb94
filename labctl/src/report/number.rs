//! Numbers for people: three significant digits, one unit per column.

/// Three significant digits, but no more than four decimals and none beyond the unit:
/// `0.0123`, `1.23`, `123`, `12345`. What would round to nothing is `<0.0001`.
pub fn significant(x: f64) -> String {
    if x != 0.0 && x.abs() < 0.000_05 {
        return "<0.0001".to_owned();
    }
    format!("{x:.*}", decimals(x))
}

/// Decimals that leave three significant digits after rounding.
fn decimals(x: f64) -> usize {
    // Rounding may carry into the next power of ten, so the exponent is taken after it.
    let rounded = format!("{x:.2e}");
    let exponent = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0i32);
    (2 - exponent).clamp(0, 4) as usize
}

/// Three significant digits with a metric prefix: `950`, `12.3k`, `1.23M`.
pub fn metric(x: f64) -> String {
    let (scale, prefix) = match x.abs() {
        x if x < 999.5 => (1.0, ""),
        x if x < 999.5e3 => (1e3, "k"),
        x if x < 999.5e6 => (1e6, "M"),
        _ => (1e9, "G"),
    };
    significant(x / scale) + prefix
}

/// A number of things: exact where that is short, else as [`metric`].
pub fn count(n: u64) -> String {
    if n < 1000 { n.to_string() } else { metric(n as f64) }
}

/// So many things of a kind: `1 cell`, `2 cells`, `2 addresses`.
pub fn things(n: usize, thing: &str) -> String {
    let plural = if thing.ends_with('s') { "es" } else { "s" };
    format!("{n} {thing}{}", if n == 1 { "" } else { plural })
}

/// A fraction as a percentage: `0.031` is `3.1 %`.
pub fn percent(fraction: f64) -> String {
    match fraction.abs() * 100.0 {
        0.0 => "0 %".to_owned(),
        p if p < 0.05 => "<0.1 %".to_owned(),
        p if p < 9.95 => format!("{:.1} %", fraction * 100.0),
        _ => format!("{:.0} %", fraction * 100.0),
    }
}

/// Seconds as `41 s` or `3 min 18 s`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 60, seconds % 60) {
        (0, s) => format!("{s} s"),
        (m, s) => format!("{m} min {s} s"),
    }
}

/// Seconds as the two largest units of an age: `41s`, `3m18s`, `2h5m`, `3d4h`.
pub fn age(seconds: u64) -> String {
    match seconds {
        s if s < 60 => format!("{s}s"),
        s if s < 3600 => format!("{}m{}s", s / 60, s % 60),
        s if s < 86_400 => format!("{}h{}m", s / 3600, s / 60 % 60),
        s => format!("{}d{}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_significant_digits() {
        for (x, text) in [
            (0.0, "0.00"),
            (0.00001, "<0.0001"),
            (0.000_051, "0.0001"),
            (0.001_26, "0.0013"),
            (0.012_34, "0.0123"),
            (0.9996, "1.00"),
            (9.996, "10.0"),
            (27.44, "27.4"),
            (99.96, "100"),
            (1234.5, "1234"),
            (-3.456, "-3.46"),
        ] {
            assert_eq!(significant(x), text);
        }
    }

    #[test]
    fn prefixes_change_where_rounding_does() {
        for (x, text) in [
            (0.0, "0.00"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (999_499.0, "999k"),
            (999_500.0, "1.00M"),
            (4.2e9, "4.20G"),
        ] {
            assert_eq!(metric(x), text);
        }
    }

    #[test]
    fn percentages_and_durations() {
        assert_eq!([0, 7, 999, 1000, 45_678].map(count), ["0", "7", "999", "1.00k", "45.7k"]);
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.0001), "<0.1 %");
        assert_eq!(percent(0.0312), "3.1 %");
        assert_eq!(percent(-0.0997), "-10 %");
        assert_eq!(duration(41.4), "41 s");
        assert_eq!(duration(198.0), "3 min 18 s");
        assert_eq!([41, 198, 7525, 273_700].map(age), ["41s", "3m18s", "2h5m", "3d4h"]);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_within_rounding_of_what_was_measured(x in 0.01f64..1e9) {
            let printed: f64 = significant(x).parse().unwrap();
            prop_assert!((printed / x - 1.0).abs() < 0.0051, "{x} printed as {printed}");
        }
    }
}
