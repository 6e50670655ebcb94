//! `labctl graph`: a picture of a lab.

use super::{LabFile, next, print};
use crate::error::{Error, Exit};
use crate::impairments::Impairments;
use crate::topology::{CableId, HostTap, Lab, LinkEnd, System};

const EXAMPLES: &str = "\
Examples:
  labctl graph > lab.mmd                        Mermaid, which GitHub and GitLab draw
  labctl graph --dot lab.lab.yaml | dot -Tsvg > lab.svg";

/// Draw a lab file's topology as text for Mermaid or Graphviz
///
/// Guests, switches and what of the host they are linked to; cables carry their impairments. Nothing
/// needs to run.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    lab: LabFile,

    /// Mermaid's language; the default
    #[arg(long, conflicts_with = "dot", env = "LABCTL_MERMAID")]
    mermaid: bool,

    /// Graphviz's language
    #[arg(long, env = "LABCTL_DOT")]
    dot: bool,
}

/// Runs the verb.
///
/// # Errors
/// If the file is invalid or stdout cannot be written to.
pub fn run(args: Args) -> Result<Exit, Error> {
    let lab = args.lab.load()?;
    let graph = Graph::of(&lab);
    print(&if args.dot { graph.dot() } else { graph.mermaid() })?;
    next(&format!("labctl up {}", lab.path.display()));
    Ok(Exit::Ok)
}

/// What is drawn.
pub(super) struct Graph {
    name: String,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

struct Node {
    id: String,
    shape: Shape,
    lines: Vec<String>,
}

#[derive(Clone, Copy)]
enum Shape {
    Guest,
    Switch,
    Host,
}

struct Edge {
    ends: [String; 2],
    label: String,
}

impl Graph {
    pub fn of(lab: &Lab) -> Self {
        let mut nodes = Vec::new();
        for (index, guest) in lab.guests.iter().enumerate() {
            let work = match &guest.system {
                System::Pktguest(pktguest) => {
                    let role = pktguest.workload.role;
                    let to = role.to().and_then(|to| lab.guests.get(to));
                    let to = to.map_or_else(String::new, |to| format!(" to {}", to.name));
                    format!("{}{to}", role.as_str())
                }
                System::Linux(_) => "Linux".to_owned(),
                System::Pvh(_) => "PVH".to_owned(),
            };
            let lines = vec![guest.name.clone(), work];
            nodes.push(Node { id: format!("g{index}"), shape: Shape::Guest, lines });
        }
        for (index, switch) in lab.switches.iter().enumerate() {
            let kind = lab.switch_kind(index).as_str().to_owned();
            let lines = vec![switch.name.clone(), kind];
            nodes.push(Node { id: format!("s{index}"), shape: Shape::Switch, lines });
        }
        let mut edges = Vec::new();
        for cable in lab.cables() {
            let impairments = lab.impairments(cable);
            let edge = match cable {
                CableId::Nic { guest, nic } => {
                    let Some(spec) = lab.guests.get(guest) else { continue };
                    let Some(switch) = spec.nics.get(nic).map(|nic| nic.switch) else { continue };
                    // Which NIC it is matters only where there are several.
                    let name = (spec.nics.len() > 1).then(|| nic.to_string());
                    let ends = [format!("g{guest}"), format!("s{switch}")];
                    Edge { ends, label: label(name, impairments) }
                }
                CableId::Link(index) => {
                    let Some(link) = lab.links.get(index) else { continue };
                    let mut end = |end: &LinkEnd| match end {
                        LinkEnd::Switch(switch) => format!("s{switch}"),
                        LinkEnd::Host(tap) => {
                            let id = format!("h{index}");
                            let lines = host_lines(tap);
                            nodes.push(Node { id: id.clone(), shape: Shape::Host, lines });
                            id
                        }
                    };
                    let ends = link.ends.each_ref().map(&mut end);
                    Edge { ends, label: label(None, impairments) }
                }
            };
            edges.push(edge);
        }
        Self { name: lab.name.clone(), nodes, edges }
    }

    pub fn mermaid(&self) -> String {
        let text = |lines: &[String]| {
            lines.iter().map(|line| mermaid_text(line)).collect::<Vec<_>>().join("<br/>")
        };
        let mut graph = format!("---\ntitle: {}\n---\nflowchart LR\n", self.name);
        for Node { id, shape, lines } in &self.nodes {
            let (open, close) = match shape {
                Shape::Guest => ("[", "]"),
                Shape::Switch => ("{{", "}}"),
                Shape::Host => ("([", "])"),
            };
            graph += &format!("  {id}{open}\"{}\"{close}\n", text(lines));
        }
        for Edge { ends: [from, to], label } in &self.edges {
            let label = match label.as_str() {
                "" => String::new(),
                label => format!("|\"{}\"|", mermaid_text(label)),
            };
            graph += &format!("  {from} ---{label} {to}\n");
        }
        graph
    }

    pub fn dot(&self) -> String {
        let mut graph = format!("graph {} {{\n  rankdir=LR;\n", dot_text(&self.name));
        for Node { id, shape, lines } in &self.nodes {
            let shape = match shape {
                Shape::Guest => "box",
                Shape::Switch => "hexagon",
                Shape::Host => "ellipse",
            };
            graph += &format!("  {id} [shape={shape}, label={}];\n", dot_text(&lines.join("\n")));
        }
        for Edge { ends: [from, to], label } in &self.edges {
            let label = match label.as_str() {
                "" => String::new(),
                label => format!(" [label={}]", dot_text(label)),
            };
            graph += &format!("  {from} -- {to}{label};\n");
        }
        graph + "}\n"
    }
}

fn host_lines(tap: &HostTap) -> Vec<String> {
    let HostTap { netns, name, address } = tap;
    let place = netns.as_ref().map_or_else(|| "host".to_owned(), |netns| format!("netns {netns}"));
    let lines = [Some(place), Some(name.clone()), address.map(|address| address.to_string())];
    lines.into_iter().flatten().collect()
}

fn label(name: Option<String>, impairments: Impairments) -> String {
    let impairments = (!impairments.is_none()).then(|| impairments.to_string());
    name.into_iter().chain(impairments).collect::<Vec<_>>().join(": ")
}

/// Text within a quoted label, in which `#` begins an entity.
fn mermaid_text(text: &str) -> String {
    text.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;")
}

/// A quoted string.
fn dot_text(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}
