//! Hooks in a client's settings: JSON, perhaps with comments, that is edited in place so that everything else in it stays
//! as it is, byte for byte, and so that taking the hooks out again gives the very text that was there before.
//!
//! That needs a text whose form tells what was there. A list or object that had something in it gets `, …` at its end; one
//! that was empty gets its first element between two spaces; one that was not there at all is written without them.

use std::ops::Range;

use jsonc_parser::ast::{Array, Object, ObjectProp, Value as Node};
use jsonc_parser::common::Ranged as _;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

/// A hook to be: the client's event, the command, and what stands for it in the event's list.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) event: &'static str,
    pub(super) command: String,
    pub(super) value: Value,
}

/// Why settings cannot be edited.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("it is not JSON ({0})")]
    Syntax(String),
    #[error("{0} in it is no {1}")]
    Kind(String, &'static str),
}

/// Adds the hooks that are not there. One that is there with another command is replaced.
pub(super) fn install(
    text: &str,
    entries: &[Entry],
    is_ours: &dyn Fn(&str) -> bool,
) -> Result<String, Unfit> {
    let is_old = |command: &str| is_ours(command) && !entries.iter().any(|entry| entry.command == command);
    let mut text = uninstall(text, &is_old)?;
    for entry in entries {
        text = insert(text, entry)?;
    }
    Ok(text)
}

/// Takes out the hooks whose commands are ours.
pub(super) fn uninstall(text: &str, is_ours: &dyn Fn(&str) -> bool) -> Result<String, Unfit> {
    let mut text = text.to_owned();
    while let Some(cut) = next_cut(&text, is_ours)? {
        cut.into_iter().rev().for_each(|range| text.replace_range(range, ""));
    }
    Ok(text)
}

/// The commands of all hooks.
pub(super) fn commands(text: &str) -> Result<Vec<String>, Unfit> {
    let root = parse(text)?;
    let Some(Node::Object(hooks)) = property(object(&root, "the whole")?, "hooks").map(|it| &it.value) else {
        return Ok(Vec::new());
    };
    let lists = hooks.properties.iter().filter_map(|event| event.value.as_array());
    Ok(lists.flat_map(|list| &list.elements).flat_map(commands_of).map(str::to_owned).collect())
}

/// A file with the hooks alone, and with what the client wants beside them, such as `"version": 1`.
pub(super) fn new_file(entries: &[Entry], beside: &str) -> String {
    let mut text = format!("{{{beside}\n}}\n");
    let style = Style { compact: false, unit: "  ".to_owned(), eol: "\n" };
    let mut hooks = serde_json::Map::new();
    for entry in entries {
        hooks.insert(entry.event.to_owned(), Value::Array(vec![entry.value.clone()]));
    }
    let comma = if beside.is_empty() { "" } else { "," };
    let hooks = style.property("hooks", &Value::Object(hooks), "  ");
    text.insert_str(1, &format!("\n  {hooks}{comma}"));
    text
}

fn parse(text: &str) -> Result<Node<'_>, Unfit> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options);
    let value = parsed.map_err(|error| Unfit::Syntax(error.to_string()))?.value;
    value.ok_or_else(|| Unfit::Syntax("it is empty".to_owned()))
}

/// The property that clients take: the last of its name.
fn property<'n, 'a>(object: &'n Object<'a>, name: &str) -> Option<&'n ObjectProp<'a>> {
    object.properties.iter().rev().find(|property| property.name.as_str() == name)
}

fn object<'n, 'a>(node: &'n Node<'a>, name: &str) -> Result<&'n Object<'a>, Unfit> {
    node.as_object().ok_or_else(|| Unfit::Kind(name.to_owned(), "object"))
}

/// The commands that an element of an event's list runs.
fn commands_of<'n>(element: &'n Node<'_>) -> Vec<&'n str> {
    let Node::Object(element) = element else { return Vec::new() };
    let own = element.get_string("command").map(|command| command.value.as_ref());
    let inner = element.get_array("hooks").map(|hooks| hooks.elements.as_slice()).unwrap_or_default();
    own.into_iter().chain(inner.iter().flat_map(commands_of)).collect()
}

/// The list or object that something is in: where it stands, and where its children do.
struct Container {
    range: Range<usize>,
    children: Vec<Range<usize>>,
}

impl From<&Object<'_>> for Container {
    fn from(object: &Object<'_>) -> Self {
        let children = object.properties.iter().map(|it| it.start()..it.end()).collect();
        Self { range: object.start()..object.end(), children }
    }
}

impl From<&Array<'_>> for Container {
    fn from(array: &Array<'_>) -> Self {
        let children = array.elements.iter().map(|it| it.start()..it.end()).collect();
        Self { range: array.start()..array.end(), children }
    }
}

