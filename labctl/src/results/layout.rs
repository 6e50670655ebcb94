//! JSON laid out to be read, searched and compared line by line: the upper levels spread over
//! lines, and everything below them, such as a sample, on a line of its own. Fractions keep nine
//! significant digits: no measurement here is better, and any JSON reader returns the same ones.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

/// Levels that are spread: the document, `cells`, a cell, and its `metrics` and `samples`.
const SPREAD: usize = 4;

/// A document as JSON text, ending in a newline.
pub fn to_json(document: &impl Serialize) -> String {
    let mut text = Vec::new();
    let mut json = serde_json::Serializer::with_formatter(&mut text, Layered::default());
    let result = document.serialize(&mut json);
    // Our documents are strings, numbers and string-keyed maps, and memory takes them all.
    debug_assert!(result.is_ok(), "{result:?}");
    text.push(b'\n');
    String::from_utf8_lossy(&text).into_owned()
}

/// Spreads the upper levels and keeps the lower ones on one line.
#[derive(Default)]
struct Layered {
    level: usize,
    empty: bool,
}

impl Layered {
    fn open<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.level += 1;
        self.empty = true;
        writer.write_all(bracket)
    }

    fn close<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        let spread = self.level <= SPREAD && !self.empty;
        self.level -= 1;
        self.empty = false;
        if spread {
            self.new_line(writer)?;
        }
        writer.write_all(bracket)
    }

    fn item<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.empty = false;
        if !first {
            writer.write_all(b",")?;
        }
        if self.level <= SPREAD {
            self.new_line(writer)
        } else if first {
            Ok(())
        } else {
            writer.write_all(b" ")
        }
    }

    fn new_line<W: Write + ?Sized>(&self, writer: &mut W) -> io::Result<()> {
        write!(writer, "\n{:1$}", "", 2 * self.level)
    }
}

impl Formatter for Layered {
    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let rounded = format!("{value:.8e}").parse().unwrap_or(value);
        CompactFormatter.write_f64(writer, rounded)
    }

    fn begin_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.item(w, first)
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.item(w, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn fractions_keep_nine_digits() {
        for (value, expected) in [
            (json!(0.031311830577342_f64), "0.0313118306"),
            (json!(25201.154411674663), "25201.1544"),
            (json!(42.0), "42.0"),
            (json!(-1e-9), "-1e-9"),
            (json!(9007199254740991_u64), "9007199254740991"),
        ] {
            assert_eq!(to_json(&value).trim_end(), expected);
        }
    }

    #[test]
    fn upper_levels_are_spread_and_samples_stay_on_one_line() {
        let value = json!({
            "cells": [{ "samples": [{ "a": 1, "b": [2, 3] }, {}], "none": [], "last": {} }]
        });
        let text = to_json(&value);
        let expected = r#"{
  "cells": [
    {
      "samples": [
        {"a": 1, "b": [2, 3]},
        {}
      ],
      "none": [],
      "last": {}
    }
  ]
}
"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
