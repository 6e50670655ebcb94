//! `labctl validate`: is this lab file right, and what would it be?

use super::{LabFile, OutputFlag};
use crate::{
    error::{Error, Exit},
    report::{
        Output,
        listing::{Field, Listing, words},
        number::things,
    },
    topology::{
        Action, Bench, Guest, Lab, Link, LinkEnd, Overrides, Role, Switch, SwitchKind, System,
        Target, TrialSpec, Workload,
    },
    units::{human_mac, human_memory, human_time},
};

const EXAMPLES: &str = "\
Examples:
  labctl validate                             the only *.lab.yaml in this directory
  labctl validate topologies/paper-pair.lab.yaml
  labctl validate -o json my.lab.yaml | jq .guests
  generate-lab | labctl validate -";

/// Check a lab file and show what it describes
///
/// Reports every mistake in the file at once, each with its line and, where there is one, a
/// suggestion. A valid file is summarised with all defaults filled in. Nothing is started.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    lab: LabFile,

    #[command(flatten)]
    form: OutputFlag,
}

/// Checks the file and prints what it describes.
///
/// # Errors
/// [`Exit::InvalidFile`] with every mistake in the file.
pub fn run(args: Args) -> Result<Exit, Error> {
    let lab = args.lab.load()?;
    super::print(&render(&lab, args.form.output)?)?;
    let verb = if lab.bench.is_some() { "bench" } else { "up" };
    super::next(&format!("labctl {verb} {}", super::again(&lab.path)));
    Ok(Exit::Ok)
}

/// The whole lab, its guests or, for people, both in short.
pub(super) fn render(lab: &Lab, output: Output) -> Result<String, Error> {
    let rows = lab.guests.iter().map(|guest| guest_row(lab, guest)).collect();
    let guests = Listing { columns: COLUMNS.map(words), rows };
    let text = guests.render(lab, output)?;
    Ok(match output {
        Output::Table | Output::Wide => table(lab, &text),
        Output::Json | Output::Yaml | Output::Markdown | Output::Csv => text,
    })
}

fn table(lab: &Lab, guests: &str) -> String {
    let mut text = format!("{} is valid", lab.name);
    if let Some(description) = &lab.description {
        text += &format!(": {description}");
    }
    text += &format!("\n\n{guests}");
    let switches =
        lab.switches.iter().enumerate().map(|(index, switch)| switch_row(lab, index, switch));
    text += &format!("\n{}", table_of(["switch", "kind", "ports"], switches));
    if !lab.links.is_empty() {
        let links = lab.links.iter().map(|link| link_row(lab, link));
        text += &format!("\n{}", table_of(["link", "ends", "impairments"], links));
    }
    if !lab.events.is_empty() {
        let events =
            lab.events.iter().map(|event| [human_time(event.at), action(lab, &event.action)]);
        text += &format!("\n{}", table_of(["at", "event"], events));
    }
    text += &format!("\noptimizations  {}\n", lab.optimizations);
    if lab.qemu.is_none() {
        text += &format!("policy         {}\n", lab.policy);
    }
    if lab.qemu.is_some() {
        text += &format!("runs on        {}\n", lab.platform());
    }
    if let Some(bench) = &lab.bench {
        text += &bench_lines(lab, bench);
    }
    text
}

const COLUMNS: [&str; 7] = ["guest", "memory", "ring", "itr", "spin", "nics", "workload"];

