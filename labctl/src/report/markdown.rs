//! The report as Markdown: the summary of a CI job, or a page of documentation.

use super::assertions;
use super::glyphs::Glyphs;
use super::number::duration;
use super::side_by_side::side_by_side;
use super::table::{Align, Table};
use super::tables::{self, describe};
use crate::results::Results;

const G: &Glyphs = &Glyphs::UNICODE;

/// All tables, and the host's description folded away below them.
pub fn markdown(results: &Results) -> String {
    let mut text = format!("### labctl bench: {}\n\n", results.lab.name);
    if let Some(cells) = tables::cells(results, G) {
        text += &draw(&cells);
    }
    if let Some((title, cells)) = side_by_side(results, G) {
        text += &format!("\n{}:\n\n{}", escape(&title), draw(&cells));
    }
    for note in tables::notes(results) {
        text += &format!("\n{}\n", escape(&note));
    }
    for (title, table) in tables::sections(results, G) {
        text += &format!("\n{}:\n\n{}", escape(&title), draw(&table));
    }
    if let Some((title, table)) = assertions::table(results, assertions::WIDE, G) {
        text += &format!("\n{}:\n\n{}", escape(&title), draw(&table));
    }
    text + &metadata(results)
}

fn metadata(results: &Results) -> String {
    let (settings, host) = (&results.settings, &results.host);
    let trial = |t: &Option<_>| t.as_ref().map_or_else(|| G.none.to_owned(), describe);
    let facts = [
        ("started", results.started.clone()),
        ("duration", duration(results.duration_s)),
        ("rounds", settings.rounds.to_string()),
        ("seed", results.seed.to_string()),
        ("throughput", trial(&settings.throughput)),
        ("rr", trial(&settings.rr)),
        ("ring", settings.ring.to_string()),
        ("CPU", format!("{}, {} cores", host.cpu, host.cores)),
        ("memory", format!("{:.1} GiB", host.memory_bytes as f64 / (1u64 << 30) as f64)),
        ("kernel", host.kernel.clone()),
        ("KVM", host.kvm.clone()),
        ("in a virtual machine", if host.hypervisor { "yes" } else { "no" }.to_owned()),
        ("clock source", host.clocksource.clone()),
        ("load average", host.load_average.to_string()),
        ("labctl", host.version()),
    ];
    let qemu = host.qemu.iter().map(|version| ("QEMU", version.clone()));
    let mut text = "\n<details><summary>Run and host</summary>\n\n| | |\n|---|---|\n".to_owned();
    for (name, value) in facts.into_iter().chain(qemu) {
        text += &format!("| {name} | {} |\n", escape(&value));
    }
    text + "\n</details>\n"
}

/// A pipe table.
pub fn draw(table: &Table) -> String {
    let line = |columns: Vec<String>| format!("| {} |\n", columns.join(" | "));
    let rule = |align: &Align| match align {
        Align::Left => ":--",
        Align::Center => ":-:",
        Align::Right => "--:",
    };
    let titles = table.columns.iter().map(|(title, _)| escape(title)).collect();
    let rules = table.columns.iter().map(|(_, align)| rule(align).to_owned()).collect();
    let rows = table.rows.iter().map(|row| line(row.iter().map(|field| escape(field)).collect()));
    line(titles) + &line(rules) + &rows.collect::<String>()
}

/// Text in which a name from a lab file cannot break the table or become markup.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '|' | '<' | '*' | '_' | '`' | '[' | '\\' => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_table() {
        assert_eq!(escape("a|b\n<c>"), "a\\|b \\<c>");
    }
}
