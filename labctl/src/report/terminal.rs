//! The report on a terminal.

use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::style::HorizontalLine;
use tabled::settings::{Alignment, Style};

use super::assertions;
use super::glyphs::Glyphs;
use super::number::{duration, things};
use super::side_by_side::side_by_side;
use super::table::{Align, Table};
use super::tables::{self, describe};
use crate::results::{Results, Settings, TrialKind, TrialSettings};

/// All tables, at most 120 columns wide.
pub fn terminal(results: &Results, g: &Glyphs) -> String {
    let mut text = summary(results) + "\n";
    if let Some(cells) = tables::cells(results, g) {
        text += &draw(&cells, g);
    }
    if let Some((title, cells)) = side_by_side(results, g) {
        text += &format!("\n{title}.\n{}", draw(&cells, g));
    }
    for note in tables::notes(results) {
        text += &note;
        text.push('\n');
    }
    for (title, table) in tables::sections(results, g) {
        text += &format!("\n{title}.\n{}", draw(&table, g));
    }
    if let Some((title, table)) = assertions::table(results, assertions::NARROW, g) {
        text += &format!("\n{title}.\n{}", draw(&table, g));
    }
    text
}

/// What was run, and where.
fn summary(results: &Results) -> String {
    let (settings, host) = (&results.settings, &results.host);
    format!(
        "{}: ring {}, {} in {}, seed {}\n{}{}, {} cores, {}, Linux {}",
        results.lab.name,
        settings.ring,
        things(settings.rounds as usize, "round"),
        duration(results.duration_s),
        results.seed,
        trials(settings),
        host.cpu,
        host.cores,
        host.kvm,
        host.kernel,
    )
}

/// One line per kind of trial.
fn trials(settings: &Settings) -> String {
    let line = |kind: TrialKind, trial: &Option<TrialSettings>| {
        trial.as_ref().map_or_else(String::new, |t| format!("{kind}: {}\n", describe(t)))
    };
    line(TrialKind::Throughput, &settings.throughput) + &line(TrialKind::Rr, &settings.rr)
}

/// A frame, a line under the header and no other lines. Ends in a newline.
pub fn draw(table: &Table, g: &Glyphs) -> String {
    let mut builder = Builder::from_iter(&table.rows);
    builder.insert_record(0, table.columns.iter().map(|(title, _)| title));
    let mut drawn = builder.build();
    for (column, (_, align)) in table.columns.iter().enumerate() {
        let alignment = match align {
            Align::Left => Alignment::left(),
            Align::Center => Alignment::center(),
            Align::Right => Alignment::right(),
        };
        drawn.modify(Columns::one(column), alignment);
    }
    if g.boxes {
        drawn.with(Style::rounded().remove_vertical());
    } else {
        let plain = Style::ascii().remove_horizontal().remove_vertical();
        let under_header = HorizontalLine::full('-', '-', '+', '+').remove_intersection();
        drawn.with(plain.horizontals([(1, under_header)]));
    }
    drawn.to_string() + "\n"
}
