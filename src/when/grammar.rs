//! How conditions are written: from a text to its parts.

use super::condition::{Arithmetic, Comparison, Node, Operator, negated};
use crate::scalar::Number;

/// The most operators and parentheses of a condition. Each is at most one level of nesting, so this
/// bounds how deep the parser, and whoever walks through what it made, can get.
const MOST_OPERATORS: usize = 256;

/// Every operator with two sides and how strongly it binds. None comes after one that it starts with.
const OPERATORS: [(&str, u8, Operator); 13] = [
    ("||", 0, Operator::Or),
    ("&&", 1, Operator::And),
    ("==", 2, Operator::Compare(Comparison::Equal)),
    ("!=", 2, Operator::Compare(Comparison::NotEqual)),
    ("<=", 3, Operator::Compare(Comparison::LessOrEqual)),
    (">=", 3, Operator::Compare(Comparison::GreaterOrEqual)),
    ("<", 3, Operator::Compare(Comparison::Less)),
    (">", 3, Operator::Compare(Comparison::Greater)),
    ("+", 4, Operator::Compute(Arithmetic::Add)),
    ("-", 4, Operator::Compute(Arithmetic::Subtract)),
    ("*", 5, Operator::Compute(Arithmetic::Multiply)),
    ("/", 5, Operator::Compute(Arithmetic::Divide)),
    ("%", 5, Operator::Compute(Arithmetic::Remainder)),
];

/// What takes the place of something that is typed by mistake.
const HINTS: [(&str, &str); 4] = [
    ("=", "'==' compares"),
    ("&", "'&&' is 'and'"),
    ("|", "'||' is 'or'"),
    ("->", "it joins two names, without blanks"),
];

/// A mistake in a condition.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// Something else stands where an operator should.
    #[error("'{found}' at column {column} is no operator: {hint}")]
    NoOperator {
        /// What does.
        found: String,
        /// Where.
        column: usize,
        /// What could be meant.
        hint: &'static str,
    },
    /// Nothing to compute with.
    #[error("at column {0} a number or a target is missing")]
    NoOperand(usize),
    /// It starts as one.
    #[error("'{found}' at column {column} is no number")]
    NoNumber {
        /// The text.
        found: String,
        /// Where it starts.
        column: usize,
    },
    /// A parenthesis or quote without its end.
    #[error("'{opened}' at column {column} is never closed")]
    Unclosed {
        /// How it starts.
        opened: char,
        /// Where.
        column: usize,
    },
    /// An end of nothing.
    #[error("')' at column {0} closes nothing")]
    Unopened(usize),
    /// Too much of it.
    #[error("it has more than {MOST_OPERATORS} operators and parentheses")]
    TooMany,
}

/// What `text` is, and the targets in it.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<String>), Mistake> {
    let mut parser = Parser { text, rest: text, operators: 0, targets: Vec::new() };
    let root = parser.expression(0)?;
    match parser.rest.is_empty() {
        true => Ok((root, parser.targets)),
        false => Err(Mistake::Unopened(parser.column())),
    }
}

struct Parser<'t> {
    text: &'t str,
    /// What of it is still to be read.
    rest: &'t str,
    /// How many of them have been read, parentheses among them.
    operators: usize,
    targets: Vec<String>,
}

impl<'t> Parser<'t> {
    /// All that is joined by operators of level `weakest` and above.
    fn expression(&mut self, weakest: u8) -> Result<Node, Mistake> {
        let mut left = self.operand()?;
        while let Some((sign, level, operator)) = self.operator()? {
            if level < weakest {
                break;
            }
            self.pass(sign.len())?;
            let right = self.expression(level + 1)?;
            left = Node::Binary(operator, Box::new((left, right)));
        }
        Ok(left)
    }

    /// The operator that comes next; None at the end of the text or of a parenthesis.
    fn operator(&mut self) -> Result<Option<(&'static str, u8, Operator)>, Mistake> {
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() || self.rest.starts_with(')') {
            return Ok(None);
        }
        let known = OPERATORS.iter().find(|(sign, ..)| self.rest.starts_with(sign));
        let known = known.filter(|_| !self.rest.starts_with("->"));
        known.map(|operator| Some(*operator)).ok_or_else(|| self.no_operator())
    }

    fn operand(&mut self) -> Result<Node, Mistake> {
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next().unwrap_or_default();
        match first {
            '!' => {
                self.pass(1)?;
                Ok(Node::Not(Box::new(self.operand()?)))
            }
            '-' => self.minus(),
            '(' if cast_length(self.rest).is_none() => self.parenthesis(),
            '"' => self.quoted(),
            '.' | '0'..='9' => self.number(),
            _ => self.target(),
        }
    }

    fn minus(&mut self) -> Result<Node, Mistake> {
        self.pass(1)?;
        let inner = self.operand()?;
        let constant = if let Node::Constant(number) = inner { negated(number) } else { None };
        Ok(constant.map_or_else(|| Node::Minus(Box::new(inner)), Node::Constant))
    }

