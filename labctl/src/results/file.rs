//! Reading and writing `results.json`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::{Link, Results, SCHEMA_VERSION, Setting, Vmm, to_json};
use crate::files::{self, Existing};
use crate::units::human_time;

/// Why a result document could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file could not be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Not JSON, or a key is missing or of the wrong type.
    #[error("{path}: not a labctl result document: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser met, and where.
        source: serde_json::Error,
    },
    /// A document of another version.
    #[error(
        "{path}: schema version {found} is not readable by this labctl, which reads version \
         {SCHEMA_VERSION}; run the benchmark again, or use the labctl that wrote the file"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

impl Results {
    /// Reads a document.
    ///
    /// # Errors
    /// If the file cannot be read, is no result document, or is one of another version.
    pub fn read(path: &Path) -> Result<Results, ReadError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Results, ReadError> {
        // The version decides how to read the rest, so it is looked at first and alone.
        #[derive(Deserialize)]
        struct Version {
            schema_version: u64,
        }
        let malformed = |source| ReadError::Malformed { path: path.to_owned(), source };
        let found = serde_json::from_str::<Version>(text).map_err(malformed)?.schema_version;
        if found != u64::from(SCHEMA_VERSION) {
            return Err(ReadError::Version { path: path.to_owned(), found });
        }
        let mut results: Results = serde_json::from_str(text).map_err(malformed)?;
        // Documents from before the peers do not say; for our own cells it follows.
        for cell in &mut results.cells {
            if cell.id.platform.vmm == Vmm::Labctl {
                let vale = cell.id.optimizations.vale;
                cell.id.platform.link = if vale { Link::Vale } else { Link::Tap };
            }
            // Times were once numbers with their unit in the key.
            if let Some(Setting::Number(us)) = cell.id.parameters.remove("spin_us") {
                let spin = match us {
                    0 => Setting::Number(0),
                    us => Setting::Text(human_time(Duration::from_micros(us))),
                };
                cell.id.parameters.insert("spin".to_owned(), spin);
            }
        }
        Ok(results)
    }

    /// The document as JSON text, ending in a newline.
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// Writes the document. A reader sees the old file or the new one, never half of one.
    ///
    /// # Errors
    /// If the directory cannot be written to.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        files::write(path, self.to_json().as_bytes(), Existing::Replace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../tests/golden/report/results.json");

    fn parse(text: &str) -> Result<Results, ReadError> {
        Results::parse(text, Path::new("r.json"))
    }

    #[test]
    fn a_document_survives_a_round_trip() {
        let results = parse(SAMPLE).unwrap();
        let dir = std::env::temp_dir().join(format!("labctl-results-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("results.json");
        results.write(&path).unwrap();
        let again = Results::read(&path).unwrap();
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().collect();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(again, results);
        assert_eq!(left.len(), 1, "no partial file is left");
    }

    #[test]
    fn the_documented_shape_is_kept() {
        let json: serde_json::Value = serde_json::from_str(SAMPLE).unwrap();
        let cells = json["cells"].as_array().unwrap();
        assert_eq!(cells.len(), 16);
        for cell in cells {
            for key in ["itr", "sc", "csb", "vale"] {
                assert!(cell["optimizations"][key].is_boolean(), "{key}");
            }
            assert!(cell["conserved"].is_boolean());
            assert!(cell["samples"].is_array());
        }
        let metrics = &cells[0]["metrics"];
        for pointer in [
            "/throughput_mpps/median",
            "/throughput_mpps/low",
            "/throughput_mpps/high",
            "/rr_us/median",
            "/rr_us/p99",
            "/exits_per_packet",
            "/interrupts_per_s",
            "/mean_batch",
            "/drops",
        ] {
            assert!(metrics.pointer(pointer).is_some_and(|v| v.is_number()), "{pointer}");
        }
    }

    #[test]
    fn a_document_from_before_the_peers_is_of_our_own_cells() {
        let mut old: serde_json::Value = serde_json::from_str(SAMPLE).unwrap();
        for cell in old["cells"].as_array_mut().unwrap() {
            let cell = cell.as_object_mut().unwrap();
            for key in ["vmm", "nic", "link"] {
                assert!(cell.remove(key).is_some(), "{key}");
            }
        }
        assert_eq!(parse(&old.to_string()).unwrap(), parse(SAMPLE).unwrap());
    }

    #[test]
    fn errors_name_the_file_and_the_reason() {
        let message = |text| parse(text).unwrap_err().to_string();
        assert!(message("{").starts_with("r.json: not a labctl result document: EOF"));
        assert!(message("{}").contains("missing field `schema_version`"));
        assert!(message("{\"schema_version\": 1}").contains("missing field `vmm`"));
        assert!(message("{\"schema_version\": 7}").contains("schema version 7 is not readable"));
        let missing = Results::read(Path::new("/nonexistent/r.json")).unwrap_err();
        assert!(missing.to_string().starts_with("/nonexistent/r.json: No such file"));
    }
}
