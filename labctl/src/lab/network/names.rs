//! Names for interfaces.

/// Longest interface name in bytes (IFNAMSIZ, less the terminator).
const MAX_NAME_LEN: usize = 15;

/// A name of at most [`MAX_NAME_LEN`] bytes, to be tried as number `attempt`, from 1: `stem`, cut as
/// needed and with everything but ASCII letters, digits, `-` and `_` replaced, the number if it is not
/// the first, and `suffix`.
pub(super) fn name(stem: &str, suffix: &str, attempt: u32) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }
    };
    let stem: String = stem.chars().map(plain).collect();
    let end = if attempt == 1 { suffix.to_owned() } else { format!(".{attempt}{suffix}") };
    let room = MAX_NAME_LEN.saturating_sub(end.len());
    format!("{}{end}", &stem[..stem.len().min(room)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_and_differ() {
        for (stem, suffix, attempt, expected) in [
            ("tx", "-0", 1, "tx-0"),
            ("tx", "-1", 1, "tx-1"),
            ("tx", "-0", 2, "tx.2-0"),
            ("a-very-long-guest-name", "-0", 1, "a-very-long-g-0"),
            ("a-very-long-guest-nose", "-0", 2, "a-very-long.2-0"),
            ("a/b c:d%é", "-0", 1, "a_b_c_d__-0"),
            ("br-a-very-long-switch", "", 1, "br-a-very-long-"),
            ("", "-0", 1, "-0"),
        ] {
            assert_eq!(name(stem, suffix, attempt), expected);
        }
    }
}
