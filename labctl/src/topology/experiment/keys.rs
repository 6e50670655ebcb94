//! Keys of the file as experiments name them, `guests.*.nics[0].loss`, and other values put there.

use serde_yaml::{Mapping, Value};

use crate::error::did_you_mean;
use crate::topology::{
    text::decode::{child, pointer},
    text::index::{DEPTH_MAX, dotted},
};

/// Sections whose keys are names: one that is not there is a mistake, not a new thing.
const NAMED: [(&str, &str); 3] = [("guests", "guest"), ("switches", "switch"), ("groups", "group")];

/// Why a key cannot be changed.
#[derive(Debug, PartialEq)]
pub struct Fault {
    pub message: String,
    pub help: Option<String>,
}

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Item(usize),
    /// `*`: all that a mapping or list has.
    Every,
}

/// The places that a key stands for, each as the steps that lead there.
///
/// `ring` and `spin` alone stand for those of every guest, and `throughput` and `rr` for those of
/// `bench`.
///
/// # Errors
/// If the key is malformed, leads nowhere, or to what is the same in all cells.
pub fn places(tree: &Value, key: &str) -> Result<Vec<Vec<String>>, Fault> {
    let mut steps = parse(key)?;
    if steps.len() > DEPTH_MAX {
        return Err(Fault::new("leads deeper than a file can")
            .help(format!("a file is nested at most {DEPTH_MAX} deep")));
    }
    let word = |step: &Step, words: [&str; 2]| matches!(step, Step::Key(key) if words.contains(&key.as_str()));
    if steps.len() == 1 && word(&steps[0], ["ring", "spin"]) {
        steps.splice(0..0, [Step::Key("guests".into()), Step::Every]);
    } else if word(&steps[0], ["throughput", "rr"]) {
        steps.insert(0, Step::Key("bench".into()));
    }
    check_section(tree, &steps)?;
    let mut places = Vec::new();
    walk(Some(tree), &mut Vec::new(), &steps, &mut places)?;
    Ok(places)
}

/// Takes a path apart.
fn parse(key: &str) -> Result<Vec<Step>, Fault> {
    let malformed =
        || Fault::new("not a key of the file").help("for instance `guests.left.nics[0].switch`");
    let mut steps = Vec::new();
    for part in key.split('.') {
        let (name, items) = part.split_at(part.find('[').unwrap_or(part.len()));
        match name {
            "" => return Err(malformed()),
            "*" => steps.push(Step::Every),
            name => steps.push(Step::Key(name.to_owned())),
        }
        for item in items.split_terminator(']') {
            steps.push(match item.strip_prefix('[') {
                Some("*") => Step::Every,
                Some(number) => Step::Item(number.parse().map_err(|_| malformed())?),
                None => return Err(malformed()),
            });
        }
        if !items.is_empty() && !items.ends_with(']') {
            return Err(malformed());
        }
    }
    Ok(steps)
}

/// What an experiment is called, and how it is run, is not for its cells to say.
fn check_section(tree: &Value, steps: &[Step]) -> Result<(), Fault> {
    let key = |step: Option<&Step>| match step {
        Some(Step::Key(key)) => key.clone(),
        _ => String::new(),
    };
    let (section, below) = (key(steps.first()), key(steps.get(1)));
    match (section.as_str(), below.as_str()) {
        ("name" | "description", _) => {
            Err(Fault::new("is the same in all cells").help("an experiment changes what is run"))
        }
        ("bench", "throughput" | "rr")
            if tree.get("bench").is_none_or(|bench| bench.get(&below).is_none()) =>
        {
            Err(Fault::new("is about a trial that is not there")
                .help(format!("add `{below}` to `bench`, or remove this")))
        }
        ("bench", "throughput" | "rr") => Ok(()),
        ("bench", _) => Err(Fault::new("is the same in all cells")
            .help("of `bench`, an experiment changes keys of `throughput` and `rr`")),
        _ => Ok(()),
    }
}

