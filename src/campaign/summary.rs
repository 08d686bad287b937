//! A plan in words, a line for each thing that it says.

use super::plan::{
    Curve, Detected, Fault, Guest, Machine, Metric, Output, Over, Plan, Source, Spread, Start,
    Tolerance, When,
};
use regex::Regex;

impl Plan {
    /// What would be run, for people.
    pub fn summary(&self) -> String {
        let lines = [self.runs(), self.drawn(), self.verdict()].concat();
        lines.iter().map(|(what, text)| format!("{what:<9} {text}\n")).collect()
    }

    fn runs(&self) -> Vec<(&'static str, String)> {
        let injections = match (self.injections, &self.when) {
            (_, When::Every(_)) => "injections until the program ends".to_owned(),
            (1, _) if self.census => "an injection each: all that there are".to_owned(),
            (1, _) => "an injection each".to_owned(),
            (count, _) => format!("{count} injections each"),
        };
        vec![
            ("plan", format!("{}, seed {}", self.name, self.seed)),
            ("guest", guest(&self.guest)),
            ("program", self.program()),
            ("start", start(&self.program.start)),
            ("golden", format!("{} runs without a fault", self.golden)),
            ("null", format!("{} trials that do all but the write", self.null)),
            ("trials", format!("{} with {injections}", self.trials)),
        ]
    }

    fn program(&self) -> String {
        let random = self.program.randomize_addresses;
        let addresses =
            if random { "addresses anew each time" } else { "always at the same addresses" };
        let counter =
            self.program.counter.iter().map(|own| format!("; counts iterations in {own}"));
        let added = self.program.add.iter().map(|path| format!("; with {}", path.display()));
        let more: String = counter.chain(added).collect();
        format!("{}, {addresses}{more}", self.program.command.join(" "))
    }

    fn drawn(&self) -> Vec<(&'static str, String)> {
        let weights: f64 = self.targets.iter().map(|target| target.weight).sum();
        let targets = self.targets.iter().map(|target| {
            let offset = Some(target.offset).filter(|offset| *offset != 0);
            let offset = offset.map(|offset| format!(" {offset:+}")).unwrap_or_default();
            let bytes = target.bytes.map(|bytes| format!(", {bytes} bytes")).unwrap_or_default();
            let scalar = target.scalar.map(|scalar| format!(", as {scalar}")).unwrap_or_default();
            let share = share(target.weight, weights);
            ("target", format!("{}{offset}{bytes}{scalar}: {share}", target.at))
        });
        let weights: f64 = self.faults.iter().map(|fault| fault.weight).sum();
        let faults = like(&self.faults)
            .into_iter()
            .map(|(change, weight)| ("fault", format!("{change}: {}", share(weight, weights))));
        let mut lines: Vec<_> = targets.chain(faults).collect();
        lines.push(("when", when(&self.when)));
        lines
    }

    fn verdict(&self) -> Vec<(&'static str, String)> {
        let wall = self.limits.wall.map(|wall| format!("{wall:?}"));
        let wall = wall.unwrap_or_else(|| "the longer of 60 s and 20 times it".to_owned());
        let cpu = self.limits.cpu;
        let hang = format!("{cpu} times the golden run's CPU time, or by the clock {wall}");
        let metrics = self.metrics.iter().map(|own| ("metric", metric(own)));
        let curve =
            |own: &Curve| ("curve", format!("{}: {} in each iteration", own.name, own.variable));
        let curves = self.curves.iter().map(curve);
        let verdict = [
            ("hang", hang),
            ("detected", detected(&self.detected)),
            ("output", output(&self.output)),
        ];
        verdict.into_iter().chain(metrics).chain(curves).collect()
    }
}

/// What the faults of a campaign are drawn from, in a line.
pub fn sampled_from(plan: &Plan) -> String {
    let targets: Vec<_> = plan.targets.iter().map(|target| target.at.as_str()).collect();
    let faults: Vec<_> = like(&plan.faults).into_iter().map(|(change, _)| change).collect();
    let all = if plan.census { "a census, all of: " } else { "" };
    format!("{all}{} at {}, {}", faults.join(" or "), targets.join(" or "), when(&plan.when))
}

/// Each fault in words, and its weight; many that differ in their last word alone as one.
fn like(faults: &[Fault]) -> Vec<(String, f64)> {
    let model = |fault: &Fault| {
        let text = fault.change.to_string();
        text.rsplit_once(' ').map(|(model, argument)| (model.to_owned(), argument.to_owned()))
    };
    let same = |one: &Fault, other: &Fault| {
        let of_both = model(one).zip(model(other));
        one.weight == other.weight && of_both.is_some_and(|(one, other)| one.0 == other.0)
    };
    let some = |own: &[Fault]| match own {
        [first, .., last] => {
            let argument = model(last).unwrap_or_default().1;
            let weight = own.iter().map(|fault| fault.weight).sum();
            Some((format!("{} to {argument}", first.change), weight))
        }
        [own] => Some((own.change.to_string(), own.weight)),
        [] => None,
    };
    faults.chunk_by(same).filter_map(some).collect()
}

