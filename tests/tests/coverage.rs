//! `COVERAGE.md` names tests that exist, and for each rule one.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::path::{Path, PathBuf};

/// Where tests are, by the place that the page gives them.
const PLACES: &[(&str, &str)] = &[
    ("conformance", "tests/src/conformance"),
    ("process", "cli/tests/server"),
    ("hub", "core/src/hub/tests"),
    ("store", "store/src/journal"),
    ("core", "core"),
    ("cli", "cli"),
    ("tests", "tests"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The tests that a line names.
fn named(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once(':'))
}

/// Why there is no such test, or why it does not hold a rule: `always` says whether it must run with all others.
fn missing(module: &str, name: &str, always: bool) -> Option<String> {
    let (place, rest) = module.split_once('/')?;
    let Some((_, dir)) = PLACES.iter().find(|(known, _)| *known == place) else {
        return Some(format!("{place} is no place"));
    };
    let file = root().join(dir).join(rest).with_extension("rs");
    let Ok(source) = fs::read_to_string(&file) else {
        return Some(format!("{} cannot be read", file.display()));
    };
    let Some(at) = source.find(&format!("fn {name}(")).or_else(|| source.find(&format!("fn {name}<"))) else {
        return Some(format!("{} has no {name}", file.display()));
    };
    // One of the suite is listed to be run, any other is marked.
    let runs = if place == "conformance" {
        source.lines().any(|line| line.trim().strip_suffix(',') == Some(name))
    } else {
        let before = source[..at].trim_end_matches([' ', '\n']);
        let attributes = before.rsplit("\n\n").next().unwrap_or_default();
        attributes.contains("#[test]") && !(always && attributes.contains("#[ignore"))
    };
    (!runs).then(|| format!("{name} in {} is not run", file.display()))
}

#[test]
fn every_test_that_the_page_names_exists_and_every_rule_names_one() {
    let page = fs::read_to_string(root().join("tests/COVERAGE.md")).unwrap();
    let (mut rules, mut wrong) = (0, Vec::new());
    for line in page.lines() {
        let is_row = line.starts_with("| ");
        let tests = named(line).filter(|(module, _)| *module != "place/module");
        wrong.extend(tests.filter_map(|(module, name)| missing(module, name, is_row)));
        let heads = ["| `", "| rule", "| place"];
        if is_row && !heads.iter().any(|head| line.starts_with(head)) {
            rules += 1;
            if named(line).next().is_none() {
                wrong.push(format!("no test holds: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rules > 80, "only {rules} rules were found");
}

#[test]
fn what_does_not_exist_is_noticed() {
    assert!(missing("conformance/messages", "all_see_one_order", true).is_none());
    for (module, name) in [
        ("conformance/messages", "no_such_test"),
        ("conformance/absent", "all_see_one_order"),
        ("absent/messages", "all_see_one_order"),
        // These are no tests.
        ("conformance/messages", "jumping"),
        ("process/operation", "with_a_post"),
        ("store/tests/copies", "child_that_takes_a_backup"),
    ] {
        assert!(missing(module, name, true).is_some(), "{module}:{name}");
    }
}
