//! The language of assertions: text to a tree, and where each part is in the text.
//!
//! ```text
//! assertion  = sum ( "<" | "<=" | "=" | ">=" | ">" ) sum
//! sum        = product { ( "+" | "-" ) product }
//! product    = factor { ( "*" | "/" ) factor }
//! factor     = number [ unit ] | figure | "(" sum ")"
//! figure     = [ cell "." ] metric
//! cell       = name | "[" key "=" value { "," key "=" value } "]"
//! ```
//!
//! A `-` inside of a word belongs to it, as in `all-on`; the operator has white space around it.

use std::ops::Range;

use crate::error::did_you_mean;
use crate::topology::{Dimension, Metric, Operator, Relation};

/// A part of a text that makes no sense.
#[derive(Debug, PartialEq)]
pub struct Mistake {
    /// Bytes of the text.
    pub part: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

impl Mistake {
    pub fn new(part: Range<usize>, message: impl Into<String>) -> Self {
        Self { part, message: message.into(), help: None }
    }

    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// A part of an assertion.
#[derive(Debug, PartialEq)]
pub struct Part {
    pub part: Range<usize>,
    pub what: What,
}

#[derive(Debug, PartialEq)]
pub enum What {
    /// In basic units; a zero without one has any.
    Number(f64, Option<Dimension>),
    Figure(Who, Metric),
    Operation(Box<Part>, Operator, Box<Part>),
}

/// The cells that a figure is of.
#[derive(Debug, PartialEq)]
pub enum Who {
    /// Each.
    Each,
    /// The one with this name, and where the text has it.
    Name(String, Range<usize>),
    /// Those of the matrix with these settings.
    Settings(Vec<Condition>),
}

/// `key=value` and where the text has both.
#[derive(Debug, PartialEq)]
pub struct Condition {
    pub key: String,
    pub key_at: Range<usize>,
    pub value: String,
    pub value_at: Range<usize>,
}

/// Units and what they are in basic ones: a factor and a power of ten.
const UNITS: [(&str, f64, i8, Dimension); 14] = [
    ("Mpps", 1.0, 6, Dimension::PACKETS),
    ("kpps", 1.0, 3, Dimension::PACKETS),
    ("pps", 1.0, 0, Dimension::PACKETS),
    ("ns", 1.0, -9, Dimension::TIME),
    ("us", 1.0, -6, Dimension::TIME),
    ("ms", 1.0, -3, Dimension::TIME),
    ("s", 1.0, 0, Dimension::TIME),
    ("min", 60.0, 0, Dimension::TIME),
    ("h", 3600.0, 0, Dimension::TIME),
    ("bit", 1.0, 0, Dimension::BITS),
    ("kbit", 1.0, 3, Dimension::BITS),
    ("Mbit", 1.0, 6, Dimension::BITS),
    ("Gbit", 1.0, 9, Dimension::BITS),
    ("%", 1.0, -2, Dimension::NONE),
];

/// Most bytes of an assertion. Its tree is walked recursively, and a sum of n terms is n deep.
const LENGTH_MAX: usize = 1000;

/// Most brackets that are open at once.
const DEPTH_MAX: usize = 32;

/// Reads a comparison.
///
/// # Errors
/// The first part that makes no sense, or where it becomes too much.
pub fn parse(text: &str) -> Result<(Part, Relation, Part), Mistake> {
    if text.len() > LENGTH_MAX {
        let rest = text.ceil_char_boundary(LENGTH_MAX)..text.len();
        return Err(Mistake::new(rest, format!("longer than {LENGTH_MAX} bytes"))
            .help("make it several assertions"));
    }
    let mut reader = Reader { text, at: 0, depth: 0 };
    let left = reader.sum()?;
    let relation = reader.relation()?;
    let right = reader.sum()?;
    reader.skip_space();
    if reader.at < text.len() {
        let rest = reader.at..text.trim_end().len();
        return Err(match reader.relation() {
            Ok(_) => Mistake::new(rest, "one comparison at a time").help("make it two assertions"),
            Err(_) => Mistake::new(rest, "expected the end"),
        });
    }
    Ok((left, relation, right))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Brackets that are open.
    depth: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Takes `token`, if it is next.
    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    /// What is next, as a mistake.
    fn unexpected(&mut self, expected: &str) -> Mistake {
        self.skip_space();
        let next = self.word().len().max(self.rest().chars().next().map_or(0, char::len_utf8));
        Mistake::new(self.at..self.at + next, format!("expected {expected}"))
    }

    fn relation(&mut self) -> Result<Relation, Mistake> {
        // Longer ones first.
        let relations = [
            ("<=", Relation::LessOrEqual),
            (">=", Relation::GreaterOrEqual),
            ("==", Relation::Equal),
            ("<", Relation::Less),
            (">", Relation::Greater),
            ("=", Relation::Equal),
        ];
        let found = relations.into_iter().find(|(token, _)| self.take(token));
        let expected = "a comparison: <, <=, =, >= or >";
        found.map(|(_, relation)| relation).ok_or_else(|| self.unexpected(expected))
    }

    fn sum(&mut self) -> Result<Part, Mistake> {
        self.chain(&[("+", Operator::Add), ("-", Operator::Subtract)], Self::product)
    }

    fn product(&mut self) -> Result<Part, Mistake> {
        self.chain(&[("*", Operator::Multiply), ("/", Operator::Divide)], Self::factor)
    }

    fn chain(
        &mut self,
        operators: &[(&str, Operator)],
        operand: fn(&mut Self) -> Result<Part, Mistake>,
    ) -> Result<Part, Mistake> {
        let mut left = operand(self)?;
        while let Some((_, operator)) = operators.iter().find(|(token, _)| self.take(token)) {
            let right = operand(self)?;
            let part = left.part.start..right.part.end;
            left = Part { part, what: What::Operation(left.into(), *operator, right.into()) };
        }
        Ok(left)
    }

    fn factor(&mut self) -> Result<Part, Mistake> {
        self.skip_space();
        let start = self.at;
        let what = if self.take("(") {
            if self.depth == DEPTH_MAX {
                let message = format!("nested more than {DEPTH_MAX} deep");
                return Err(Mistake::new(start..self.at, message));
            }
            self.depth += 1;
            let inner = self.sum()?;
            self.depth -= 1;
            if !self.take(")") {
                return Err(self.unexpected("`)`"));
            }
            inner.what
        } else if self.take("[") {
            let settings = self.settings(start)?;
            if !self.rest().starts_with('.') {
                return Err(self.unexpected("a metric, as in `[csb=on].throughput`"));
            }
            self.at += 1;
            let name = self.word();
            let metric = metric(name, self.at)?;
            self.at += name.len();
            What::Figure(Who::Settings(settings), metric)
        } else {
            let word = self.word();
            self.at += word.len();
            match word.as_bytes().first() {
                None => return Err(self.unexpected("a number or a figure")),
                Some(first) if first.is_ascii_digit() => match self.number(word, start)? {
                    Some(number) => number,
                    None => figure(word, start)?,
                },
                Some(_) => figure(word, start)?,
            }
        };
        Ok(Part { part: start..self.at, what })
    }

    /// The word that is next; empty if there is none.
    fn word(&self) -> &'a str {
        let in_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '%' | '-');
        let rest = self.rest();
        let word = &rest[..rest.find(|c| !in_word(c)).unwrap_or(rest.len())];
        // Neither can begin one.
        if word.starts_with(['-', '.', '%']) { "" } else { word }
    }

