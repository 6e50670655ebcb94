//! GitHub Actions shows what a job appends to the file named by `GITHUB_STEP_SUMMARY`.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};

/// Appends Markdown to the summary of the running job, if there is one.
///
/// # Errors
/// If the file cannot be written to.
pub fn append_step_summary(markdown: &str) -> io::Result<()> {
    append(std::env::var_os("GITHUB_STEP_SUMMARY"), markdown)
}

fn append(file: Option<OsString>, markdown: &str) -> io::Result<()> {
    match file.filter(|name| !name.is_empty()) {
        Some(name) => {
            let mut file = OpenOptions::new().append(true).create(true).open(name)?;
            file.write_all(markdown.as_bytes())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_to_what_earlier_steps_wrote() {
        let path = std::env::temp_dir().join(format!("labctl-summary-{}", std::process::id()));
        append(Some(path.clone().into()), "one\n").unwrap();
        append(Some(path.clone().into()), "two\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn elsewhere_nothing_happens() {
        append(None, "text").unwrap();
        append(Some(OsString::new()), "text").unwrap();
        append(Some("/nonexistent/dir/file".into()), "text").unwrap_err();
    }
}