    fn parenthesis(&mut self) -> Result<Node, Mistake> {
        let column = self.column();
        self.pass(1)?;
        let inner = self.expression(0)?;
        let rest = self.rest.strip_prefix(')');
        self.rest = rest.ok_or(Mistake::Unclosed { opened: '(', column })?;
        Ok(inner)
    }

    fn quoted(&mut self) -> Result<Node, Mistake> {
        let column = self.column();
        let inner = self.rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        let (name, rest) = inner.ok_or(Mistake::Unclosed { opened: '"', column })?;
        if name.is_empty() {
            return Err(Mistake::NoOperand(column));
        }
        self.rest = rest;
        Ok(self.target_named(name))
    }

    fn number(&mut self) -> Result<Node, Mistake> {
        let column = self.column();
        let found = self.take(number_length(self.rest));
        let wrong = || Mistake::NoNumber { found: found.to_owned(), column };
        number(found).map(Node::Constant).ok_or_else(wrong)
    }

    fn target(&mut self) -> Result<Node, Mistake> {
        let length = target_length(self.rest).ok_or_else(|| Mistake::NoOperand(self.column()))?;
        Ok(match self.take(length) {
            "nan" => Node::Constant(Number::Real(f64::NAN)),
            "inf" => Node::Constant(Number::Real(f64::INFINITY)),
            name => self.target_named(name),
        })
    }

    fn target_named(&mut self, name: &str) -> Node {
        let known = self.targets.iter().position(|own| own == name);
        Node::Target(known.unwrap_or_else(|| {
            self.targets.push(name.to_owned());
            self.targets.len() - 1
        }))
    }

    /// The next `length` bytes.
    fn take(&mut self, length: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// Leaves an operator behind.
    fn pass(&mut self, length: usize) -> Result<(), Mistake> {
        self.take(length);
        self.operators += 1;
        if self.operators > MOST_OPERATORS { Err(Mistake::TooMany) } else { Ok(()) }
    }

    /// Where the rest starts, in letters, from 1 on.
    fn column(&self) -> usize {
        self.text.chars().count() - self.rest.chars().count() + 1
    }

    fn no_operator(&self) -> Mistake {
        let first = self.rest.chars().next().map_or(0, char::len_utf8);
        let length =
            if self.rest.starts_with("->") { 2 } else { name_length(self.rest).max(first) };
        let found = self.rest.get(..length).unwrap_or_default().replace(char::is_control, " ");
        let hint = HINTS.iter().find(|(sign, _)| *sign == found).map(|(_, hint)| *hint);
        let hint = hint.unwrap_or("a target that holds blanks or signs stands in double quotes");
        Mistake::NoOperator { found, column: self.column(), hint }
    }
}

/// Bytes of the target at the start of `text`: stars, a cast, a name or address, and its path.
fn target_length(text: &str) -> Option<usize> {
    let body = text.trim_start_matches('*');
    let body = body.get(cast_length(body).unwrap_or(0)..)?;
    let mut rest = starts_root(body).then_some(body)?;
    loop {
        let length = step_length(rest);
        if length == 0 {
            return Some(text.len() - rest.len());
        }
        rest = rest.get(length..)?;
    }
}

/// Bytes of the cast at the start of `text`: `(NAME)` or `(NAME *)`, and at once what is cast.
fn cast_length(text: &str) -> Option<usize> {
    let (name, rest) = text.strip_prefix('(')?.split_once(')')?;
    let bare = name.trim_end_matches(['*', ' ']).trim_start();
    let is_name = starts_name(bare) && bare.chars().all(|letter| in_name(letter) || letter == ' ');
    (is_name && starts_root(rest)).then(|| text.len() - rest.len())
}

/// Bytes of the name, `->` or `[INDEX]` at the start of `text`; 0 where none is.
fn step_length(text: &str) -> usize {
    let arrow = text.strip_prefix("->").filter(|rest| starts_name(rest)).map(|_| 2);
    arrow.or_else(|| index_length(text)).unwrap_or_else(|| name_length(text))
}

fn index_length(text: &str) -> Option<usize> {
    let (index, rest) = text.strip_prefix('[')?.split_once(']')?;
    let is_index = index.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    (is_index && !index.is_empty()).then(|| text.len() - rest.len())
}

fn name_length(text: &str) -> usize {
    text.find(|letter| !in_name(letter)).unwrap_or(text.len())
}

/// Names of symbols, with what stands before and behind them: `libm.so.6:signgam@GLIBC_2.2.5`.
fn in_name(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '$' | '.' | ':' | '@')
}

fn starts_name(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_alphabetic() || matches!(letter, '_' | '$'))
}

fn starts_root(text: &str) -> bool {
    starts_name(text) || text.starts_with("0x")
}