    /// A number and its unit; `None` if it is a name that begins with a digit.
    fn number(&mut self, word: &str, start: usize) -> Result<Option<What>, Mistake> {
        let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
        let (number, mut unit) = word.split_at(end);
        if unit.contains(['.', '-']) {
            return Ok(None);
        }
        let mistake = |message| Mistake::new(start..start + word.len(), message);
        let value: f64 = number.parse().map_err(|_| mistake("not a number".to_owned()))?;
        if unit.is_empty() {
            // As in the file, there may be a space before it.
            let before = self.at;
            self.skip_space();
            let next = self.word();
            if UNITS.iter().any(|(known, ..)| *known == next) {
                self.at += next.len();
                unit = next;
            } else {
                self.at = before;
            }
        }
        if unit.is_empty() {
            let dimension = (value != 0.0).then_some(Dimension::NONE);
            return Ok(Some(What::Number(value, dimension)));
        }
        let known = UNITS.iter().map(|(known, ..)| *known);
        match UNITS.iter().find(|(known, ..)| *known == unit) {
            Some((_, factor, power, dimension)) => {
                // 200us are 0.0002 s, and not what a multiplication makes of them.
                let value: f64 = format!("{number}e{power}").parse().unwrap_or(value);
                Ok(Some(What::Number(value * factor, Some(*dimension))))
            }
            None => {
                let mistake = mistake(format!("no unit is called `{unit}`"));
                Err(match did_you_mean(unit, known.clone()) {
                    Some(meant) => mistake.help(format!("did you mean `{number}{meant}`?")),
                    None => {
                        mistake.help(format!("known: {}", known.collect::<Vec<_>>().join(", ")))
                    }
                })
            }
        }
    }

