//! What verbs print that read: rows of named columns, in one set of formats.
//!
//! JSON and YAML are the whole document that the rows are taken from; the other formats show its
//! rows. All text in rows is for people, except in CSV, where figures are plain numbers.

use serde::Serialize;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Padding, Style};

use super::markdown;
use super::table::{Align, Table};
use crate::error::{Error, Exit};

/// A form of what a verb prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// The table with all its columns
    Wide,
    /// The whole document
    Json,
    /// The whole document
    Yaml,
    /// The table, for pull requests and job summaries
    Markdown,
    /// All columns, figures as plain numbers
    Csv,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name, `[a-z_]+`; tables show it in capitals.
    pub name: &'static str,
    /// How it is set.
    pub align: Align,
    /// Whether it is left out of [`Output::Table`] and [`Output::Markdown`].
    pub wide: bool,
}

/// A column of words.
pub const fn words(name: &'static str) -> Column {
    Column { name, align: Align::Left, wide: false }
}

/// A column of figures.
pub const fn figures(name: &'static str) -> Column {
    Column { name, align: Align::Right, wide: false }
}

impl Column {
    /// The column, in [`Output::Wide`] and [`Output::Csv`] only.
    #[must_use]
    pub const fn wide(self) -> Self {
        Self { wide: true, ..self }
    }
}

/// One field of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    shown: String,
    plain: String,
}

impl Field {
    /// A figure, in words for people and as a number; none are an empty field.
    pub fn figure<T: ToString>(value: Option<T>, show: impl Fn(&T) -> String) -> Self {
        value.map_or_else(Self::default, |value| Self {
            shown: show(&value),
            plain: value.to_string(),
        })
    }

    /// A word, or none.
    pub fn word<T: ToString>(word: Option<T>) -> Self {
        Self::figure(word, T::to_string)
    }

    fn for_people(&self) -> &str {
        if self.shown.is_empty() { "-" } else { &self.shown }
    }
}

impl<T: ToString> From<T> for Field {
    fn from(text: T) -> Self {
        Self::word(Some(text))
    }
}

/// Rows of named columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<const N: usize> {
    /// The columns.
    pub columns: [Column; N],
    /// The rows.
    pub rows: Vec<[Field; N]>,
}

impl<const N: usize> Listing<N> {
    /// The rows, or the document that they are taken from.
    ///
    /// # Errors
    /// As [`document`].
    pub fn render(&self, whole: &impl Serialize, output: Output) -> Result<String, Error> {
        match output {
            Output::Json | Output::Yaml => document(whole, output),
            Output::Table => Ok(self.table(false)),
            Output::Wide => Ok(self.table(true)),
            Output::Markdown => Ok(self.markdown()),
            Output::Csv => Ok(self.csv()),
        }
    }

    /// The rows under their titles, without any lines.
    pub fn table(&self, wide: bool) -> String {
        let Table { columns, rows } = self.shown(wide);
        let mut builder = Builder::from_iter(rows);
        let title = |(name, _): &(String, Align)| name.to_uppercase().replace('_', " ");
        builder.insert_record(0, columns.iter().map(title));
        let mut table = builder.build();
        table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
        for (index, (_, align)) in columns.iter().enumerate() {
            if *align == Align::Right {
                table.modify(Columns::one(index), Alignment::right());
            }
        }
        table.to_string().lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    /// The rows as Markdown.
    pub fn markdown(&self) -> String {
        markdown::draw(&self.shown(false))
    }

    /// The rows as CSV (RFC 4180) under their names.
    pub fn csv(&self) -> String {
        csv_line(self.columns.iter().map(|column| column.name)) + &self.csv_rows()
    }

    fn csv_rows(&self) -> String {
        let row = |row: &[Field; N]| csv_line(row.each_ref().map(|field| field.plain.as_str()));
        self.rows.iter().map(row).collect()
    }

    fn shown(&self, wide: bool) -> Table {
        let is_shown = |column: &Column| wide || !column.wide;
        let columns = self.columns.iter().filter(|column| is_shown(column));
        let columns = columns.map(|c| (c.name.replace('_', " "), c.align)).collect();
        let fields = |row: &[Field; N]| {
            let fields = row.iter().zip(&self.columns).filter(|(_, column)| is_shown(column));
            fields.map(|(field, _)| field.for_people().to_owned()).collect()
        };
        Table { columns, rows: self.rows.iter().map(fields).collect() }
    }
}

/// Listings with the same columns that come one after the other, without an end in sight.
#[derive(Debug)]
pub struct Stream {
    output: Output,
    begun: bool,
}

impl Stream {
    /// One in this form.
    pub fn new(output: Output) -> Self {
        Self { output, begun: false }
    }

