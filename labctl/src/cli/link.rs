//! `labctl link`: the cables of a lab, and what they do to frames.

use super::{LabName, OutputFlag, next, note, print};
use crate::control::protocol::{CableStatus, CableTraffic, Request};
use crate::error::{Error, Exit};
use crate::impairments::ImpairmentChanges;
use crate::report::listing::{Column, Field, Listing, figures, words};
use crate::report::number::count;
use crate::topology::Delay;
use crate::units::{BitRate, Share, parse_scalar};

const EXAMPLES: &str = "\
Examples:
  labctl link show                              all cables, and what became of their frames
  labctl link set left:0 --delay 10ms --loss 1%
  labctl link set sw0--sw1 --down               as if somebody pulled the plug
  labctl link help set                          everything that can be set";

const SHOW_EXAMPLES: &str = "\
Examples:
  labctl link show                              all cables
  labctl link show left:0                       the first NIC of the guest `left`
  labctl link show -o json | jq '.[] | select(.up | not).name'";

const SET_EXAMPLES: &str = "\
Examples:
  labctl link set left:0 --delay 10ms --jitter 2ms
  labctl link set left:0 --loss 0               no more loss; the delay stays
  labctl link set left:0 --rate 10Mbit --duplicate 0.1%
  labctl link set left:0 --clear                a perfect cable again";

/// Show cables, or change them while the lab runs
///
/// A guest's cables are called `guest:number`, others as in the lab file, such as `sw0--sw1`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Show(Show),
    Set(Set),
}

/// Show cables, what they do to frames, and what became of those
///
/// Counts are frames in both directions since the lab was started; with `-o wide` each direction
/// for itself.
#[derive(Debug, clap::Args)]
#[command(after_help = SHOW_EXAMPLES)]
struct Show {
    /// Only this cable
    cable: Option<String>,

    #[command(flatten)]
    lab: LabName,

    #[command(flatten)]
    form: OutputFlag,
}

/// Change a cable
///
/// What is not mentioned stays as it is. The change lasts, also when a guest is restarted, until
/// `labctl up` makes the lab what its file says. Impairments are netem's (tc-netem(8)), and act in both
/// directions alike.
#[derive(Debug, clap::Args)]
#[command(after_help = SET_EXAMPLES)]
struct Set {
    /// The cable
    cable: String,

    #[command(flatten)]
    changes: Changes,

    #[command(flatten)]
    lab: LabName,

    #[command(flatten)]
    form: OutputFlag,
}

#[derive(Debug, Default, clap::Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// Time that frames are on the way, such as 10ms
    #[arg(long, value_name = "TIME", value_parser = time_us, env = "LABCTL_DELAY")]
    delay: Option<u64>,

    /// How far the delay varies, up and down
    #[arg(long, value_name = "TIME", value_parser = time_us, env = "LABCTL_JITTER")]
    jitter: Option<u64>,

    /// Share of frames that are lost, such as 0.5%
    #[arg(long, value_name = "PERCENT", value_parser = share, env = "LABCTL_LOSS")]
    loss: Option<f64>,

    /// Share of frames that arrive twice
    #[arg(long, value_name = "PERCENT", value_parser = share, env = "LABCTL_DUPLICATE")]
    duplicate: Option<f64>,

    /// Share of frames that overtake those before them; needs a delay
    #[arg(long, value_name = "PERCENT", value_parser = share, env = "LABCTL_REORDER")]
    reorder: Option<f64>,

    /// Bits per second, such as 10Mbit; 0 for no limit
    #[arg(long, value_name = "RATE", value_parser = bit_rate, env = "LABCTL_RATE")]
    rate: Option<u64>,

    /// First take all impairments away; has no environment variable
    #[arg(long)]
    clear: bool,

    /// Plug it in; has no environment variable
    #[arg(long, conflicts_with = "down")]
    up: bool,

    /// Pull it out; has no environment variable
    #[arg(long)]
    down: bool,
}

/// Runs the verb.
///
/// # Errors
/// If there is no such lab or cable, it does not answer, or it refuses the change.
pub fn run(args: Args) -> Result<Exit, Error> {
    match args.what {
        What::Show(args) => show(args),
        What::Set(args) => set(args),
    }
}

fn show(args: Show) -> Result<Exit, Error> {
    let mut cables: Vec<CableStatus> =
        super::block_on(async { args.lab.connect().await?.ask(&Request::Links).await })??;
    if let Some(name) = &args.cable {
        find(&cables, name)?;
        cables.retain(|cable| cable.name == *name);
    }
    print(&listing(&cables).render(&cables, args.form.output)?)?;
    match cables.first() {
        Some(cable) => {
            next(&format!("labctl link set{} {} --delay 1ms", args.lab.flag(), cable.name));
        }
        None => note(NONE),
    }
    Ok(Exit::Ok)
}

fn set(args: Set) -> Result<Exit, Error> {
    let request = args.changes.request(args.cable);
    let cable: CableStatus =
        super::block_on(async { args.lab.connect().await?.ask(&request).await })??;
    let cables = [cable];
    print(&listing(&cables).render(&cables, args.form.output)?)?;
    let [cable] = &cables;
    let flag = args.lab.flag();
    next(&match cable.impairments.is_none() && cable.up {
        true => format!("labctl link show{flag} {}", cable.name),
        false => format!("labctl link set{flag} {} --clear --up", cable.name),
    });
    Ok(Exit::Ok)
}