fn table_of<const N: usize>(
    columns: [&'static str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let rows = rows.map(|row| row.map(Field::from)).collect();
    Listing { columns: columns.map(words), rows }.table(false)
}

fn switch_row(lab: &Lab, index: usize, switch: &Switch) -> [String; 3] {
    let kind = match lab.switch_kind(index) {
        SwitchKind::Vale => "vale",
        SwitchKind::Bridge => "bridge",
    };
    let nics = lab.guests.iter().flat_map(|guest| &guest.nics).filter(|nic| nic.switch == index);
    let ends = lab.links.iter().flat_map(|link| &link.ends);
    let ports = nics.count() + ends.filter(|end| **end == LinkEnd::Switch(index)).count();
    [switch.name.clone(), kind.to_owned(), ports.to_string()]
}

fn link_row(lab: &Lab, link: &Link) -> [String; 3] {
    let end = |end: &LinkEnd| {
        let address = end.address().map_or(String::new(), |address| format!(" {address}"));
        lab.end_name(end) + &address
    };
    let ends = link.ends.each_ref().map(end).join(" -- ");
    [link.name.clone(), ends, link.impairments.to_string()]
}

fn action(lab: &Lab, action: &Action) -> String {
    match action {
        Action::Impair { cable, impairments } => {
            format!("{}: {impairments}", lab.cable_name(*cable))
        }
        Action::Plug { cable, up } => {
            format!("{}: {}", lab.cable_name(*cable), if *up { "up" } else { "down" })
        }
        Action::Restart { guest } => {
            format!("restart {}", lab.guests.get(*guest).map_or("?", |guest| &guest.name))
        }
    }
}

fn guest_row(lab: &Lab, guest: &Guest) -> [Field; 7] {
    let nics = guest.nics.iter().map(|nic| {
        let switch = lab.switches.get(nic.switch).map_or("?", |switch| &switch.name);
        let impairments = match nic.impairments.is_none() {
            true => String::new(),
            false => format!(", {}", nic.impairments),
        };
        let own = overrides(nic.optimizations);
        format!("{switch} {}{impairments}{own}", human_mac(nic.mac))
    });
    let nics = nics.collect::<Vec<_>>().join("\n");
    // Their drivers decide.
    let other = |what| [Field::default(), Field::default(), Field::default(), what];
    let [ring, itr, spin, workload] = match &guest.system {
        System::Pktguest(pktguest) => [
            pktguest.ring.into(),
            format!("{:.0}us", f64::from(pktguest.itr_interval) * 0.256).into(),
            format!("{}us", pktguest.spin_us).into(),
            (workload(lab, &pktguest.workload) + &overrides(guest.optimizations)).into(),
        ],
        System::Linux(boot) => other(format!("Linux, {}", boot.kernel.display()).into()),
        System::Pvh(boot) => other(format!("PVH, {}", boot.kernel.display()).into()),
    };
    let memory = human_memory(guest.memory_mib.into()).into();
    [(&guest.name).into(), memory, ring, itr, spin, nics.into(), workload]
}

/// What a guest or NIC has for itself of the optimizations.
fn overrides(own: Overrides) -> String {
    let own = [("itr", own.itr), ("sc", own.sc), ("csb", own.csb)];
    let own = own.into_iter().filter_map(|(name, on)| Some((name, on?)));
    own.map(|(name, on)| format!(", {} {name}", if on { "with" } else { "without" })).collect()
}

fn workload(lab: &Lab, workload: &Workload) -> String {
    let role = workload.role;
    if let Role::Icmp { to: Some(to) } = role {
        let to = match to {
            Target::Guest(to) => lab.guests.get(to).map_or("?", |guest| &guest.name),
            Target::All => "all",
        };
        return format!("icmp -> {to}");
    }
    match role.to().and_then(|to| lab.guests.get(to)) {
        Some(to) => format!("{} -> {}, {} B", role.as_str(), to.name, workload.frame),
        None => role.as_str().to_owned(),
    }
}

fn bench_lines(lab: &Lab, bench: &Bench) -> String {
    let axes: Vec<_> = bench.matrix.iter().map(|axis| axis.key.as_str()).collect();
    let mut text = format!("bench          {}", things(bench.cells.len(), "cell"));
    if !axes.is_empty() {
        text += &format!(" ({})", axes.join(", "));
    }
    let rounds = things(bench.rounds as usize, "round");
    text += &format!(", {rounds}, within {}\n", human_time(bench.budget));
    let name = |guest: usize| lab.guests.get(guest).map_or("?", |guest| &guest.name);
    let line = |kind: &str, trial: &TrialSpec| {
        let pairs = trial.pairs().map(|pair| format!("{} -> {}", name(pair.from), name(pair.to)));
        let (pairs, time) = (pairs.collect::<Vec<_>>().join(", "), human_time(trial.duration));
        let sockets =
            if trial.protocol.is_raw() { String::new() } else { format!(" {}", trial.protocol) };
        format!("  {kind:<13}{pairs}, {} B{sockets}, {time} a trial\n", trial.frame)
    };
    for cell in bench.cells.iter().filter(|cell| cell.id.name.is_some()) {
        let id = &cell.id;
        text += &format!("  {:<24}{}, {}", id.to_string(), id.platform, id.optimizations);
        let settings = id.parameters.iter().map(|(key, value)| format!(", {key} {value}"));
        text += &settings.collect::<String>();
        if !id.protocol.is_raw() {
            text += &format!(", {}", id.protocol);
        }
        text += &cell.only.map_or_else(String::new, |only| format!(", only {only}"));
        text.push('\n');
    }
    text += &bench.throughput.iter().map(|trial| line("throughput", trial)).collect::<String>();
    text += &bench.rr.iter().map(|trial| line("rr", trial)).collect::<String>();
    text
}