/// Follows a path as far as the tree goes; what lies beyond, the change will make.
fn walk(
    node: Option<&Value>,
    done: &mut Vec<String>,
    steps: &[Step],
    places: &mut Vec<Vec<String>>,
) -> Result<(), Fault> {
    let Some((step, rest)) = steps.split_first() else {
        places.push(done.clone());
        return Ok(());
    };
    let node = node.filter(|node| !node.is_null());
    let here = written(done);
    let mut go = |node: Option<&Value>, step: String, places: &mut Vec<Vec<String>>| {
        done.push(step);
        let outcome = walk(node, done, rest, places);
        done.pop();
        outcome
    };
    match (step, node) {
        (Step::Key(key), Some(Value::Mapping(mapping))) => {
            if let Some((_, kind)) = NAMED.iter().find(|(section, _)| here == *section)
                && !mapping.contains_key(key.as_str())
            {
                return Err(unknown(kind, key, mapping));
            }
            go(mapping.get(key.as_str()), key.clone(), places)
        }
        (Step::Key(key), None) => go(None, key.clone(), places),
        (Step::Key(_), Some(Value::Sequence(_))) => Err(Fault::new(format!("`{here}` is a list"))
            .help(format!("name an item, as in `{here}[0]`, or all of them, as in `{here}[*]`"))),
        (Step::Item(item), Some(Value::Sequence(list))) => match list.get(*item) {
            Some(node) => go(Some(node), item.to_string(), places),
            None => Err(Fault::new(format!("`{here}` has no item {item}"))
                .help(format!("it has {}, counted from 0", list.len()))),
        },
        (Step::Every, Some(Value::Mapping(mapping))) => {
            mapping.iter().try_for_each(|(key, node)| {
                go(Some(node), key.as_str().unwrap_or_default().to_owned(), places)
            })
        }
        (Step::Every, Some(Value::Sequence(list))) => list
            .iter()
            .enumerate()
            .try_for_each(|(item, node)| go(Some(node), item.to_string(), places)),
        (Step::Item(_) | Step::Every, None) => Err(Fault::new(format!("there is no `{here}`"))
            .help("name the key where the file has it; what is inherited is written elsewhere")),
        (Step::Item(_), Some(_)) => Err(Fault::new(format!("`{here}` is not a list"))),
        (_, Some(_)) => Err(Fault::new(format!("`{here}` has no keys of its own"))
            .help("write what is in short form in its long one")),
    }
}

fn unknown(kind: &str, name: &str, known: &Mapping) -> Fault {
    let known: Vec<_> = known.keys().filter_map(Value::as_str).collect();
    let fault = Fault::new(format!("no {kind} is called `{name}`"));
    match did_you_mean(name, known.iter().copied()) {
        Some(meant) => fault.help(format!("did you mean `{meant}`?")),
        None => fault.help(format!("known: {}", known.join(", "))),
    }
}

/// Steps as a path: numbers are items.
fn written(steps: &[String]) -> String {
    dotted(&pointer(steps))
}

/// Puts a value at a place that [`places`] has found.
pub fn put(tree: &mut Value, place: &[String], value: Value) {
    let Some((step, rest)) = place.split_first() else {
        *tree = value;
        return;
    };
    if tree.is_null() {
        *tree = Value::Mapping(Mapping::new());
    }
    if let Value::Mapping(mapping) = &mut *tree
        && !mapping.contains_key(step.as_str())
    {
        mapping.insert(step.as_str().into(), Value::Null);
    }
    if let Some(node) = child(tree, step) {
        put(node, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "
guests: { left: , right: { nics: [{ switch: sw0 }, { switch: sw1 }] } }
links: [a -- b]
bench: { throughput: { from: left } }
";

    fn tree() -> Value {
        serde_yaml::from_str(TREE).unwrap()
    }

    fn found(key: &str) -> Vec<String> {
        places(&tree(), key).unwrap().iter().map(|place| written(place)).collect()
    }

    #[test]
    fn a_key_stands_for_all_places_it_names() {
        assert_eq!(found("ring"), ["guests.left.ring", "guests.right.ring"]);
        assert_eq!(found("guests.*.spin"), ["guests.left.spin", "guests.right.spin"]);
        assert_eq!(found("throughput.frame"), ["bench.throughput.frame"]);
        assert_eq!(found("guests.right.nics[1].loss"), ["guests.right.nics[1].loss"]);
        assert_eq!(found("guests.right.nics[*].loss").len(), 2);
        assert_eq!(found("optimizations.csb"), ["optimizations.csb"], "made if it is not there");
    }

    #[test]
    fn what_leads_nowhere_says_why() {
        for (key, message) in [
            ("guests.lfet.ring", "no guest is called `lfet`"),
            ("guests.left.nics[0].loss", "there is no `guests.left.nics`"),
            ("guests.right.nics.loss", "`guests.right.nics` is a list"),
            ("guests.right.nics[2].loss", "`guests.right.nics` has no item 2"),
            ("links[0].delay", "`links[0]` has no keys of its own"),
            ("rr.frame", "is about a trial that is not there"),
            ("bench.rounds", "is the same in all cells"),
            ("name", "is the same in all cells"),
            ("a..b", "not a key of the file"),
            ("a[x]", "not a key of the file"),
            ("a[0", "not a key of the file"),
            ("", "not a key of the file"),
            (&format!("a{}", ".b".repeat(64)), "leads deeper than a file can"),
            (&format!("a{}", "[0]".repeat(64)), "leads deeper than a file can"),
        ] {
            assert_eq!(places(&tree(), key).unwrap_err().message, message, "{key}");
        }
    }

    #[test]
    fn a_value_is_put_where_none_was_and_where_one_was() {
        let mut tree = tree();
        for key in ["guests.*.ring", "bench.throughput.from", "guests.right.nics[0].switch"] {
            for place in places(&tree, key).unwrap() {
                put(&mut tree, &place, key.into());
            }
        }
        assert_eq!(tree["guests"]["left"]["ring"], "guests.*.ring");
        assert_eq!(tree["guests"]["right"]["nics"][0]["switch"], "guests.right.nics[0].switch");
        assert_eq!(tree["guests"]["right"]["nics"][1]["switch"], "sw1");
        assert_eq!(tree["bench"]["throughput"]["from"], "bench.throughput.from");
    }
}