fn insert(mut text: String, entry: &Entry) -> Result<String, Unfit> {
    let style = Style::of(&text);
    let root = parse(&text)?;
    let root = object(&root, "the whole")?;
    let list = Value::Array(vec![entry.value.clone()]);
    let (at, new) = match property(root, "hooks") {
        None => {
            let hooks = serde_json::json!({ entry.event: list });
            style.addition(&text, &root.into(), |indent| style.property("hooks", &hooks, indent))
        }
        Some(hooks) => {
            let hooks = object(&hooks.value, "hooks")?;
            match property(hooks, entry.event) {
                None => {
                    style.addition(&text, &hooks.into(), |indent| style.property(entry.event, &list, indent))
                }
                Some(event) => {
                    let list = event.value.as_array();
                    let list = list.ok_or_else(|| Unfit::Kind(format!("hooks.{}", entry.event), "list"))?;
                    if list.elements.iter().flat_map(commands_of).any(|command| command == entry.command) {
                        return Ok(text);
                    }
                    style.addition(&text, &list.into(), |indent| style.value(&entry.value, indent))
                }
            }
        }
    };
    text.insert_str(at, &new);
    Ok(text)
}

/// What has to go: with a child its comma, which may stand apart.
type Cut = [Range<usize>; 2];

fn whole(range: Range<usize>) -> Cut {
    let end = range.end;
    [range, end..end]
}

/// What has to go for the last hook that is ours.
fn next_cut(text: &str, is_ours: &dyn Fn(&str) -> bool) -> Result<Option<Cut>, Unfit> {
    let root = parse(text)?;
    let root = object(&root, "the whole")?;
    let Some(property_of_hooks) = property(root, "hooks") else { return Ok(None) };
    let Some(hooks) = property_of_hooks.value.as_object() else { return Ok(None) };
    for event in hooks.properties.iter().rev() {
        let Some(list) = event.value.as_array() else { continue };
        for (index, element) in list.elements.iter().enumerate().rev() {
            let commands = commands_of(element);
            if !commands.iter().any(|command| is_ours(command)) {
                continue;
            }
            if !commands.iter().all(|command| is_ours(command)) {
                // Somebody put another hook beside ours.
                let inner = element.as_object().and_then(|element| element.get_array("hooks"));
                let ours = |hook: &Node<'_>| commands_of(hook).iter().any(|command| is_ours(command));
                let at = inner.and_then(|inner| inner.elements.iter().position(ours));
                let gone = inner.zip(at).and_then(|(inner, at)| cut(text, &inner.into(), at));
                if gone.is_some() {
                    return Ok(gone);
                }
                continue;
            }
            let position = |object: &Object<'_>, name: &ObjectProp<'_>| {
                object.properties.iter().position(|it| it.start() == name.start()).unwrap_or_default()
            };
            // A list or object that was not there before goes with its last element.
            let gone = cut(text, &list.into(), index)
                .or_else(|| cut(text, &hooks.into(), position(hooks, event)))
                .or_else(|| cut(text, &root.into(), position(root, property_of_hooks)))
                .unwrap_or_else(|| whole(root.start() + 1..root.end() - 1));
            return Ok(Some(gone));
        }
    }
    Ok(None)
}

/// What has to go for a child of a container. `None` if the container should go as a whole.
fn cut(text: &str, container: &Container, index: usize) -> Option<Cut> {
    let child = container.children[index].clone();
    let blank = |range: &Range<usize>| text[range.clone()].chars().all(char::is_whitespace);
    if let Some(before) = index.checked_sub(1).map(|it| &container.children[it]) {
        let comma = skip_trivia(text, before.end);
        let between = comma + 1..child.start;
        return Some(if blank(&between) { whole(comma..child.end) } else { [comma..comma + 1, child] });
    }
    if let Some(after) = container.children.get(1) {
        let comma = skip_trivia(text, child.end);
        let (head, tail) = (child.end..comma, comma + 1..after.start);
        return Some(match (blank(&head), blank(&tail)) {
            (true, true) => whole(child.start..after.start),
            _ => [child, comma..comma + 1],
        });
    }
    let was_empty =
        &text[container.range.start + 1..child.start] == " " && text[child.end..].starts_with(' ');
    was_empty.then(|| whole(child.start - 1..child.end + 1))
}

/// Where the next token begins: behind blanks and comments.
fn skip_trivia(text: &str, mut at: usize) -> usize {
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        let end = if trimmed.starts_with("//") {
            trimmed.find('\n')
        } else if trimmed.starts_with("/*") {
            trimmed.find("*/").map(|end| end + 2)
        } else {
            return at;
        };
        at += end.unwrap_or(trimmed.len());
    }
}