    /// The inside of brackets, and the closing one.
    fn settings(&mut self, start: usize) -> Result<Vec<Condition>, Mistake> {
        let Some(length) = self.rest().find(']') else {
            return Err(Mistake::new(start..self.text.trim_end().len(), "expected `]`"));
        };
        let inside = &self.rest()[..length];
        let mut conditions = Vec::new();
        for condition in inside.split(',') {
            let at = self.at;
            let spans = |text: &str, offset: usize| {
                let start = at + offset + text.len() - text.trim_start().len();
                (text.trim().to_owned(), start..start + text.trim().len())
            };
            let Some((key, value)) = condition.split_once('=') else {
                let (_, part) = spans(condition, 0);
                return Err(Mistake::new(part, "expected a setting, such as `csb=on`"));
            };
            let (value, value_at) = spans(value, key.len() + 1);
            let (key, key_at) = spans(key, 0);
            conditions.push(Condition { key, key_at, value, value_at });
            self.at += condition.len() + 1;
        }
        Ok(conditions)
    }
}

/// `metric` or `cell.metric`.
fn figure(word: &str, at: usize) -> Result<What, Mistake> {
    if let Some(metric) = Metric::find(word) {
        return Ok(What::Figure(Who::Each, metric));
    }
    let Some((cell, name)) = word.split_once('.') else {
        metric(word, at)?;
        return Err(Mistake::new(at..at + word.len(), "expected a figure"));
    };
    let metric = metric(name, at + cell.len() + 1)?;
    Ok(What::Figure(Who::Name(cell.to_owned(), at..at + cell.len()), metric))
}

