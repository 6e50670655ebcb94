//! `labctl top`: what moves in a lab, as it moves.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::Receiver;
use tokio::time::{MissedTickBehavior, interval};

use super::terminal::{self, Mode, Terminal};
use super::{LabName, OutputFlag, next, print, print_while_read};
use crate::control::client::Client;
use crate::control::directory::LabDirectory;
use crate::control::protocol::{CableStatus, GuestState, LabState, LabStatus, Request, Traffic};
use crate::error::{Error, Exit};
use crate::report::Output;
use crate::report::listing::{Column, Field, Listing, Stream, figures, words};
use crate::report::number::{age, count};
use crate::results::rfc3339_ms;
use crate::units::parse_time;

const EXAMPLES: &str = "\
Examples:
  labctl top                                    a screen that is redrawn; q or Ctrl-C ends it
  labctl top --once                             one second's rates
  labctl top --interval 10s -o csv > rates.csv  for a spreadsheet
  labctl top -o json | jq -c '.guests[] | [.name, .cpu]'";

/// Watch packet rates, interrupts, exits and CPU time of a lab
///
/// One row a guest, one more for each of its NICs if it has several, and one for each cable between
/// switches and to the host; all rates are per second. `dropped` is what a NIC or cable had no room
/// for, `lost` what a cable lost on purpose. Off a terminal it prints one listing each interval.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Time that rates are taken over
    #[arg(
        long,
        value_name = "TIME",
        value_parser = parse_time,
        default_value = "1s",
        env = "LABCTL_INTERVAL"
    )]
    interval: Duration,

    /// Print one listing and end
    #[arg(long, env = "LABCTL_ONCE")]
    once: bool,

    #[command(flatten)]
    lab: LabName,

    #[command(flatten)]
    form: OutputFlag,
}

/// Runs the verb.
///
/// # Errors
/// If there is no such lab, it does not answer, or the terminal is lost.
pub fn run(args: Args) -> Result<Exit, Error> {
    let lab = args.lab.select()?;
    let output = args.form.output;
    let for_people = matches!(output, Output::Table | Output::Wide);
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    super::block_on(async {
        let watching = async {
            match for_people && is_terminal && !args.once {
                true => watch(&lab, args.interval, output).await,
                false => list(&lab, args.interval, output, args.once).await,
            }
        };
        tokio::select! {
            done = watching => done,
            () = super::interrupted() => Ok(()),
        }
    })??;
    next(&format!("labctl link show{}", args.lab.flag()));
    Ok(Exit::Ok)
}

/// One listing an interval.
async fn list(lab: &LabDirectory, time: Duration, output: Output, once: bool) -> Result<(), Error> {
    let mut before = Sample::take(lab).await?;
    let mut stream = Stream::new(output);
    let mut ticks = interval(time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = Sample::take(lab).await?;
        let rates = Rates::between(&before, &now);
        before = now;
        if once {
            return print(&rates.listing().render(&rates, output)?);
        }
        let listing = rates.listing();
        let table = || listing.table(output == Output::Wide) + "\n";
        if !print_while_read(&stream.add(&rates, &listing, table)?)? {
            return Ok(());
        }
    }
}

