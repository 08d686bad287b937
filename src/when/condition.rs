//! Conditions over the victim's variables, such as `niters == 40 && normr < 1e-3`.
//!
//! ```text
//! ||   &&   == !=   < <= > >=   + -   * / %   unary ! -   ( )
//! ```
//!
//! Operators are those of C, with its precedence, the weakest first. Operands are numbers (decimal,
//! 0x, 1e-3, `nan`, `inf`) and targets, which are written as everywhere, but for three things:
//!
//! - One that holds blanks or operators stands in double quotes: `"ld-linux-x86-64.so.2:_r_debug"`.
//!   So does the address alone, `"0x4c1008"`, which is a number without them.
//! - `+N` at its end is arithmetic.
//! - `(NAME)` and `(NAME *)` are a cast where a name or address follows at once, as in `(double)x`.
//!   `(a) - b` and `(a) * b` are computations.
//!
//! Whole numbers are computed exactly; where one of two is not whole, both are taken for `double`.
//! What is neither a comparison nor logic holds when it is not 0.

use super::grammar::{self, Mistake};
use crate::scalar::Number;
use std::fmt;

/// Longer texts are no conditions.
const LONGEST: usize = 4096;

/// A condition over targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    targets: Vec<String>,
    root: Node,
}

/// What is no condition.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// Too much of it.
    #[error("a condition has at most {LONGEST} bytes, and this one {0}")]
    TooLong(usize),
    /// Nothing in it can change.
    #[error("'{0}' names no variable of the victim: it would never change")]
    NoTarget(String),
    /// It is not written as one.
    #[error("'{text}': {mistake}")]
    Mistake {
        /// The text, on one line.
        text: String,
        /// What is wrong with it.
        mistake: Mistake,
    },
}

/// How far a condition is from holding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// It may hold at any moment.
    Unknown,
    /// It holds no sooner than when a target's value has gone that far.
    Far {
        /// The target, an index into those of the condition.
        target: usize,
        /// How many times the value must change by one.
        steps: u64,
    },
}

