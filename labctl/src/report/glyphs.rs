//! The marks that reports draw with, in Unicode and in ASCII.

/// A set of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// Are frames drawn with box characters?
    pub boxes: bool,
    /// An optimization that is on.
    pub on: &'static str,
    /// An optimization that is off.
    pub off: &'static str,
    /// Multiplication.
    pub times: &'static str,
    /// Between the ends of an interval.
    pub to: &'static str,
    /// No figure.
    pub none: &'static str,
    /// One step of a bar.
    pub bar: &'static str,
    /// Where a text was cut.
    pub cut: &'static str,
}

impl Glyphs {
    /// For terminals and pages that show Unicode.
    pub const UNICODE: Glyphs = Glyphs {
        boxes: true,
        on: "●",
        off: "·",
        times: "×",
        to: "–",
        none: "—",
        bar: "█",
        cut: "…",
    };

    /// For everything else.
    pub const ASCII: Glyphs = Glyphs {
        boxes: false,
        on: "x",
        off: ".",
        times: "x",
        to: "-",
        none: "n/a",
        bar: "#",
        cut: "~",
    };

    /// What the locale in the environment can show.
    pub fn from_env() -> Glyphs {
        Self::for_locale(|name| std::env::var(name).ok())
    }

    /// The first of these variables that is not empty decides (POSIX, "Environment Variables").
    fn for_locale(variable: impl Fn(&str) -> Option<String>) -> Glyphs {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| variable(name).filter(|value| !value.is_empty()))
            .unwrap_or_default()
            .to_ascii_uppercase();
        if locale.ends_with("UTF-8") || locale.ends_with("UTF8") {
            Self::UNICODE
        } else {
            Self::ASCII
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_decides() {
        let with = |set: &[(&str, &str)]| {
            Glyphs::for_locale(|name| {
                set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(with(&[]), Glyphs::ASCII);
        assert_eq!(with(&[("LANG", "C.UTF-8")]), Glyphs::UNICODE);
        assert_eq!(with(&[("LANG", "C.UTF-8"), ("LC_ALL", "C")]), Glyphs::ASCII);
        assert_eq!(with(&[("LANG", "de_DE.utf8"), ("LC_ALL", "")]), Glyphs::UNICODE);
    }
}