/// What is to be said where there are no cables.
const NONE: &str = "the lab has no cables of labctl's; those of QEMU are its own";

fn find<'a>(cables: &'a [CableStatus], name: &str) -> Result<&'a CableStatus, Error> {
    let found = cables.iter().find(|cable| cable.name == name);
    found.ok_or_else(|| match cables {
        [] => Error::new(Exit::NothingSelected, format!("there is no cable `{name}`")).help(NONE),
        _ => super::no_such("cable", name, cables.iter().map(|cable| &cable.name)),
    })
}

impl Changes {
    /// The request that makes them. The supervisor knows what is not mentioned, and at the moment of
    /// the change: others may change the same cable.
    fn request(self, cable: String) -> Request {
        let changes = ImpairmentChanges {
            clear: self.clear,
            delay_us: self.delay,
            jitter_us: self.jitter,
            loss: self.loss,
            duplicate: self.duplicate,
            reorder: self.reorder,
            rate_bps: self.rate,
        };
        Request::SetLink { cable, changes, up: (self.up || self.down).then_some(self.up) }
    }
}

const COLUMNS: [Column; 21] = [
    words("cable"),
    words("from"),
    words("to"),
    words("port"),
    words("link"),
    words("impairments"),
    figures("frames"),
    figures("lost"),
    figures("dropped"),
    figures("forth").wide(),
    figures("forth_delivered").wide(),
    figures("forth_lost").wide(),
    figures("forth_dropped").wide(),
    figures("forth_duplicated").wide(),
    figures("forth_reordered").wide(),
    figures("back").wide(),
    figures("back_delivered").wide(),
    figures("back_lost").wide(),
    figures("back_dropped").wide(),
    figures("back_duplicated").wide(),
    figures("back_reordered").wide(),
];

pub(super) fn listing(cables: &[CableStatus]) -> Listing<21> {
    let figure = |n: u64| Field::figure(Some(n), |n| count(*n));
    let row = |cable: &CableStatus| {
        let CableStatus { name, ends: [from, to], port, up, impairments, forth, back } = cable;
        let both = |of: fn(&CableTraffic) -> u64| figure(of(forth) + of(back));
        let each = |traffic: &CableTraffic| {
            let CableTraffic { frames, delivered, lost, dropped, duplicated, reordered, .. } =
                *traffic;
            [frames, delivered, lost, dropped, duplicated, reordered].map(figure)
        };
        let [f0, f1, f2, f3, f4, f5] = each(forth);
        let [b0, b1, b2, b3, b4, b5] = each(back);
        [
            name.into(),
            from.into(),
            to.into(),
            port.into(),
            super::up_or_down(*up).into(),
            impairments.into(),
            both(|traffic| traffic.frames),
            both(|traffic| traffic.lost),
            both(|traffic| traffic.dropped),
            f0,
            f1,
            f2,
            f3,
            f4,
            f5,
            b0,
            b1,
            b2,
            b3,
            b4,
            b5,
        ]
    };
    Listing { columns: COLUMNS, rows: cables.iter().map(row).collect() }
}

fn time_us(text: &str) -> Result<u64, String> {
    parse_scalar::<Delay>(text).map(|time| time.get().as_micros() as u64)
}

fn share(text: &str) -> Result<f64, String> {
    parse_scalar::<Share>(text).map(Share::get)
}

fn bit_rate(text: &str) -> Result<u64, String> {
    parse_scalar::<BitRate>(text).map(|rate| rate.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_says_only_what_is_to_change() {
        let up_of = |changes: Changes| match changes.request("left:0".into()) {
            Request::SetLink { changes, up, .. } => (changes, up),
            other => panic!("{other:?}"),
        };
        let none = ImpairmentChanges::default();
        let changes = Changes { delay: Some(2000), ..Changes::default() };
        let delay = ImpairmentChanges { delay_us: Some(2000), ..none };
        assert_eq!(up_of(changes), (delay, None));
        assert_eq!(up_of(Changes { down: true, ..Changes::default() }), (none, Some(false)));
        assert_eq!(up_of(Changes { up: true, ..Changes::default() }), (none, Some(true)));
    }

    /// What the file takes, and nothing else.
    #[test]
    fn values_are_read_as_in_the_file() {
        assert_eq!([time_us("0"), time_us("1.5ms")], [Ok(0), Ok(1500)]);
        assert_eq!([share("0"), share("0.5%"), share("100%")], [Ok(0.0), Ok(0.005), Ok(1.0)]);
        assert_eq!([bit_rate("0"), bit_rate("1.5Mbit")], [Ok(0), Ok(1_500_000)]);
        assert_eq!(bit_rate("10Gbit"), Ok(10_000_000_000));
        for text in ["101%", "-1%", "x", "1", "1e1%", "1%%"] {
            assert!(share(text).unwrap_err().starts_with("expected a share"), "{text}");
        }
        for text in ["10", "10MB", "-1bit", "5bit", "1e3kbit"] {
            assert!(bit_rate(text).unwrap_err().starts_with("expected 0 for unlimited"), "{text}");
        }
        for text in ["1", "11s", "0.1us"] {
            assert!(time_us(text).unwrap_err().starts_with("expected a time"), "{text}");
        }
    }
}