/// A part of a condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Constant(Number),
    /// An index into the targets.
    Target(usize),
    Not(Box<Node>),
    Minus(Box<Node>),
    Binary(Operator, Box<(Node, Node)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Compare(Comparison),
    Compute(Arithmetic),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Condition {
    /// The condition that `text` is.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        if text.len() > LONGEST {
            return Err(ConditionError::TooLong(text.len()));
        }
        let one_line = || text.replace(char::is_control, " ");
        let (root, targets) = grammar::parse(text)
            .map_err(|mistake| ConditionError::Mistake { text: one_line(), mistake })?;
        if targets.is_empty() {
            return Err(ConditionError::NoTarget(one_line()));
        }
        Ok(Self { text: text.to_owned(), targets, root })
    }

    /// Each target once, in the order in which they appear.
    pub fn targets(&self) -> &[String] {
        &self.targets
    }

    /// Whether it holds, where `read` gives the value of each target, by its index. None where one
    /// that decides cannot be read now, or where whole numbers overflow or are divided by 0.
    pub fn holds(&self, read: &mut impl FnMut(usize) -> Option<Number>) -> Option<bool> {
        self.root.holds(read)
    }

    /// How far it is from holding, with the targets' values as they are now.
    pub fn distance(&self, values: impl Fn(usize) -> Option<Number>) -> Distance {
        self.root.distance(&values)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Each part is either logic or a number, and asks the other way for what is not its own.
impl Node {
    fn holds(&self, read: &mut impl FnMut(usize) -> Option<Number>) -> Option<bool> {
        Some(match self {
            Self::Not(inner) => !inner.holds(read)?,
            Self::Binary(Operator::Or, pair) => pair.0.holds(read)? || pair.1.holds(read)?,
            Self::Binary(Operator::And, pair) => pair.0.holds(read)? && pair.1.holds(read)?,
            Self::Binary(Operator::Compare(comparison), pair) => {
                comparison.holds(pair.0.value(read)?, pair.1.value(read)?)
            }
            Self::Constant(_)
            | Self::Target(_)
            | Self::Minus(_)
            | Self::Binary(Operator::Compute(_), _) => match self.value(read)? {
                Number::Whole(whole) => whole != 0,
                Number::Real(real) => real != 0.0,
            },
        })
    }

    fn value(&self, read: &mut impl FnMut(usize) -> Option<Number>) -> Option<Number> {
        match self {
            Self::Constant(number) => Some(*number),
            Self::Target(index) => read(*index),
            Self::Minus(inner) => negated(inner.value(read)?),
            Self::Binary(Operator::Compute(arithmetic), pair) => {
                arithmetic.of(pair.0.value(read)?, pair.1.value(read)?)
            }
            Self::Not(_) | Self::Binary(Operator::Or | Operator::And | Operator::Compare(_), _) => {
                self.holds(read).map(|holds| Number::Whole(holds.into()))
            }
        }
    }

    fn distance(&self, values: &impl Fn(usize) -> Option<Number>) -> Distance {
        let Self::Binary(operator, pair) = self else { return Distance::Unknown };
        match (operator, &**pair) {
            (Operator::And, (left, right)) => left.distance(values).both(right.distance(values)),
            (Operator::Or, (left, right)) => left.distance(values).either(right.distance(values)),
            (Operator::Compare(comparison), (counter, Self::Constant(Number::Whole(goal)))) => {
                counter.distance_to(*comparison, *goal, values)
            }
            (Operator::Compare(comparison), (Self::Constant(Number::Whole(goal)), counter)) => {
                counter.distance_to(comparison.mirrored(), *goal, values)
            }
            _ => Distance::Unknown,
        }
    }

    /// How far this is from comparing so with `goal`.
    fn distance_to(
        &self,
        comparison: Comparison,
        goal: i128,
        values: &impl Fn(usize) -> Option<Number>,
    ) -> Distance {
        let (target, divisor) = match self {
            Self::Target(target) => (*target, None),
            Self::Binary(Operator::Compute(Arithmetic::Remainder), pair) => match &**pair {
                (Self::Target(target), Self::Constant(Number::Whole(by))) => (*target, Some(*by)),
                _ => return Distance::Unknown,
            },
            _ => return Distance::Unknown,
        };
        let Some(Number::Whole(value)) = values(target) else { return Distance::Unknown };
        let steps = match divisor {
            None => Some(comparison.steps(value, goal)),
            Some(divisor) if comparison == Comparison::Equal => {
                remainder_steps(value, divisor, goal)
            }
            Some(_) => None,
        };
        let steps = steps.map(|steps| u64::try_from(steps).unwrap_or(u64::MAX));
        steps.map_or(Distance::Unknown, |steps| Distance::Far { target, steps })
    }
}

/// How far `value`, which may count up or down, is from leaving `goal` when divided.
fn remainder_steps(value: i128, divisor: i128, goal: i128) -> Option<u128> {
    let cycle = divisor.checked_abs().filter(|cycle| (0..*cycle).contains(&goal))?;
    // The remainder of a negative number is negative.
    let now = value.checked_rem(cycle).filter(|_| value >= 0)?;
    let up = goal.checked_sub(now)?.checked_rem_euclid(cycle)?;
    let down = if up == 0 { 0 } else { cycle - up };
    Some(up.min(down).unsigned_abs())
}

impl Distance {
    /// That of two that must both hold.
    fn both(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, far) | (far, Self::Unknown) => far,
            (Self::Far { steps, .. }, Self::Far { steps: others, .. }) => {
                if steps >= others {
                    self
                } else {
                    other
                }
            }
        }
    }

    /// That of two of which one is enough. The steps of different targets cannot be compared: either
    /// may come first.
    fn either(self, other: Self) -> Self {
        match (self, other) {
            (Self::Far { target, steps }, Self::Far { target: same, steps: others })
                if target == same =>
            {
                Self::Far { target, steps: steps.min(others) }
            }
            _ => Self::Unknown,
        }
    }
}