fn guest(guest: &Guest) -> String {
    let Machine { kernel_image, ram_mib, smp, accel, append } = match guest {
        Guest::Lab(machine) => machine,
        Guest::Own(command) => return format!("an own QEMU: {}", command.join(" ")),
    };
    let kernel = kernel_image.as_ref().map(|path| path.display().to_string());
    let kernel = kernel.unwrap_or_else(|| "a kernel that is found".to_owned());
    let accel = accel.map_or("KVM where it works", |accel| accel.name());
    let append = if append.is_empty() { String::new() } else { format!(", '{append}'") };
    format!("{kernel}, {ram_mib} MiB, {smp} CPU, {accel}{append}")
}

fn start(start: &Start) -> String {
    match start {
        Start::Gate => "before the program's first instruction".to_owned(),
        Start::When(condition) => format!("when {condition}"),
    }
}

fn share(weight: f64, all: f64) -> String {
    format!("{:.1} %", 100.0 * weight / all)
}

fn when(when: &When) -> String {
    match when {
        When::Drawn(over, spread) => format!("{} {}", self::spread(*spread), self::over(*over)),
        When::Trigger(condition) => format!("when {condition}"),
        When::Every(interval) => format!("every {interval:?}"),
    }
}

fn spread(spread: Spread) -> &'static str {
    match spread {
        Spread::Uniform => "uniform over",
        Spread::Even => "each injection in its own part of",
    }
}

fn over(over: Over) -> String {
    match over {
        Over::Time { from, to } => format!("the golden run's time from {from} to {to}"),
        Over::Iterations { from, to, phase } => {
            let to = to.map_or("the last".to_owned(), |to| to.to_string());
            let phase = phase.map(|phase| format!(", {phase} of an iteration into each"));
            format!("iterations {from} to {to}{}", phase.unwrap_or_default())
        }
    }
}

fn detected(detected: &Detected) -> String {
    let status = detected.status.iter().map(|status| format!("status {status}"));
    let all: Vec<_> = status.chain(detected.pattern.iter().map(quoted)).collect();
    if all.is_empty() { "by nothing".to_owned() } else { format!("by {}", all.join(", ")) }
}

fn output(output: &Output) -> String {
    let exact = if output.exact { "the golden run's" } else { "may differ" };
    let ignore = output.ignore.iter().map(|own| format!(", but for lines with {}", quoted(own)));
    let command = output.command.iter().map(|own| format!(", as '{}' says", own.join(" ")));
    [exact.to_owned()].into_iter().chain(ignore).chain(command).collect()
}

fn metric(metric: &Metric) -> String {
    let source = match &metric.source {
        Source::Output(regex) => format!("what {} captures", quoted(regex)),
        Source::Variable(target) => format!("{target} at the end"),
    };
    let tolerance = match metric.tolerance {
        None => "reported only".to_owned(),
        Some(Tolerance::Relative(fraction)) => format!("off by at most {fraction:e} of it"),
        Some(Tolerance::Absolute(most)) => format!("off by at most {most:e}"),
    };
    format!("{}: {source}; {tolerance}", metric.name)
}

fn quoted(regex: &Regex) -> String {
    format!("'{regex}'")
}

#[cfg(test)]
mod tests {
    use super::super::TEMPLATE;
    use super::*;
    use std::path::Path;

    #[test]
    fn a_line_for_each_thing() {
        let plan = Plan::parse(TEMPLATE.to_owned(), Path::new("mine.toml")).unwrap();
        let expected = r"plan      mine, seed 1
guest     a kernel that is found, 512 MiB, 1 CPU, KVM where it works
program   ./hpccg 20 100 20, always at the same addresses; counts iterations in niters
start     before the program's first instruction
golden    10 runs without a fault
null      60 trials that do all but the write
trials    200 with an injection each
target    rtrans: 100.0 %
fault     flip 1: 100.0 %
when      uniform over the golden run's time from 0 to 1
hang      5 times the golden run's CPU time, or by the clock the longer of 60 s and 20 times it
detected  by nothing
output    the golden run's, but for lines with '^Time'
metric    residual: what 'Final residual \(17 digits\): (\S+)' captures; reported only
curve     normr: normr in each iteration
";
        assert_eq!(plan.summary(), expected);
    }

    #[test]
    fn what_else_there_may_be() {
        let text = "trials = 3
            injections = 20
            [guest]
            command = ['qemu', '{ram}']
            [program]
            command = ['v']
            counter = 'k'
            start = 'k == 2'
            [[target]]
            at = 'heap'
            offset = -8
            bytes = 4
            weight = 3
            [[target]]
            at = 'x'
            type = 'i32'
            [[fault]]
            value = 0x10
            [when]
            over = 'iterations'
            spread = 'even'
            [detected]
            status = [3]
            pattern = ['bad']
            [output]
            command = ['./compare']
            [[metric]]
            name = 'm'
            variable = 'x'
            relative = 1e-6";
        let plan = Plan::parse(text.to_owned(), Path::new("p.toml")).unwrap();
        let told = plan.summary();
        for line in [
            "guest     an own QEMU: qemu {ram}",
            "start     when k == 2",
            "trials    3 with 20 injections each",
            "target    heap -8, 4 bytes: 75.0 %",
            "target    x, as i32: 25.0 %",
            "fault     value 16: 100.0 %",
            "when      each injection in its own part of iterations 1 to the last",
            "detected  by status 3, 'bad'",
            "output    may differ, as './compare' says",
            "metric    m: x at the end; off by at most 1e-6 of it",
        ] {
            assert!(told.lines().any(|own| own == line), "no '{line}' in\n{told}");
        }
    }
}
