//! The solver victim computes what HPCCG does: iterations and final residual of every grid whose
//! values are known and that takes seconds (`make test-full-size` checks the large one).

use std::process::Command;

fn output(arguments: &str) -> String {
    let output = Command::new(crate::common::built("fixtures/hpccg"))
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {:?}", output);
    String::from_utf8(output.stdout).unwrap()
}

fn value(output: &str, label: &str) -> String {
    let line = output.lines().find_map(|line| line.strip_prefix(label));
    line.unwrap_or_else(|| panic!("no '{label}' in {output}")).to_owned()
}

#[test]
fn reference_values() {
    for (grid, iterations, residual) in [
        ("10 10 10", "17", "1.01882e-08"),
        ("20 30 10", "38", "5.98717e-08"),
        ("32 32 32", "45", "7.8367e-08"),
        ("40 80 40", "64", "7.38637e-08"),
        ("20 100 20", "56", "7.38586e-08"),
        ("30 30 30", "43", "7.35307e-08"),
        ("100 100 50", "70", "8.02709e-08"),
    ] {
        let output = output(grid);
        assert_eq!(value(&output, "Number of iterations: "), iterations, "{grid}");
        assert_eq!(value(&output, "Final residual: "), residual, "{grid}");
    }
}

#[test]
fn true_residuals() {
    for (grid, residual) in [("20 100 20", 4.00661e-08), ("30 30 30", 3.80826e-08)] {
        let found: f64 = value(&output(grid), "True residual ||b - A*x||: ").parse().unwrap();
        assert!((found / residual - 1.0).abs() < 1e-5, "{grid}: {found}");
    }
}

#[test]
fn tolerance_and_iterations_are_arguments() {
    let output = output("10 10 10 0 150");
    assert_eq!(value(&output, "Number of iterations: "), "149");
    assert!(output.contains("Iteration = 15   Residual = "), "{output}");
    assert!(output.contains("Iteration = 149   Residual = "), "{output}");
}

#[test]
fn the_residual_has_seventeen_digits_too() {
    let output = output("10 10 10");
    let exact: f64 = value(&output, "Final residual (17 digits): ").parse().unwrap();
    assert_eq!(format!("{exact:.5e}"), "1.01882e-8");
}

#[test]
fn bad_arguments_are_usage_errors() {
    for arguments in
        [&[][..], &["1", "2"], &["0", "1", "1"], &["x", "1", "1"], &["1", "1", "1", "-1"]]
    {
        let output =
            Command::new(crate::common::built("fixtures/hpccg")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
