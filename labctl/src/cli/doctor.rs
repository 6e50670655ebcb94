//! `labctl doctor`: can this host run labs, and what will they cost here?

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;

use serde::Serialize;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Style};
use vmm_core::kvm::{Cost, HostCosts, Hypervisor, KvmKind, probe_costs};
use vmm_core::policy::{Circumstances, Policy};

use super::{OutputFlag, next, print};
use crate::error::{Error, Exit};
use crate::lab::network::{self, Privileges};
use crate::lab::qemu;
use crate::policy;
use crate::report::Output;
use crate::report::listing::{Field, Listing, words};
use crate::report::number::significant;
use crate::results::Host;

const EXAMPLES: &str = "\
Examples:
  labctl doctor                                what works here, what does not, and what mends it
  labctl doctor -o json | jq .costs            what an exit and an interrupt cost
  labctl doctor && labctl bench --quick        only where everything works";

/// Check this host, and measure what its KVM charges
///
/// Opens /dev/kvm, creates a TAP and a bridge in a namespace of its own, and times exits,
/// interrupts and wake-ups with a tiny guest. Nothing is left behind. For everything that is missing
/// it says what mends it.
///
/// Exits 11 if the host lacks something that a lab may need.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    form: OutputFlag,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    pub host: Host,
    pub guests: String,
    pub peers: String,
    pub checks: Vec<Check>,
    pub policies: Vec<Auto>,
    pub costs: Option<HostCosts>,
}

/// One thing a lab may need.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub what: &'static str,
    pub ok: bool,
    pub says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mended_by: Option<String>,
}

/// What `policy: auto` is here, for two guests.
#[derive(Debug, Serialize)]
pub(super) struct Auto {
    pub csb: bool,
    pub vale: bool,
    pub policy: Policy,
    pub why: &'static str,
}

/// Runs the verb.
///
/// # Errors
/// If stdout cannot be written to.
pub fn run(args: Args) -> Result<Exit, Error> {
    let hypervisor = Hypervisor::open();
    let kvm = match &hypervisor {
        Ok(hypervisor) => passed("KVM", format!("{}, usable", hypervisor.kind())),
        Err(error) => failed("KVM", error, kvm_remedy()),
    };
    let guests = match &hypervisor {
        Ok(h) if h.kind().runs_kernels_natively() => "pktguest and Linux".to_owned(),
        Ok(_) => "pktguest only: kernel code is interpreted, Linux cannot boot".to_owned(),
        Err(_) => "none".to_owned(),
    };
    // A peer for comparison: without it a lab lacks nothing.
    let peers = match qemu::version() {
        Ok(version) => format!("QEMU {version}, for cells with `vmm: qemu`"),
        Err(reason) => format!("none: {reason}"),
    };
    let tap = match network::check_privileges() {
        Ok(()) => passed("TAP and bridge", format!("for labs with `vale: false`{}", right())),
        Err(error) => failed("TAP and bridge", &error, error.help()),
    };
    let policies = hypervisor.as_ref().map_or_else(|_| Vec::new(), |h| policies(h.kind()));
    let costs = hypervisor.as_ref().ok().map(probe_costs);
    let mut checks = vec![kvm, tap];
    if let Some(Err(error)) = &costs {
        checks.push(failed("measurement", error, None));
    }
    let costs = costs.and_then(Result::ok);
    let ready = checks.iter().all(|check| check.ok);
    let findings = Findings { host: Host::probe(), guests, peers, checks, policies, costs };
    print(&render(&findings, args.form.output)?)?;
    if ready {
        next("labctl bench --quick topologies/paper-pair.lab.yaml");
        Ok(Exit::Ok)
    } else {
        Ok(Exit::HostLacks)
    }
}

/// By what right TAPs are made.
fn right() -> String {
    Privileges::current().map(|right| format!(", {right}")).unwrap_or_default()
}

fn policies(kvm: KvmKind) -> Vec<Auto> {
    let choose = |(csb, vale)| {
        let cpus = policy::cpus();
        let (policy, why) = Circumstances { cpus, kvm, vcpus: 2, nics: 2, csb, vale }.policy();
        Auto { csb, vale, policy, why }
    };
    [(true, true), (true, false), (false, true), (false, false)].map(choose).into()
}

fn passed(what: &'static str, says: String) -> Check {
    Check { what, ok: true, says, mended_by: None }
}

fn failed(what: &'static str, error: &dyn std::error::Error, mended_by: Option<String>) -> Check {
    let mut says = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        says += &format!(": {error}");
        cause = error.source();
    }
    Check { what, ok: false, says, mended_by }
}

fn kvm_remedy() -> Option<String> {
    let Ok(device) = fs::metadata("/dev/kvm") else {
        return Some(
            "sudo modprobe kvm_intel || sudo modprobe kvm_amd; in a virtual machine, turn nested \
             virtualisation on"
                .to_owned(),
        );
    };
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    Some(access_remedy(device.mode(), group_name(&groups, device.gid())))
}