/// A screen that is redrawn.
async fn watch(lab: &LabDirectory, time: Duration, output: Output) -> Result<(), Error> {
    let lost = |error| Error::new(Exit::Failed, "cannot use the terminal").because(error);
    let mut before = Sample::take(lab).await?;
    let signals = |number| signal(SignalKind::from_raw(number)).map_err(lost);
    let mut stop = signals(rustix::process::Signal::TSTP.as_raw())?;
    let mut resized = signals(rustix::process::Signal::WINCH.as_raw())?;
    let terminal = Terminal::enter(Mode::Screen).map_err(lost)?;
    let mut keys = terminal::read_stdin();
    let mut ticks = interval(time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    let mut page = format!("{}: the first rates are coming\n", lab.name());
    loop {
        print(&screen(&page, terminal::size()))?;
        tokio::select! {
            _ = ticks.tick() => {
                let now = Sample::take(lab).await?;
                let rates = Rates::between(&before, &now);
                before = now;
                let table = rates.listing().table(output == Output::Wide);
                page = format!("{}\n\n{table}", rates.title());
            }
            ended = quits(&mut keys) => if ended { return Ok(()) },
            _ = resized.recv() => {}
            _ = stop.recv() => terminal.suspend().map_err(lost)?,
        }
    }
}

/// Whether the keys that were typed say to end; so does the end of the terminal.
async fn quits(keys: &mut Receiver<Vec<u8>>) -> bool {
    keys.recv().await.is_none_or(|keys| keys.iter().any(|key| matches!(key, b'q' | b'Q')))
}

/// As much of the page as fits, over what the terminal showed before.
fn screen(page: &str, (columns, rows): (usize, usize)) -> String {
    let cut = |line: &str| line.chars().take(columns).collect::<String>() + "\x1b[K";
    let lines: Vec<_> = page.lines().take(rows).map(cut).collect();
    format!("\x1b[H{}\x1b[J", lines.join("\r\n"))
}

/// All counters at one instant.
#[derive(Clone)]
pub(super) struct Sample {
    pub at: Instant,
    pub at_ms: u64,
    pub status: LabStatus,
    pub cables: Vec<CableStatus>,
}

impl Sample {
    async fn take(lab: &LabDirectory) -> Result<Self, Error> {
        let status = Client::connect(lab).await?.ask(&Request::Status).await?;
        let (at, at_ms) = (Instant::now(), super::now_ms());
        let cables = Client::connect(lab).await?.ask(&Request::Links).await?;
        Ok(Self { at, at_ms, status, cables })
    }
}

/// What moved between two samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rates {
    /// At the later one, in milliseconds of Unix time.
    at_ms: u64,
    /// Between them.
    seconds: f64,
    lab: String,
    state: LabState,
    age_seconds: u64,
    guests: Vec<GuestRates>,
    /// Cables that are not a guest's.
    links: Vec<LinkRates>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct GuestRates {
    name: String,
    state: GuestState,
    exits_per_s: f64,
    /// Share of a CPU that its vCPU used, if known.
    cpu: Option<f64>,
    nics: Vec<NicRates>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct NicRates {
    cable: String,
    tx_pps: f64,
    tx_bps: f64,
    rx_pps: f64,
    rx_bps: f64,
    /// Lost on its cable on purpose.
    lost_pps: f64,
    /// Dropped by it or on its cable.
    dropped_pps: f64,
    interrupts_per_s: f64,
    doorbells_per_s: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct LinkRates {
    cable: String,
    up: bool,
    forth_pps: f64,
    back_pps: f64,
    lost_pps: f64,
    dropped_pps: f64,
}

impl Rates {
    /// What moved from `old` to `new`. Guests and cables that are new have no rates yet.
    pub fn between(old: &Sample, new: &Sample) -> Self {
        let seconds = new.at.duration_since(old.at).as_secs_f64().max(1e-9);
        // A guest that was started anew counts from 0 again.
        let rate = |old: u64, new: u64| new.saturating_sub(old) as f64 / seconds;
        let link = |new: &CableStatus| {
            let old = old.cables.iter().find(|old| old.name == new.name).unwrap_or(new);
            LinkRates {
                cable: new.name.clone(),
                up: new.up,
                forth_pps: rate(old.forth.frames, new.forth.frames),
                back_pps: rate(old.back.frames, new.back.frames),
                lost_pps: rate(old.forth.lost + old.back.lost, new.forth.lost + new.back.lost),
                dropped_pps: rate(
                    old.forth.dropped + old.back.dropped,
                    new.forth.dropped + new.back.dropped,
                ),
            }
        };
        let mut links: Vec<_> = new.cables.iter().map(link).collect();
        let mut nic = |cable: &str, old: &Traffic, new: &Traffic| {
            let own = links.iter().position(|link| link.cable == cable);
            let own = own.map(|index| links.remove(index));
            NicRates {
                cable: cable.to_owned(),
                tx_pps: rate(old.tx_frames, new.tx_frames),
                tx_bps: rate(old.tx_bytes, new.tx_bytes) * 8.0,
                rx_pps: rate(old.rx_frames, new.rx_frames),
                rx_bps: rate(old.rx_bytes, new.rx_bytes) * 8.0,
                lost_pps: own.as_ref().map_or(0.0, |cable| cable.lost_pps),
                dropped_pps: rate(old.rx_dropped, new.rx_dropped)
                    + own.as_ref().map_or(0.0, |cable| cable.dropped_pps),
                interrupts_per_s: rate(old.interrupts, new.interrupts),
                doorbells_per_s: rate(old.doorbells, new.doorbells),
            }
        };
        let mut guests = Vec::new();
        for new in &new.status.guests {
            let old = old.status.guests.iter().find(|old| old.name == new.name).unwrap_or(new);
            let nics = new.nics.iter().map(|now| {
                let before = old.nics.iter().find(|nic| nic.cable == now.cable).unwrap_or(now);
                nic(&now.cable, &before.counters, &now.counters)
            });
            guests.push(GuestRates {
                name: new.name.clone(),
                state: new.state,
                exits_per_s: rate(old.exits, new.exits),
                cpu: old.cpu_ns.zip(new.cpu_ns).map(|(old, new)| rate(old, new) / 1e9),
                nics: nics.collect(),
            });
        }
        let LabStatus { lab, state, started_ms, .. } = &new.status;
        let age_seconds = new.at_ms.saturating_sub(*started_ms) / 1000;
        let (lab, state, at_ms) = (lab.clone(), *state, new.at_ms);
        Self { at_ms, seconds, lab, state, age_seconds, guests, links }
    }

    fn title(&self) -> String {
        let Self { lab, state, age_seconds, seconds, .. } = self;
        format!("{lab}: {state} for {}, rates over {seconds:.1} s; q ends", age(*age_seconds))
    }

    /// A row for each guest, NIC and cable.
    pub fn listing(&self) -> Listing<13> {
        let mut rows = Vec::new();
        for guest in &self.guests {
            let total = guest.nics.iter().fold(NicRates::default(), |sum, nic| sum.plus(nic));
            let state = guest.state.to_string();
            rows.push(self.row(&guest.name, state, &total, Some(guest)));
            if guest.nics.len() > 1 {
                let row = |nic: &NicRates| self.row(&nic.cable, String::new(), nic, None);
                rows.extend(guest.nics.iter().map(row));
            }
        }
        for link in &self.links {
            let mut row = self.row(
                &link.cable,
                super::up_or_down(link.up).to_owned(),
                &NicRates {
                    tx_pps: link.forth_pps,
                    rx_pps: link.back_pps,
                    lost_pps: link.lost_pps,
                    dropped_pps: link.dropped_pps,
                    ..NicRates::default()
                },
                None,
            );
            // Cables count frames, and nothing interrupts for them.
            for unknown in [6, 8, 11, 12] {
                row[unknown] = Field::default();
            }
            rows.push(row);
        }
        Listing { columns: COLUMNS, rows }
    }

    fn row(
        &self,
        name: &str,
        state: String,
        nic: &NicRates,
        guest: Option<&GuestRates>,
    ) -> [Field; 13] {
        let figure = |rate: Option<f64>| {
            Field::figure(rate.map(|rate| rate.round() as u64), |rate| count(*rate))
        };
        [
            rfc3339_ms(self.at_ms).into(),
            name.into(),
            state.into(),
            Field::figure(guest.and_then(|guest| guest.cpu), |cpu| format!("{:.0}%", cpu * 100.0)),
            figure(guest.map(|guest| guest.exits_per_s)),
            figure(Some(nic.tx_pps)),
            figure(Some(nic.tx_bps)),
            figure(Some(nic.rx_pps)),
            figure(Some(nic.rx_bps)),
            figure(Some(nic.dropped_pps)),
            figure(Some(nic.lost_pps)),
            figure(Some(nic.interrupts_per_s)),
            figure(Some(nic.doorbells_per_s)),
        ]
    }
}

impl NicRates {
    fn plus(mut self, other: &Self) -> Self {
        self.tx_pps += other.tx_pps;
        self.tx_bps += other.tx_bps;
        self.rx_pps += other.rx_pps;
        self.rx_bps += other.rx_bps;
        self.lost_pps += other.lost_pps;
        self.dropped_pps += other.dropped_pps;
        self.interrupts_per_s += other.interrupts_per_s;
        self.doorbells_per_s += other.doorbells_per_s;
        self
    }
}

/// Rates are per second.
const COLUMNS: [Column; 13] = [
    words("time").wide(),
    words("name"),
    words("state"),
    figures("cpu"),
    figures("exits"),
    figures("tx_pps"),
    figures("tx_bps"),
    figures("rx_pps"),
    figures("rx_bps"),
    figures("dropped"),
    figures("lost"),
    figures("interrupts"),
    figures("doorbells"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_never_scrolls() {
        let page = "1234567\n2\n3\n4\n";
        assert_eq!(screen(page, (5, 3)), "\x1b[H12345\x1b[K\r\n2\x1b[K\r\n3\x1b[K\x1b[J");
    }
}
