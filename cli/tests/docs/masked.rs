//! Printed lines compared with documented ones: what differs from run to run is masked, `…` stands for anything.

/// Whether `printed` is what `documented` says. A line `…` stands for any number of lines.
pub(crate) fn agrees(documented: &[String], printed: &[String]) -> bool {
    match (documented.split_first(), printed.split_first()) {
        (None, printed) => printed.is_none(),
        (Some((line, rest)), _) if line == "…" => {
            (0..=printed.len()).any(|skipped| agrees(rest, &printed[skipped..]))
        }
        (Some((line, rest)), Some((first, others))) => same(line, first) && agrees(rest, others),
        (Some(_), None) => false,
    }
}

/// Whether a line is a key or a token and nothing else.
pub(crate) fn is_secret(line: &str) -> bool {
    secret(line).is_some_and(|(length, _)| length == line.len())
}

fn same(documented: &str, printed: &str) -> bool {
    let (documented, printed) = (mask(documented), mask(printed));
    let mut parts = documented.split('…');
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// A line without times, spans, keys, tokens, process ids, versions and column widths.
fn mask(line: &str) -> String {
    let mut masked = String::new();
    let mut rest = line.trim_end();
    while let Some(first) = rest.chars().next() {
        let found = [stamp(rest), span(rest), session(rest), version(rest), secret(rest), gap(rest)];
        match found.into_iter().flatten().next() {
            Some((length, name)) if !(name == ID && masked.ends_with(is_of_id)) => {
                masked += name;
                rest = &rest[length..];
            }
            _ => {
                masked.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    masked
}

type Found = Option<(usize, &'static str)>;

const ID: &str = "<id>";

fn is_of_id(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// The length of `pattern` at the start of `text`: `0` is a digit, `#` a number, everything else itself.
fn matches(pattern: &str, text: &str) -> Option<usize> {
    let mut rest = text;
    for want in pattern.chars() {
        let length = match want {
            '#' => rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()),
            '0' => usize::from(rest.starts_with(|c: char| c.is_ascii_digit())),
            other => {
                if rest.starts_with(other) {
                    other.len_utf8()
                } else {
                    0
                }
            }
        };
        if length == 0 {
            return None;
        }
        rest = &rest[length..];
    }
    Some(text.len() - rest.len())
}

/// `2026-11-21 09:00:03`, `2026-11-21T09:00:03.123Z`
fn stamp(text: &str) -> Found {
    let start = matches("0000-00-00 00:00:00", text).or_else(|| matches("0000-00-00T00:00:00", text))?;
    let fraction = matches(".#", &text[start..]).unwrap_or(0);
    let zone = usize::from(text[start + fraction..].starts_with('Z'));
    Some((start + fraction + zone, "<time>"))
}

/// `0.3 ms`
fn span(text: &str) -> Found {
    let length = matches("#.# ms", text).or_else(|| matches("# ms", text))?;
    Some((length, "<span>"))
}

/// The end of a handle that a process made up: `-4162-3d6bcc7c`
fn session(text: &str) -> Found {
    let start = matches("-#-", text)?;
    let end = text[start..].find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len() - start);
    (end == 8).then_some((start + end, "-<process>"))
}

fn version(text: &str) -> Found {
    let length = matches("conclave/#.#.#", text).or_else(|| matches("conclave #.#.#", text))?;
    Some((length, "<version>"))
}

/// A key, a token, a server's id.
fn secret(text: &str) -> Found {
    let length = text.find(|c| !is_of_id(c)).unwrap_or(text.len());
    let is_id = length >= 32 && text[..length].bytes().any(|b| b.is_ascii_digit());
    is_id.then_some((length, ID))
}

/// Columns are as wide as what stands in them.
fn gap(text: &str) -> Found {
    let length = text.find(|c| c != ' ').unwrap_or(text.len());
    (length > 1).then_some((length, "  "))
}

#[test]
fn what_differs_from_run_to_run_is_masked_and_nothing_else() {
    for (one, other) in [
        ("2026-11-21 09:00:03 a/b/cli-1-0123abcd: hi", "2027-01-02 10:20:30 a/b/cli-77-ffffffff: hi"),
        ("at 2026-11-21T09:00:03.1Z", "at 2026-11-21T09:00:03Z"),
        ("up     0.0 ms   0", "up     12.5 ms  0"),
        (
            "key e4oY8wgRjRUIDls7jbMXiysWG7jrvjkFhMXdzc9XOjs",
            "key ftZGgTsAsDv_Pekt_i1SARPPF1pPntJ4AZA0iI4s1b8",
        ),
        ("… INFO drained", "2026-11-21T01:35:31.7Z  INFO drained"),
        ("a … c … e", "a b c d e"),
    ] {
        assert!(same(one, other), "{} | {}", mask(one), mask(other));
    }
    for (one, other) in [
        ("3 sessions", "4 sessions"),
        ("bea/laptop/reviewer", "bea/laptop/writer"),
        ("127.0.0.1:4390", "127.0.0.1:4391"),
        ("a …", "b c"),
        ("… c", "a b"),
        ("text", "text and more"),
        ("opening-connections-per-address, idle-seconds", "opening-connections-per-address, idle"),
    ] {
        assert!(!same(one, other), "{one} | {other}");
    }
}

#[test]
fn a_line_of_dots_stands_for_any_lines() {
    let lines = |text: &str| text.split('|').map(String::from).collect::<Vec<_>>();
    assert!(agrees(&lines("a|…|d"), &lines("a|b|c|d")));
    assert!(agrees(&lines("a|…"), &lines("a")));
    assert!(!agrees(&lines("a|…|d"), &lines("a|b|c")));
    assert!(!agrees(&lines("a"), &lines("a|b")));
}
