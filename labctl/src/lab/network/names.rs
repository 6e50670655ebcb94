//! Names for interfaces.

use std::collections::HashSet;

/// Longest interface name in bytes (IFNAMSIZ, less the terminator).
const MAX_NAME_LEN: usize = 15;

/// Interface names in use.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// A name of at most [`MAX_NAME_LEN`] bytes that nobody has: `stem`, cut as needed and with
    /// everything but ASCII letters, digits, `-` and `_` replaced, a number if that is taken, and
    /// `suffix`.
    pub(super) fn claim(&mut self, stem: &str, suffix: &str) -> String {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }
        };
        let stem: String = stem.chars().map(plain).collect();
        let mut name = String::new();
        for attempt in 1_u32.. {
            let end = if attempt == 1 { suffix.to_owned() } else { format!(".{attempt}{suffix}") };
            let room = MAX_NAME_LEN.saturating_sub(end.len());
            name = format!("{}{end}", &stem[..stem.len().min(room)]);
            if self.0.insert(name.clone()) {
                break;
            }
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_and_differ() {
        let mut names = Names::default();
        for (stem, suffix, expected) in [
            ("tx", "-0", "tx-0"),
            ("tx", "-1", "tx-1"),
            ("tx", "-0", "tx.2-0"),
            ("a-very-long-guest-name", "-0", "a-very-long-g-0"),
            ("a-very-long-guest-nose", "-0", "a-very-long.2-0"),
            ("a/b c:d%é", "-0", "a_b_c_d__-0"),
            ("br-a-very-long-switch", "", "br-a-very-long-"),
            ("", "-0", "-0"),
        ] {
            assert_eq!(names.claim(stem, suffix), expected);
        }
    }
}