impl Comparison {
    fn holds(self, left: Number, right: Number) -> bool {
        match (left, right) {
            (Number::Whole(left), Number::Whole(right)) => self.of(left, right),
            _ => self.of(left.real(), right.real()),
        }
    }

    fn of<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }

    /// The same with both sides exchanged.
    fn mirrored(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
        }
    }

    /// How often `value` must change by one before it compares so with `goal`.
    fn steps(self, value: i128, goal: i128) -> u128 {
        let apart = value.abs_diff(goal);
        match self {
            _ if self.of(value, goal) => 0,
            Self::Equal | Self::LessOrEqual | Self::GreaterOrEqual => apart,
            Self::NotEqual | Self::Less | Self::Greater => apart.saturating_add(1),
        }
    }
}

impl Arithmetic {
    fn of(self, left: Number, right: Number) -> Option<Number> {
        match (left, right) {
            (Number::Whole(left), Number::Whole(right)) => {
                self.of_whole(left, right).map(Number::Whole)
            }
            _ => Some(Number::Real(self.of_real(left.real(), right.real()))),
        }
    }

    fn of_whole(self, left: i128, right: i128) -> Option<i128> {
        match self {
            Self::Add => left.checked_add(right),
            Self::Subtract => left.checked_sub(right),
            Self::Multiply => left.checked_mul(right),
            Self::Divide => left.checked_div(right),
            Self::Remainder => left.checked_rem(right),
        }
    }

    fn of_real(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Remainder => left % right,
        }
    }
}