/// How a text is laid out.
struct Style {
    compact: bool,
    unit: String,
    eol: &'static str,
}

impl Style {
    fn of(text: &str) -> Self {
        let eol = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let indented = text.lines().find(|line| line.starts_with([' ', '\t']) && !line.trim().is_empty());
        let unit = indented.map_or("  ", |line| &line[..line.len() - line.trim_start().len()]);
        let unit = if unit.chars().all(|c| c == ' ' || c == '\t') && unit.len() <= 8 { unit } else { "  " };
        Self { compact: !text.trim().contains('\n'), unit: unit.to_owned(), eol }
    }

    fn value(&self, value: &Value, indent: &str) -> String {
        if self.compact {
            return value.to_string();
        }
        let mut bytes = Vec::new();
        let formatter = PrettyFormatter::with_indent(self.unit.as_bytes());
        // Writing to memory does not fail.
        let _ = value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter));
        String::from_utf8_lossy(&bytes).replace('\n', &format!("{}{indent}", self.eol))
    }

    fn property(&self, name: &str, value: &Value, indent: &str) -> String {
        let space = if self.compact { "" } else { " " };
        format!("{}:{space}{}", Value::from(name), self.value(value, indent))
    }

    /// Where a further child of the container goes, and the text for it.
    fn addition(&self, text: &str, container: &Container, child: impl Fn(&str) -> String) -> (usize, String) {
        let line = |at: usize| {
            let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
            let indent = text[start..at].chars().take_while(|c| *c == ' ' || *c == '\t').map(char::len_utf8);
            (start, &text[start..start + indent.sum::<usize>()])
        };
        let (_, outer) = line(container.range.start);
        let [first, ..] = &container.children[..] else {
            return (container.range.start + 1, format!(" {} ", child(outer)));
        };
        let end = container.children.last().map_or(first.end, |last| last.end);
        let (start, indent) = line(first.start);
        if start > container.range.start && start + indent.len() == first.start {
            return (end, format!(",{}{indent}{}", self.eol, child(indent)));
        }
        let space = if self.compact { "" } else { " " };
        (end, format!(",{space}{}", child(outer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const EVENTS: [&str; 3] = ["SessionStart", "PostToolUse", "Stop"];

    fn entries(program: &str) -> Vec<Entry> {
        let entry = |event| {
            let command = format!("{program} hook {event}");
            Entry { event, value: json!({ "hooks": [{ "type": "command", "command": command }] }), command }
        };
        EVENTS.map(entry).to_vec()
    }

    fn is_ours(command: &str) -> bool {
        command.contains("conclave hook ")
    }

    fn installed(text: &str) -> String {
        install(text, &entries("conclave"), &is_ours).unwrap()
    }

    #[derive(Clone, Debug)]
    enum Doc {
        Leaf(String),
        List(Vec<Doc>),
        Object(Vec<(String, Doc)>),
    }

    fn key() -> impl Strategy<Value = String> {
        prop_oneof![
            3 => proptest::sample::select(vec!["hooks", "Stop", "SessionStart", "version", ""]).prop_map(String::from),
            1 => "\\PC{0,6}",
        ]
    }

    fn doc() -> impl Strategy<Value = Doc> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|it| json!(it)),
            any::<i32>().prop_map(|it| json!(it)),
            "\\PC{0,8}".prop_map(|it| json!(it)),
            Just(json!("]}, // \" /*")),
        ];
        leaf.prop_map(|it| Doc::Leaf(it.to_string())).prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Doc::List),
                prop::collection::vec((key(), inner), 0..4).prop_map(Doc::Object),
            ]
        })
    }

    /// Settings: hooks of the right shape most of the time.
    fn settings() -> impl Strategy<Value = Doc> {
        let list = prop::collection::vec(doc(), 0..3).prop_map(Doc::List);
        let event = (proptest::sample::select(EVENTS.to_vec()).prop_map(String::from), list);
        let hooks = prop_oneof![
            9 => prop::collection::vec(event, 0..4).prop_map(Doc::Object),
            1 => doc(),
        ];
        let before = prop::collection::vec((key(), doc()), 0..3);
        let after = prop::collection::vec((key(), doc()), 0..2);
        (before, prop::option::of(hooks), after).prop_map(|(mut all, hooks, after)| {
            all.extend(hooks.map(|hooks| ("hooks".to_owned(), hooks)));
            all.extend(after);
            Doc::Object(all)
        })
    }

    fn blank() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(vec![
            "",
            "",
            " ",
            "  ",
            "\n",
            "\n  ",
            "\r\n\t",
            "\n\n",
            " /* ], */ ",
            "// } ,\n",
            "/*\"*/",
        ])
    }

    /// Writes a document with the blanks of a list that never ends, and commas at ends where a blank says so.
    fn write(doc: &Doc, blanks: &mut impl Iterator<Item = &'static str>, out: &mut String) {
        fn comma(doc_is_last: bool, blanks: &mut impl Iterator<Item = &'static str>, out: &mut String) {
            let blank = blanks.next().unwrap();
            out.push_str(blank);
            if !doc_is_last || blank == "\n\n" {
                out.push(',');
            }
            out.push_str(blanks.next().unwrap());
        }
        match doc {
            Doc::Leaf(text) => out.push_str(text),
            Doc::List(items) => {
                out.push('[');
                out.push_str(blanks.next().unwrap());
                for (index, item) in items.iter().enumerate() {
                    write(item, blanks, out);
                    comma(index + 1 == items.len(), blanks, out);
                }
                out.push(']');
            }
            Doc::Object(items) => {
                out.push('{');
                out.push_str(blanks.next().unwrap());
                for (index, (name, item)) in items.iter().enumerate() {
                    out.push_str(&json!(name).to_string());
                    out.push_str(blanks.next().unwrap());
                    out.push(':');
                    out.push_str(blanks.next().unwrap());
                    write(item, blanks, out);
                    comma(index + 1 == items.len(), blanks, out);
                }
                out.push('}');
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn any_settings_are_the_same_again_after_install_and_uninstall(
            doc in settings(),
            blanks in prop::collection::vec(blank(), 1..24),
            end in proptest::sample::select(vec!["", "\n", "\r\n", "\n\n// end"]),
        ) {
            let mut text = String::new();
            write(&doc, &mut blanks.iter().copied().cycle(), &mut text);
            text.push_str(end);
            prop_assert_eq!(uninstall(&text, &is_ours), Ok(text.clone()));
            match install(&text, &entries("conclave"), &is_ours) {
                Err(error) => prop_assert!(matches!(error, Unfit::Kind(..)), "{}", error),
                Ok(with) => {
                    prop_assert_eq!(install(&with, &entries("conclave"), &is_ours), Ok(with.clone()));
                    let commands = commands(&with).unwrap();
                    prop_assert!(entries("conclave").iter().all(|it| commands.contains(&it.command)), "{}", with);
                    prop_assert_ne!(&with, &new_file(&entries("conclave"), ""));
                    prop_assert_eq!(uninstall(&with, &is_ours), Ok(text.clone()));
                    // A program that moved.
                    let moved = install(&with, &entries("/opt/conclave"), &is_ours);
                    prop_assert_eq!(moved.and_then(|moved| uninstall(&moved, &is_ours)), Ok(text));
                }
            }
        }
    }

    #[test]
    fn what_is_added_looks_like_what_is_there() {
        let text = "{\r\n\t\"model\": \"opus\" // the best\r\n}";
        let with = installed(text);
        assert!(
            with.starts_with("{\r\n\t\"model\": \"opus\",\r\n\t\"hooks\": {\r\n\t\t\"SessionStart\": ["),
            "{with}"
        );
        assert!(!with.replace("\r\n", "").contains('\n'), "{with}");
        assert!(!installed(r#"{"a":1}"#).contains('\n'));
    }

    #[test]
    fn hooks_that_somebody_put_beside_ours_stay() {
        let with = installed("{\n  \"a\": 1\n}\n");
        let theirs = r#"{ "type": "command", "command": "make lint" }"#;
        let before = with.replacen("\"hooks\": [", &format!("\"hooks\": [{theirs},"), 1);
        let after = uninstall(&before, &is_ours).unwrap();
        assert_eq!(commands(&after).unwrap(), ["make lint"]);
        let value: Value = serde_json::from_str(&after).unwrap();
        assert_eq!(value["hooks"].as_object().unwrap().len(), 1);
        assert_eq!(value["a"], 1);
    }

    #[test]
    fn a_new_file_is_json_with_what_the_client_wants_beside() {
        let text = new_file(&entries("conclave"), "\n  \"version\": 1");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["version"], value["hooks"].as_object().unwrap().len()), (&json!(1), 3));
        assert_eq!(install(&text, &entries("conclave"), &is_ours), Ok(text));
    }

    #[test]
    fn what_is_no_settings_file_is_refused() {
        for text in [
            "",
            "// nothing",
            "{",
            "[]",
            "{'a': 1}",
            "{\"hooks\": 1}",
            "{\"hooks\": {\"Stop\": {}}}",
            "{} {}",
        ] {
            assert!(install(text, &entries("conclave"), &is_ours).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(uninstall(&deep, &is_ours), Err(Unfit::Syntax(_))));
    }
}