/// What lets a person use /dev/kvm, which is there with this mode and group. To join a group helps only
/// if that may use it, and nobody should have to join root's.
fn access_remedy(mode: u32, group: Option<&str>) -> String {
    match group.filter(|group| mode & 0o060 == 0o060 && *group != "root") {
        Some(group) => format!(
            "sudo chmod 666 /dev/kvm, or sudo usermod -aG {group} \"$USER\" and log in again"
        ),
        None => "sudo chmod 666 /dev/kvm, or sudo setfacl -m u:\"$USER\":rw /dev/kvm".to_owned(),
    }
}

/// The name of a group, by the text of /etc/group.
fn group_name(groups: &str, gid: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(gid)).then_some(name)
    })
}

/// The findings; as rows, one each.
pub(super) fn render(findings: &Findings, output: Output) -> Result<String, Error> {
    if matches!(output, Output::Table | Output::Wide) {
        return Ok(table(findings));
    }
    let Findings { guests, peers, checks, policies, costs, .. } = findings;
    let row = |what: &str, state: &str, says: Field, mended_by: Field| {
        [what.into(), state.into(), says, mended_by]
    };
    let fact = |what: &str, says: &str| row(what, "", says.into(), Field::default());
    let mut rows: Vec<_> = checks
        .iter()
        .map(|Check { what, ok, says, mended_by }| {
            row(
                what,
                if *ok { "ok" } else { "missing" },
                says.into(),
                Field::word(mended_by.as_ref()),
            )
        })
        .collect();
    rows.extend([fact("guests", guests), fact("peers", peers)]);
    rows.extend(policies.iter().map(|auto| fact("policy", &auto.to_string())));
    for (what, cost) in costs.iter().flat_map(named_costs) {
        let us = |ns: u64| significant(ns as f64 / 1e3);
        let says = format!("{} us median, {} us best", us(cost.median_ns), us(cost.min_ns));
        rows.push(fact(&format!("cost of {what}"), &says));
    }
    let columns = ["what", "state", "says", "mended_by"].map(words);
    Listing { columns, rows }.render(findings, output)
}

impl fmt::Display for Auto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { csb, vale, policy, why } = self;
        let [csb, vale] = [csb, vale].map(|on| if *on { "on" } else { "off" });
        write!(f, "csb {csb}, vale {vale}: {policy}, as {why}")
    }
}

fn table(findings: &Findings) -> String {
    let Findings { host, guests, peers, checks, policies, costs } = findings;
    let gib = host.memory_bytes as f64 / f64::from(1 << 30);
    let mut text = format!(
        "{}, {} cores, {} GiB, Linux {}\n",
        host.cpu,
        host.cores,
        significant(gib),
        host.kernel
    );
    for check in checks {
        let mark = if check.ok { "ok     " } else { "MISSING" };
        text += &format!("{mark}  {}: {}\n", check.what, check.says);
        if let Some(remedy) = &check.mended_by {
            text += &format!("         mended by: {remedy}\n");
        }
    }
    text += &format!("guests   {guests}\npeers    {peers}\n");
    for auto in policies {
        text += &format!("policy   {auto}\n");
    }
    if let Some(costs) = costs {
        text += &format!("\n{}\n", cost_table(costs));
    }
    text
}

fn named_costs(costs: &HostCosts) -> [(&'static str, Cost); 8] {
    [
        ("register access handled by labctl, from user code", costs.mmio_exit_user),
        ("register access handled by labctl, from kernel code", costs.mmio_exit_kernel),
        ("port access handled by labctl, from user code", costs.port_exit_user),
        ("doorbell that KVM turns into an eventfd", costs.ioeventfd_write),
        ("end of interrupt, handled by KVM", costs.apic_write),
        ("interrupt, to the handler of a running guest", costs.interrupt),
        ("interrupt, to the handler of a halted guest", costs.halt_wakeup),
        ("eventfd, to the thread that waits for it", costs.thread_wakeup),
    ]
}

fn cost_table(costs: &HostCosts) -> String {
    let us = |ns: u64| significant(ns as f64 / 1e3);
    let mut table = Builder::default();
    table.push_record(["what it costs here", "median us", "best us"]);
    for (what, cost) in named_costs(costs) {
        table.push_record([what.to_owned(), us(cost.median_ns), us(cost.min_ns)]);
    }
    let mut table = table.build();
    table.with(Style::sharp()).modify(Columns::new(1..), Alignment::right());
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_join_a_group_is_advice_only_where_that_may_use_the_device() {
        let groups = "root:x:0:\nkvm:x:104:me\nqemu:x:36:\n";
        for (mode, gid, joins) in [
            (0o20660, 104, Some("usermod -aG kvm ")),
            (0o20660, 36, Some("usermod -aG qemu ")),
            (0o20600, 0, None),
            (0o20660, 0, None),
            (0o20640, 104, None),
            (0o20660, 7, None),
        ] {
            let advice = access_remedy(mode, group_name(groups, gid));
            assert!(advice.starts_with("sudo chmod 666 /dev/kvm, or sudo "), "{advice}");
            assert_eq!(advice.contains("usermod"), joins.is_some(), "{mode:o} {gid}: {advice}");
            assert!(joins.is_none_or(|joins| advice.contains(joins)), "{advice}");
        }
    }
}
