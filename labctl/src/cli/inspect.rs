//! `labctl inspect`: everything about a lab that runs, or one of its guests.

use serde_json::{Value, json};

use super::{LabName, OutputFlag, next, print};
use crate::control::client::Client;
use crate::control::protocol::{GuestStatus, LabStatus, NicStatus, Request, SwitchStatus};
use crate::error::{Error, Exit};
use crate::report::listing::{Column, Field, Listing, Output, figures, words};
use crate::report::number::{age, count, things};
use crate::results::rfc3339_ms;
use crate::units::human_memory;

const EXAMPLES: &str = "\
Examples:
  labctl inspect                                every NIC, with its address and its switch port
  labctl inspect left                           one guest
  labctl inspect -o json | jq .lab.optimizations        the lab with all defaults filled in
  labctl inspect -o json left | jq .status.exits        one figure of one guest";

/// Show a running lab in detail, or one of its guests
///
/// JSON and YAML hold how it is (`status`) and, as `labctl validate -o json`, what it was understood
/// to be (`lab`, or `guest`).
///
/// Exits 4 if there is no such lab or guest.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only this guest
    guest: Option<String>,

    #[command(flatten)]
    lab: LabName,

    #[command(flatten)]
    form: OutputFlag,
}

/// Runs the verb.
///
/// # Errors
/// If there is no such lab or guest, or it does not answer.
pub fn run(args: Args) -> Result<Exit, Error> {
    let directory = args.lab.select()?;
    let (status, lab): (LabStatus, Value) = super::block_on(async {
        let status = Client::connect(&directory).await?.ask(&Request::Status).await?;
        let lab = Client::connect(&directory).await?.ask(&Request::Inspect).await?;
        Ok::<_, Error>((status, lab))
    })??;
    let flag = args.lab.flag();
    let output = args.form.output;
    match &args.guest {
        None => {
            print(&of_lab(&status, &lab, super::now_ms(), output)?)?;
            next(&format!("labctl top{flag}"));
        }
        Some(name) => {
            let Some(guest) = status.guests.iter().find(|guest| guest.name == *name) else {
                return Err(super::no_such("guest", name, status.guests.iter().map(|g| &g.name)));
            };
            print(&of_guest(guest, &lab, output)?)?;
            next(&format!("labctl logs{flag} {name}"));
        }
    }
    Ok(Exit::Ok)
}

const NICS: [Column; 14] = [
    words("guest"),
    words("kind"),
    words("state"),
    words("cable"),
    words("mac"),
    words("address"),
    words("switch"),
    words("port"),
    words("link"),
    figures("tx_frames").wide(),
    figures("rx_frames").wide(),
    figures("rx_dropped").wide(),
    figures("interrupts").wide(),
    figures("doorbells").wide(),
];

/// The lab in a few words, and a row for each NIC.
pub(super) fn of_lab(
    status: &LabStatus,
    lab: &Value,
    now_ms: u64,
    output: Output,
) -> Result<String, Error> {
    let rows = status.guests.iter().flat_map(|guest| guest.nics.iter().map(|nic| row(guest, nic)));
    let listing = Listing { columns: NICS, rows: rows.collect() };
    let text = listing.render(&json!({ "status": status, "lab": lab }), output)?;
    Ok(match output {
        Output::Table | Output::Wide => format!("{}\n\n{text}", summary(status, now_ms)),
        _ => text,
    })
}

fn row(guest: &GuestStatus, nic: &NicStatus) -> [Field; 14] {
    let figure = |n: u64| Field::figure(Some(n), |n| count(*n));
    [
        (&guest.name).into(),
        (&guest.kind).into(),
        guest.state.into(),
        (&nic.cable).into(),
        (&nic.mac).into(),
        Field::word(nic.ip.as_ref()),
        (&nic.switch).into(),
        (&nic.port).into(),
        super::up_or_down(nic.up).into(),
        figure(nic.counters.tx_frames),
        figure(nic.counters.rx_frames),
        figure(nic.counters.rx_dropped),
        figure(nic.counters.interrupts),
        figure(nic.counters.doorbells),
    ]
}

fn summary(status: &LabStatus, now_ms: u64) -> String {
    let LabStatus { lab, file, state, pid, started_ms, guests, switches } = status;
    let since = age(now_ms.saturating_sub(*started_ms) / 1000);
    let switch = |SwitchStatus { name, kind, ports, macs }: &SwitchStatus| {
        let kind = kind.as_str();
        let macs = macs.map_or_else(String::new, |n| format!(", {} learned", things(n, "address")));
        format!("{name}: {kind} with {}{macs}\n", things(*ports, "port"))
    };
    let switches = switches.iter().map(switch).collect::<String>();
    let guests = things(guests.len(), "guest");
    format!(
        "{lab}: {state} for {since}, {guests}, process {pid}, from {file}\n{}",
        switches.trim_end()
    )
}

/// One property a row.
pub(super) fn of_guest(guest: &GuestStatus, lab: &Value, output: Output) -> Result<String, Error> {
    let cpu = guest.cpu_ns.map(|ns| ns as f64 / 1e9);
    let cpu = Field::figure(cpu, |seconds| format!("{seconds:.1}"));
    let mut rows = vec![
        ["name".into(), (&guest.name).into()],
        ["kind".into(), (&guest.kind).into()],
        ["state".into(), guest.state.into()],
        ["reason".into(), Field::word(guest.reason.as_ref())],
        ["work".into(), (&guest.work).into()],
        ["memory".into(), human_memory(guest.memory_mib.into()).into()],
        ["started".into(), rfc3339_ms(guest.started_ms).into()],
        ["restarts".into(), guest.restarts.into()],
        ["exits".into(), guest.exits.into()],
        ["cpu seconds".into(), cpu],
    ];
    for nic in &guest.nics {
        let counters = &nic.counters;
        let facts = [
            ("mac", (&nic.mac).into()),
            ("address", Field::word(nic.ip.as_ref())),
            ("port", format!("{}:{}", nic.switch, nic.port).into()),
            ("link", super::up_or_down(nic.up).into()),
            ("tx frames", counters.tx_frames.into()),
            ("tx bytes", counters.tx_bytes.into()),
            ("rx frames", counters.rx_frames.into()),
            ("rx bytes", counters.rx_bytes.into()),
            ("rx dropped", counters.rx_dropped.into()),
            ("interrupts", counters.interrupts.into()),
            ("doorbells", counters.doorbells.into()),
        ];
        let name = |fact: &str| format!("{} {fact}", nic.cable).into();
        rows.extend(facts.map(|(fact, value)| [name(fact), value]));
    }
    let spec = lab["guests"].as_array().into_iter().flatten();
    let spec = spec.into_iter().find(|spec| spec["name"] == guest.name.as_str());
    let listing = Listing { columns: [words("property"), words("value")], rows };
    listing.render(&json!({ "status": guest, "guest": spec }), output)
}