    /// What to print for one more: JSON is one document a line, YAML one after a `---` each, and
    /// Markdown and CSV have a header before the first only. `line` is it for people.
    ///
    /// # Errors
    /// As [`document`].
    pub fn add<const N: usize>(
        &mut self,
        whole: &impl Serialize,
        listing: &Listing<N>,
        line: impl FnOnce() -> String,
    ) -> Result<String, Error> {
        let is_first = !std::mem::replace(&mut self.begun, true);
        Ok(match self.output {
            Output::Table | Output::Wide => line(),
            Output::Json => serde_json::to_string(whole).map_err(cannot_write)? + "\n",
            Output::Yaml => format!("---\n{}", document(whole, Output::Yaml)?),
            Output::Markdown if is_first => listing.markdown(),
            // Without the titles and the rule below them.
            Output::Markdown => listing.markdown().split_inclusive('\n').skip(2).collect(),
            Output::Csv if is_first => listing.csv(),
            Output::Csv => listing.csv_rows(),
        })
    }
}

/// A whole document as YAML if that is asked for, else as JSON.
///
/// # Errors
/// [`Exit::Bug`] if it cannot be written.
pub fn document(whole: &impl Serialize, output: Output) -> Result<String, Error> {
    match output {
        // By way of JSON: what that says with a key, serde_yaml says with a tag, which few tools read.
        Output::Yaml => {
            let whole = serde_json::to_value(whole).map_err(cannot_write)?;
            serde_yaml::to_string(&whole).map_err(cannot_write)
        }
        _ => Ok(serde_json::to_string_pretty(whole).map_err(cannot_write)? + "\n"),
    }
}

fn cannot_write(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Exit::Bug, "cannot write the document").because(error)
}

/// One line of CSV (RFC 4180).
fn csv_line<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let quoted = |field: &str| match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    };
    fields.into_iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::number::metric;

    const COLUMNS: [Column; 3] = [words("name"), figures("rx_frames"), words("file").wide()];

    fn listing() -> Listing<3> {
        let frames = |count| Field::figure(count, |count: &u32| metric(f64::from(*count)));
        let rows = vec![
            ["left".into(), frames(Some(12_345)), "a,\"b\".lab.yaml".into()],
            ["r|ght".into(), frames(None), Field::default()],
        ];
        Listing { columns: COLUMNS, rows }
    }

    #[test]
    fn a_table_shows_what_people_read() {
        let table = "NAME   RX FRAMES\nleft       12.3k\nr|ght          -\n";
        assert_eq!(listing().table(false), table);
        let wide = listing().render(&(), Output::Wide).unwrap();
        assert!(wide.ends_with("-  -\n") && wide.contains("FILE\n"), "{wide}");
    }

    #[test]
    fn csv_has_plain_figures_and_all_columns() {
        let csv = "name,rx_frames,file\nleft,12345,\"a,\"\"b\"\".lab.yaml\"\nr|ght,,\n";
        assert_eq!(listing().render(&(), Output::Csv).unwrap(), csv);
    }

    #[test]
    fn markdown_cannot_be_broken() {
        let markdown = "| name | rx frames |\n| :-- | --: |\n| left | 12.3k |\n| r\\|ght | - |\n";
        assert_eq!(listing().render(&(), Output::Markdown).unwrap(), markdown);
    }

    #[test]
    fn a_stream_has_one_header() {
        for (output, header) in [(Output::Csv, "name,"), (Output::Markdown, "| name")] {
            let mut stream = Stream::new(output);
            let mut add = || stream.add(&1, &listing(), String::new).unwrap();
            let text = add() + &add();
            assert_eq!(text.matches(header).count(), 1, "{text}");
            assert_eq!(text.matches("left").count(), 2, "{text}");
        }
        let mut stream = Stream::new(Output::Json);
        assert_eq!(stream.add(&[1, 2], &listing(), String::new).unwrap(), "[1,2]\n");
        let mut stream = Stream::new(Output::Yaml);
        assert_eq!(stream.add(&[1], &listing(), String::new).unwrap(), "---\n- 1\n");
    }
}
