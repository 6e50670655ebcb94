//! What a script saw, and how two of them differ.

use std::fmt::Write as _;

/// One observation of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was looked at, such as `all ones: RCTL`.
    pub at: String,
    /// What was seen, as text.
    pub saw: String,
}

/// The steps of a script on one device.
pub type Transcript = Vec<Step>;

/// A step on which the two devices differ.
#[derive(Debug)]
pub struct Mismatch {
    /// What was looked at.
    pub at: String,
    /// What our device showed.
    pub ours: String,
    /// What QEMU's device showed.
    pub qemu: String,
}

/// The steps on which two transcripts of one script differ.
pub fn mismatches(ours: &Transcript, qemu: &Transcript) -> Vec<Mismatch> {
    assert_eq!(ours.len(), qemu.len(), "a script must not depend on what it sees");
    let pairs = ours.iter().zip(qemu);
    let differing = pairs.filter(|(ours, qemu)| {
        assert_eq!(ours.at, qemu.at, "a script must not depend on what it sees");
        ours.saw != qemu.saw
    });
    differing
        .map(|(ours, qemu)| Mismatch {
            at: ours.at.clone(),
            ours: ours.saw.clone(),
            qemu: qemu.saw.clone(),
        })
        .collect()
}

/// A report of mismatches, each shown around the first place where it differs.
pub fn report(mismatches: &[&Mismatch]) -> String {
    let mut text = String::new();
    for Mismatch { at, ours, qemu } in mismatches {
        let common = ours.bytes().zip(qemu.bytes()).take_while(|(a, b)| a == b).count();
        let excerpt = |saw: &str| {
            const BEFORE: usize = 32;
            const SHOWN: usize = 120;
            let start = if saw.len() > SHOWN { common.saturating_sub(BEFORE) } else { 0 };
            let shown: String = saw.chars().skip(start).take(SHOWN).collect();
            let left = if start > 0 { format!("[{start}]…") } else { String::new() };
            let right = if saw.len() > start + SHOWN { "…" } else { "" };
            format!("{left}{shown}{right}")
        };
        writeln!(text, "{at}\n    ours {}\n    QEMU {}", excerpt(ours), excerpt(qemu)).unwrap();
    }
    text
}

/// Whether `text` is `pattern`, in which `*` stands for any text.
pub fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).any(|skip| tail.is_char_boundary(skip) && matches(rest, &tail[skip..]))
        }),
    }
}

#[test]
fn a_pattern_matches_whole_texts() {
    assert!(matches("a*c", "abc") && matches("*", "") && matches("*b*", "abc"));
    assert!(!matches("a*c", "abcd") && !matches("a", "ab") && !matches("*d", "abc"));
}
