//! One JSON object per line, written as it is built: no buffer, no allocation.

use core::fmt::{self, Display, Write};

/// An object being written.
pub struct Object<'w, W: Write> {
    out: &'w mut W,
}

/// Output errors are dropped throughout: the serial port has none, and there is nobody to tell.
impl<'w, W: Write> Object<'w, W> {
    /// Starts `{"event":"<name>"`.
    pub fn event(out: &'w mut W, name: &str) -> Self {
        let _ = write!(out, "{{\"event\":\"{name}\"");
        Self { out }
    }

    /// Adds an unsigned number.
    pub fn num(self, key: &str, value: u64) -> Self {
        let _ = write!(self.out, ",\"{key}\":{value}");
        self
    }

    /// Adds a boolean.
    pub fn bool(self, key: &str, value: bool) -> Self {
        let _ = write!(self.out, ",\"{key}\":{value}");
        self
    }

    /// Adds a string.
    pub fn str(self, key: &str, value: &str) -> Self {
        self.show(key, value)
    }

    /// Adds a string that is formatted on the way.
    pub fn show(self, key: &str, value: impl Display) -> Self {
        let _ = write!(self.out, ",\"{key}\":\"");
        let _ = write!(Escaped(self.out), "{value}");
        let _ = self.out.write_char('"');
        self
    }

    /// Adds a list of pairs.
    pub fn pairs(self, key: &str, pairs: impl Iterator<Item = (u64, u64)>) -> Self {
        let _ = write!(self.out, ",\"{key}\":[");
        for (i, (a, b)) in pairs.enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let _ = write!(self.out, "{comma}[{a},{b}]");
        }
        let _ = self.out.write_char(']');
        self
    }

    /// Adds a list of strings that are formatted on the way.
    pub fn list(self, key: &str, values: impl Iterator<Item = impl Display>) -> Self {
        let _ = write!(self.out, ",\"{key}\":[");
        for (i, value) in values.enumerate() {
            let _ = self.out.write_str(if i == 0 { "\"" } else { ",\"" });
            let _ = write!(Escaped(self.out), "{value}");
            let _ = self.out.write_char('"');
        }
        let _ = self.out.write_char(']');
        self
    }

    /// Closes the object and the line.
    pub fn end(self) {
        let _ = self.out.write_str("}\n");
    }
}

/// Escapes what a JSON string may not hold (RFC 8259, section 7).
struct Escaped<'w, W: Write>(&'w mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '"' | '\\' => write!(self.0, "\\{c}")?,
                '\0'..'\x20' => write!(self.0, "\\u{:04x}", u32::from(c))?,
                _ => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_one_valid_line() {
        let mut line = String::new();
        Object::event(&mut line, "final")
            .num("packets", 18_446_744_073_709_551_615)
            .bool("csb", true)
            .str("role", "ping")
            .pairs("histogram", [(1, 2), (30, 4)].into_iter())
            .pairs("none", core::iter::empty())
            .list("missing", ["a", "b"].iter())
            .end();
        assert_eq!(
            line,
            "{\"event\":\"final\",\"packets\":18446744073709551615,\"csb\":true,\"role\":\"ping\",\
             \"histogram\":[[1,2],[30,4]],\"none\":[],\"missing\":[\"a\",\"b\"]}\n"
        );
    }

    #[test]
    fn strings_are_escaped() {
        let mut line = String::new();
        Object::event(&mut line, "error").show("message", "a \"b\" \\ \n\u{1}é").end();
        assert_eq!(
            line,
            "{\"event\":\"error\",\"message\":\"a \\\"b\\\" \\\\ \\u000a\\u0001é\"}\n"
        );
    }
}
