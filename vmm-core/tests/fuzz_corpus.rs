//! Replays the fuzzer's corpus, so that every compiler and every developer has its findings.

#[allow(clippy::unwrap_used, clippy::expect_used, reason = "all of it is a test")]
#[path = "../fuzz/harness/mod.rs"]
mod harness;

#[test]
fn the_corpus_plays_without_a_finding() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");
    let mut played = 0;
    for entry in std::fs::read_dir(corpus).expect("the corpus is part of the source") {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        harness::run(&std::fs::read(&path).unwrap());
        played += 1;
    }
    assert!(played >= 100, "{corpus} has only {played} programs");
}