/// Bytes of the number at the start of `text`, and of what wrongly follows it at once.
fn number_length(text: &str) -> usize {
    let mut last = ' ';
    let ends = |letter| {
        let exponent = matches!(last, 'e' | 'E') && !is_hexadecimal(text);
        last = letter;
        !(in_name(letter) || exponent && matches!(letter, '+' | '-'))
    };
    text.find(ends).unwrap_or(text.len())
}

fn is_hexadecimal(text: &str) -> bool {
    text.starts_with("0x") || text.starts_with("0X")
}

fn number(text: &str) -> Option<Number> {
    if is_hexadecimal(text) {
        return i128::from_str_radix(text.get(2..)?, 16).ok().map(Number::Whole);
    }
    if text.chars().all(|letter| letter.is_ascii_digit()) {
        return text.parse().ok().map(Number::Whole);
    }
    text.parse().ok().filter(|real: &f64| real.is_finite()).map(Number::Real)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Vec<String> {
        parse(text).unwrap().1
    }

    #[test]
    fn a_target_is_all_that_belongs_to_it() {
        let whole = [
            "niters",
            "libm.so.6:signgam",
            "app::config.limits[0]",
            "A->list_of_vals[17]",
            "**rows",
            "(double)0x4c1008",
            "(struct config *)p->dims[1]",
            "(unsigned long)x",
            "*(struct config **)p",
            "*0x4c1008",
            "memcpy@GLIBC_2.2.5",
            "größe",
        ];
        for text in whole {
            assert_eq!(targets(text), [text]);
            assert_eq!(targets(&format!("-({text} )+ 1<{text}")), [text]);
        }
        assert_eq!(targets("\"std::map<a, b>::x\"+y"), ["std::map<a, b>::x", "y"]);
        assert_eq!(targets("\"0x4c1008\" == 0x4c1008"), ["0x4c1008"]);
    }

    #[test]
    fn signs_that_targets_hold_too() {
        assert_eq!(targets("a->b-c->d"), ["a->b", "c->d"]);
        assert_eq!(targets("a**p"), ["a", "*p"]);
        assert_eq!(targets("(a)*b"), ["a", "b"]);
        assert_eq!(targets("(a)-b"), ["a", "b"]);
        assert_eq!(targets("(a) == (b)"), ["a", "b"]);
        assert_eq!(targets("x+8"), ["x"]);
        assert_eq!(targets("nan == inf"), [""; 0]);
    }

    #[test]
    fn numbers() {
        let constant = |text| parse(text).unwrap().0;
        for (text, whole) in [("40", 40), ("-7", -7), ("0x1E", 30), ("0X10", 16), ("--7", 7)] {
            assert_eq!(constant(text), Node::Constant(Number::Whole(whole)), "{text}");
        }
        for (text, real) in
            [("1e-3", 1e-3), (".5", 0.5), ("-2.", -2.0), ("-inf", f64::NEG_INFINITY)]
        {
            assert_eq!(constant(text), Node::Constant(Number::Real(real)), "{text}");
        }
        assert_eq!(targets("0x1e-x"), ["x"]);
    }

    #[test]
    fn mistakes_say_what_and_where() {
        let mistakes = [
            ("niters = 40", "'=' at column 8 is no operator: '==' compares"),
            ("ä & b", "'&' at column 3 is no operator: '&&' is 'and'"),
            ("a ->b", "'->' at column 3 is no operator: it joins two names, without blanks"),
            (
                "a big",
                "'big' at column 3 is no operator: a target that holds blanks or signs stands in double quotes",
            ),
            ("a[b", "'[' at column 2 is no operator"),
            ("a ==", "at column 5 a number or a target is missing"),
            ("", "at column 1 a number or a target is missing"),
            ("a < < b", "at column 5 a number or a target is missing"),
            ("\"\"", "at column 1 a number or a target is missing"),
            ("a < 40u", "'40u' at column 5 is no number"),
            ("a < 1e400", "'1e400' at column 5 is no number"),
            ("0x4c1008->x", "'->' at column 9 is no operator"),
            ("0x4c1008.x", "'0x4c1008.x' at column 1 is no number"),
            ("(a", "'(' at column 1 is never closed"),
            ("a == \"b", "'\"' at column 6 is never closed"),
            ("(a))", "')' at column 4 closes nothing"),
        ];
        for (text, expected) in mistakes {
            let said = parse(text).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{text}: {said}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let most = |open: &str, close: &str, count| {
            format!("{}a{}", open.repeat(count), close.repeat(count))
        };
        for (open, close) in [("(", ")"), ("!", ""), ("-", ""), ("a+", ""), ("", "||a")] {
            assert!(parse(&most(open, close, MOST_OPERATORS)).is_ok(), "{open}");
            assert_eq!(parse(&most(open, close, MOST_OPERATORS + 1)), Err(Mistake::TooMany));
        }
    }
}