fn metric(name: &str, at: usize) -> Result<Metric, Mistake> {
    let known = Metric::NAMES.into_iter().map(|(known, _)| known);
    Metric::find(name).ok_or_else(|| {
        let mistake = Mistake::new(at..at + name.len(), format!("no metric is called `{name}`"));
        match did_you_mean(name, known.clone()) {
            Some(meant) => mistake.help(format!("did you mean `{meant}`?")),
            None => mistake.help(format!("known: {}", known.collect::<Vec<_>>().join(", "))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree as fully bracketed text.
    fn shown(part: &Part) -> String {
        match &part.what {
            What::Number(number, _) => number.to_string(),
            What::Figure(who, metric) => match who {
                Who::Each => format!("{metric:?}"),
                Who::Name(name, _) => format!("{name}:{metric:?}"),
                Who::Settings(settings) => {
                    let each = |c: &Condition| format!("{}={}", c.key, c.value);
                    format!("{:?}:{metric:?}", settings.iter().map(each).collect::<Vec<_>>())
                }
            },
            What::Operation(left, operator, right) => {
                let sign = match operator {
                    Operator::Add => '+',
                    Operator::Subtract => '-',
                    Operator::Multiply => '*',
                    Operator::Divide => '/',
                };
                format!("({} {sign} {})", shown(left), shown(right))
            }
        }
    }

    #[test]
    fn comparisons_are_read() {
        for (text, left, relation, right) in [
            ("loss = 0", "Loss", "=", "0"),
            ("loss==0.1%", "Loss", "=", "0.001"),
            (
                "all-on.throughput >= 10 * all-off.throughput",
                "all-on:Throughput",
                ">=",
                "(10 * all-off:Throughput)",
            ),
            ("a.rr.p99 <= 200us", "a:RrP99", "<=", "0.0002"),
            ("a.rr<2 ms", "a:Rr", "<", "0.002"),
            ("2-guests.jain > 0.9", "2-guests:Jain", ">", "0.9"),
            (
                "[itr=on, throughput.frame=60].loss = 0",
                "[\"itr=on\", \"throughput.frame=60\"]:Loss",
                "=",
                "0",
            ),
            (
                "1 + 2 * 3 - 4 / 2 > (1 - loss) * 2",
                "((1 + (2 * 3)) - (4 / 2))",
                ">",
                "((1 - Loss) * 2)",
            ),
            ("a-b.rr - c.rr <= 1us", "(a-b:Rr - c:Rr)", "<=", "0.000001"),
            ("goodput >= 9.5Gbit", "Goodput", ">=", "9500000000"),
        ] {
            let (l, r, right_side) =
                parse(text).unwrap_or_else(|mistake| panic!("{text}: {mistake:?}"));
            assert_eq!(
                (shown(&l).as_str(), r.as_str(), shown(&right_side).as_str()),
                (left, relation, right)
            );
        }
    }

    #[test]
    fn a_mistake_is_where_it_is() {
        for (text, part, message) in [
            ("", "", "expected a number or a figure"),
            ("loss", "", "expected a comparison: <, <=, =, >= or >"),
            ("loss =", "", "expected a number or a figure"),
            ("loss = 0 0", "0", "expected the end"),
            ("0 < loss < 1", "< 1", "one comparison at a time"),
            ("all-on.thruput > 0", "thruput", "no metric is called `thruput`"),
            ("througput > 0", "througput", "no metric is called `througput`"),
            ("rr < 5 u", "u", "expected the end"),
            ("rr < 5us us", "us", "expected the end"),
            ("rr < 5usec", "5usec", "no unit is called `usec`"),
            ("rr < 1.2.3", "1.2.3", "not a number"),
            ("(loss = 0", "=", "expected `)`"),
            ("[csb=on.loss = 0", "[csb=on.loss = 0", "expected `]`"),
            ("[csb].loss = 0", "csb", "expected a setting, such as `csb=on`"),
            ("[csb=on] = 0", "=", "expected a metric, as in `[csb=on].throughput`"),
            ("loss ≤ 1", "≤", "expected a comparison: <, <=, =, >= or >"),
            ("-1 < loss", "-", "expected a number or a figure"),
        ] {
            let mistake = parse(text).expect_err(text);
            assert_eq!(
                (&text[mistake.part.clone()], mistake.message.as_str()),
                (part, message),
                "{text}"
            );
        }
    }

    #[test]
    fn what_would_not_fit_on_the_stack_is_refused() {
        let nested = |depth: usize| format!("{}loss{} = 0", "(".repeat(depth), ")".repeat(depth));
        assert!(parse(&nested(DEPTH_MAX)).is_ok());
        let mistake = parse(&nested(DEPTH_MAX + 1)).unwrap_err();
        assert_eq!(mistake.part, DEPTH_MAX..DEPTH_MAX + 1);
        assert_eq!(mistake.message, "nested more than 32 deep");
        let long = |length: usize| "loss = 0".to_owned() + &" + 0".repeat((length - 8) / 4);
        assert!(parse(&long(LENGTH_MAX)).is_ok());
        let mistake = parse(&long(LENGTH_MAX + 4)).unwrap_err();
        assert_eq!(mistake.message, "longer than 1000 bytes");
        // The limit may be within a character.
        assert!(parse(&"é".repeat(LENGTH_MAX)).is_err());
        assert!(parse(&format!("1{}", "é".repeat(LENGTH_MAX))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in r"([a-z0-9.%=<>*/()\[\], +-]|loss|throughput|é){0,30}") {
            if let Err(mistake) = parse(&text) {
                proptest::prop_assert!(text.get(mistake.part).is_some());
            }
        }
    }
}