/// None where that overflows.
pub(super) fn negated(number: Number) -> Option<Number> {
    match number {
        Number::Whole(whole) => whole.checked_neg().map(Number::Whole),
        Number::Real(real) => Some(Number::Real(-real)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn condition(text: &str) -> Condition {
        Condition::parse(text).unwrap()
    }

    fn holds(text: &str, value: Number) -> Option<bool> {
        condition(text).holds(&mut |_| Some(value))
    }

    #[test]
    fn typed_as_in_c() {
        let text = "niters == 40 && normr < 1e-3";
        let own = condition(text);
        assert_eq!(
            (own.targets(), own.to_string().as_str()),
            (["niters", "normr"].map(String::from).as_slice(), text)
        );
        let with = |niters, normr| {
            own.holds(&mut |index| Some([Number::Whole(niters), Number::Real(normr)][index]))
        };
        assert_eq!(with(40, 1e-4), Some(true));
        assert_eq!(with(40, 1e-2), Some(false));
        assert_eq!(with(39, 1e-4), Some(false));
    }

    #[test]
    fn each_operator_binds_as_in_c() {
        let ways = [
            ("1 || a && 0", "1 || (a && 0)"),
            ("0 && a == 0", "0 && (a == 0)"),
            ("2 == 2 > a", "2 == (2 > a)"),
            ("2 != a < 1", "2 != (a < 1)"),
            ("1 < a + 1", "1 < (a + 1)"),
            ("1 - a * 2", "1 - (a * 2)"),
            ("8 - a - 1", "(8 - a) - 1"),
            ("8 / 2 * a", "(8 / 2) * a"),
            ("-a % 2", "(-a) % 2"),
            ("!a == 0", "(!a) == 0"),
        ];
        for (text, meant) in ways {
            assert_eq!(condition(text).root, condition(meant).root, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_asked_for_where_it_decides_nothing() {
        let mut only_first = |index| (index == 0).then_some(Number::Whole(1));
        let mut holds = |text| condition(text).holds(&mut only_first);
        assert_eq!(holds("a == 0 && b"), Some(false));
        assert_eq!(holds("a || b"), Some(true));
        assert_eq!(holds("a && b"), None);
        assert_eq!(holds("a == 0 || !b"), None);
    }

    #[test]
    fn numbers_that_are_none() {
        let most = Number::Whole(i128::MAX);
        for text in ["a + 1", "a * 2 == 0", "-a - 2", "a / 0", "a % (a - a) == 1"] {
            assert_eq!(holds(text, most), None, "{text}");
        }
        let nan = Number::Real(f64::NAN);
        for text in ["a == a", "a < 1", "a >= 1", "a == nan"] {
            assert_eq!(holds(text, nan), Some(false), "{text}");
        }
        assert_eq!(holds("a != a", nan), Some(true));
        assert_eq!(holds("1 / a == inf", Number::Real(0.0)), Some(true));
        assert_eq!(holds("a == 0.5", Number::Whole(0)), Some(false));
    }

    #[test]
    fn no_conditions() {
        let error = |text: &str| Condition::parse(text).unwrap_err().to_string();
        assert_eq!(
            error("1 < 2"),
            "'1 < 2' names no variable of the victim: it would never change"
        );
        let expected = "'niters = 40': '=' at column 8 is no operator: '==' compares";
        assert_eq!(error("niters = 40"), expected);
        assert!(!error("a\n\n%").contains('\n'));
        assert!(!error("a\n\u{1}").contains(char::is_control));
        assert_eq!(
            error(&"a".repeat(5000)),
            "a condition has at most 4096 bytes, and this one 5000"
        );
    }

    #[test]
    fn distances() {
        let far = |steps| Distance::Far { target: 0, steps };
        let distance = |text: &str, value| condition(text).distance(|_| Some(Number::Whole(value)));
        assert_eq!(distance("a == 40", 30), far(10));
        assert_eq!(distance("a == -40", 30), far(70));
        assert_eq!(distance("40 <= a", 30), far(10));
        assert_eq!(distance("a > 39", 30), far(10));
        assert_eq!(distance("a < 10", 30), far(21));
        assert_eq!(distance("a != 30", 30), far(1));
        assert_eq!(distance("a > 39", 50), far(0));
        assert_eq!(distance("a % 100 == 0", 130), far(30));
        assert_eq!(distance("a % 100 == 7", 199), far(8));
        assert_eq!(distance("a == 40 && a % 10 == 5", 30), far(10));
        assert_eq!(distance("a == 40 || a == 25", 30), far(5));
        assert_eq!(distance("a == 40 && b < 1.5", 30), far(10));
        assert_eq!(
            distance("b < 1.5 && (c + 1 > 2 && a == 40)", 30),
            Distance::Far { target: 2, steps: 10 }
        );
        assert_eq!(distance(&format!("a < {}", i128::MAX), i128::MIN), far(0));
        assert_eq!(distance(&format!("a > {}", i128::MAX), i128::MIN), far(u64::MAX));
        let unknown =
            ["a", "a == 40.0", "!(a == 40)", "a + 1 == 40", "a == b", "a == 40 || b < 1.5"];
        let of_remainders = ["a % 10 == 10", "a % 0 == 0", "a % 10 < 3", "a == 40 || b == 31"];
        for text in unknown.iter().chain(&of_remainders) {
            assert_eq!(distance(text, 30), Distance::Unknown, "{text}");
        }
        assert_eq!(distance("a % 10 == 0", -5), Distance::Unknown);
        assert_eq!(condition("a == 40").distance(|_| None), Distance::Unknown);
        let real = |_| Some(Number::Real(1.0));
        assert_eq!(condition("a == 40").distance(real), Distance::Unknown);
    }

    const TARGETS: [&str; 4] = ["niters", "b->c[2]", "*p", "(double)q"];
    const LEVELS: [&[&str]; 6] =
        [&["||"], &["&&"], &["==", "!="], &["<", "<=", ">", ">="], &["+", "-"], &["*", "/", "%"]];

    /// Tokens of an expression: operands, and operators in between.
    fn tokens() -> impl Strategy<Value = Vec<&'static str>> {
        let numbers = ["0", "1", "3", "0x1e", "1e-3", "2.5", "nan", "inf"];
        let leaf = prop::sample::select([TARGETS.as_slice(), &numbers].concat());
        let leaf = leaf.prop_map(|leaf| vec![leaf]);
        leaf.prop_recursive(5, 40, 3, |inner| {
            let joined = (inner.clone(), prop::sample::select(LEVELS.concat()), inner.clone());
            let before = (prop::sample::select(vec!["!", "-"]), inner.clone());
            prop_oneof![
                3 => joined.prop_map(|(left, sign, right)| [left, vec![sign], right].concat()),
                1 => before.prop_map(|(sign, inner)| [vec![sign], inner].concat()),
                1 => inner.prop_map(|inner| [vec!["("], inner, vec![")"]].concat()),
            ]
        })
    }

    fn values() -> impl Strategy<Value = [Option<Number>; 4]> {
        let value = prop_oneof![
            3 => (-4i128..5).prop_map(|whole| Some(Number::Whole(whole))),
            2 => (-2.0f64..3.0).prop_map(|real| Some(Number::Real(real))),
            1 => Just(Some(Number::Whole(i128::MIN))),
            1 => Just(None),
        ];
        prop::array::uniform4(value)
    }

    /// The last operator of a level that stands in no parenthesis and has an operand before it.
    fn last_of(tokens: &[&str], level: &[&str]) -> Option<usize> {
        let is_sign =
            |token: &str| token == "!" || token == "(" || LEVELS.concat().contains(&token);
        let mut depth = 0;
        (0..tokens.len()).rev().find(|&at| {
            depth += i32::from(tokens[at] == ")") - i32::from(tokens[at] == "(");
            depth == 0 && level.contains(&tokens[at]) && at > 0 && !is_sign(tokens[at - 1])
        })
    }

    /// What `tokens` come to, found from the weakest operator on.
    fn expected(tokens: &[&str], values: &[Option<Number>; 4]) -> Option<Number> {
        let value = |tokens| expected(tokens, values);
        let yes = |number: Number| number.real() != 0.0;
        let logic = |holds: bool| Some(Number::Whole(holds.into()));
        for level in LEVELS {
            let Some(at) = last_of(tokens, level) else { continue };
            let left = value(&tokens[..at])?;
            match tokens[at] {
                "||" if yes(left) => return logic(true),
                "&&" if !yes(left) => return logic(false),
                _ => {}
            }
            let right = value(&tokens[at + 1..])?;
            return match tokens[at] {
                "||" | "&&" => logic(yes(right)),
                sign => join(sign, left, right),
            };
        }
        match tokens {
            ["!", rest @ ..] => logic(!yes(value(rest)?)),
            ["-", rest @ ..] => match value(rest)? {
                Number::Whole(whole) => Some(Number::Whole(whole.checked_neg()?)),
                Number::Real(real) => Some(Number::Real(-real)),
            },
            ["(", rest @ .., ")"] => value(rest),
            ["0x1e"] => Some(Number::Whole(30)),
            [leaf] => match TARGETS.iter().position(|target| target == leaf) {
                Some(index) => values[index],
                None => {
                    let whole = leaf.parse().map(Number::Whole).ok();
                    whole.or_else(|| leaf.parse().map(Number::Real).ok())
                }
            },
            _ => panic!("{tokens:?}"),
        }
    }

    fn join(sign: &str, left: Number, right: Number) -> Option<Number> {
        let (reals, order) = ((left.real(), right.real()), left.real().partial_cmp(&right.real()));
        let order = match (left, right) {
            (Number::Whole(left), Number::Whole(right)) => Some(left.cmp(&right)),
            _ => order,
        };
        let computed = match (left, right) {
            (Number::Whole(left), Number::Whole(right)) => match sign {
                "+" => Some(left.checked_add(right)?),
                "-" => Some(left.checked_sub(right)?),
                "*" => Some(left.checked_mul(right)?),
                "/" => Some(left.checked_div(right)?),
                "%" => Some(left.checked_rem(right)?),
                _ => None,
            }
            .map(Number::Whole),
            _ => match sign {
                "+" => Some(reals.0 + reals.1),
                "-" => Some(reals.0 - reals.1),
                "*" => Some(reals.0 * reals.1),
                "/" => Some(reals.0 / reals.1),
                "%" => Some(reals.0 % reals.1),
                _ => None,
            }
            .map(Number::Real),
        };
        computed.or_else(|| {
            Some(Number::Whole(i128::from(match sign {
                "==" => order.is_some_and(|order| order.is_eq()),
                "!=" => order.is_none_or(|order| order.is_ne()),
                "<" => order.is_some_and(|order| order.is_lt()),
                "<=" => order.is_some_and(|order| order.is_le()),
                ">" => order.is_some_and(|order| order.is_gt()),
                _ => order.is_some_and(|order| order.is_ge()),
            })))
        })
    }

    /// Comparisons of the counter `n`, joined, and a flag `f` that may change at any moment.
    fn of_a_counter() -> impl Strategy<Value = String> {
        let signs = prop::sample::select([LEVELS[2], LEVELS[3]].concat());
        let leaf = (signs, -30i32..30, 0..5).prop_map(|(sign, goal, form)| match form {
            0 => format!("{goal} {sign} n"),
            1 => format!("n % {} == {}", goal.abs() / 3, goal / 7),
            2 => "f".to_owned(),
            _ => format!("n {sign} {goal}"),
        });
        leaf.prop_recursive(3, 8, 2, |inner| {
            let sign = prop::sample::select(vec!["&&", "||"]);
            (inner.clone(), sign, inner)
                .prop_map(|(left, sign, right)| format!("({left}) {sign} ({right})"))
        })
    }

    proptest! {
        #[test]
        fn as_another_evaluator_has_it(
            (tokens, blank) in (tokens(), prop::sample::select(vec!["", " ", "\n\t"])),
            values in values(),
        ) {
            let text = tokens.join(blank);
            let expected = expected(&tokens, &values).map(|number| number.real() != 0.0);
            match Condition::parse(&text) {
                Ok(own) => {
                    let place = |index: usize| TARGETS.iter().position(|name| *name == own.targets()[index]);
                    let found = own.holds(&mut |index| values[place(index).unwrap()]);
                    prop_assert_eq!(found, expected, "{}", text);
                }
                Err(error) => prop_assert_eq!(error, ConditionError::NoTarget(text.replace(char::is_control, " "))),
            }
        }

        #[test]
        fn any_text_is_a_condition_or_an_error_of_one_line(text in "\\PC{0,60}|(?s:.){0,60}") {
            if let Err(error) = Condition::parse(&text) {
                prop_assert!(!error.to_string().contains(char::is_control));
            }
        }

        #[test]
        fn any_tokens_are_a_condition_or_an_error_of_one_line(
            soup in prop::collection::vec(prop::sample::select(vec![
                "a", "b.c", "0x", "1e", "1e-", "7", ".", ":", "\"", "(", ")", "[", "]", "[1]", "->", "-",
                "*", "!", "=", "==", "<", "&&", "||", "|", "&", "%", "(double)", "(a *)", " ", "\n", "é",
            ]), 0..40),
        ) {
            match Condition::parse(&soup.concat()) {
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
                Ok(own) => {
                    prop_assert!(own.targets().iter().all(|target| !target.is_empty()));
                    own.holds(&mut |index| Some(Number::Whole(index as i128)));
                    own.distance(|index| Some(Number::Whole(index as i128)));
                }
            }
        }

        #[test]
        fn it_never_holds_sooner_than_its_distance_says(
            text in of_a_counter(),
            start in -40i128..40,
            (up, flag) in (any::<bool>(), any::<bool>()),
        ) {
            let Ok(own) = Condition::parse(&text) else { return Ok(()) };
            let read = |index: usize, n| match own.targets()[index].as_str() {
                "n" => Some(Number::Whole(n)),
                _ => Some(Number::Whole(flag.into())),
            };
            if let Distance::Far { target, steps } = own.distance(|index| read(index, start)) {
                prop_assert_eq!(&own.targets()[target], "n");
                for step in 0..steps.min(100) as i128 {
                    let n = if up { start + step } else { start - step };
                    let now = own.holds(&mut |index| read(index, n));
                    prop_assert_ne!(now, Some(true), "{} at {} of {}", text, step, steps);
                }
            }
        }
    }
}
