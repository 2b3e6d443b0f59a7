//! The text of `config.toml`, read into a [`Config`] and changed in place.

use std::fmt::Display;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use conclave_core::level::Scope;
use conclave_core::name::ChannelName;
use toml_edit::{ArrayOfTables, Document, DocumentMut, Item, Table, TableLike, Value};

use super::{Change, Config, Override, Pin, Server, ServerUrl};

/// What is wrong with the text, and in which line (from 1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) what: String,
}

/// Reads the text.
pub(super) fn read(text: &str) -> Result<Config, Fault> {
    let document =
        Document::parse(text).map_err(|error| fault(text, error.span(), error.message().trim_end()))?;
    let reader = Reader { text };
    let root = document.as_table();
    let mut config = Config::default();
    if let Some(level) = reader.optional(root, "default_permission")? {
        config.default_permission = level;
    }
    config.default_mentions_only = reader.flag(root, "default_mentions_only")?;
    config.agent_messages = reader.count(root, "agent_messages")?;
    for (table, span) in reader.tables(root, "servers")? {
        let url: ServerUrl = reader.required(table, "url", "[[servers]]", &span)?;
        if let Some(ca) = reader.optional::<PathBuf>(table, "ca")? {
            config.cas.push((url.clone(), ca));
        }
        if let Some(server_key) = reader.optional(table, "server_key")? {
            let derived = table.get("derived_key").and_then(Item::as_bool).unwrap_or_default();
            config.pins.push((url.clone(), Pin { server_key, derived }));
        }
        config.servers.push(Server {
            url,
            username: reader.required(table, "username", "[[servers]]", &span)?,
            machine: reader.required(table, "machine", "[[servers]]", &span)?,
        });
    }
    for (table, span) in reader.tables(root, "overrides")? {
        config.overrides.push(Override {
            server: reader.required(table, "server", "[[overrides]]", &span)?,
            scope: reader.optional(table, "channel")?.map_or(Scope::Whispers, Scope::Channel),
            level: reader.required(table, "level", "[[overrides]]", &span)?,
            mentions_only: reader.flag(table, "mentions_only")?,
        });
    }
    if let Some(item) = root.get("approvers") {
        let list =
            item.as_array().ok_or_else(|| fault(text, item.span(), "`approvers` is a list of users"))?;
        for value in list {
            config.approvers.push(reader.word("approvers", value.as_str(), value.span())?);
        }
    }
    Ok(config)
}

/// The text with `changes` made. Only what they name is touched.
pub(super) fn change(text: &str, changes: &[Change]) -> Result<String, Fault> {
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| fault(text, error.span(), error.message()))?;
    let root = document.as_table_mut();
    if !root.contains_key("default_permission") {
        root.insert("default_permission", toml_edit::value("notify"));
    }
    for change in changes {
        match change {
            Change::DefaultPermission(level) => set(root, "default_permission", level.as_str()),
            Change::DefaultMentionsOnly(only) => set_flag(root, "default_mentions_only", *only),
            Change::AgentMessages(Some(count)) => {
                root.insert("agent_messages", toml_edit::value(i64::from(*count)));
            }
            Change::AgentMessages(None) => {
                root.remove("agent_messages");
            }
            Change::AddServer(server) => {
                let list = list(root, "servers");
                let known = list.iter().position(|table| names(table, "url", &server.url));
                let table = match known {
                    Some(at) => list.get_mut(at),
                    None => append(list, "url", server.url.as_str()),
                };
                if let Some(table) = table {
                    set(table, "username", server.username.as_str());
                    set(table, "machine", server.machine.as_str());
                }
            }
            Change::RemoveServer(url) => {
                retain(root, "servers", |table| !names(table, "url", url));
                retain(root, "overrides", |table| !names(table, "server", url));
            }
            Change::SetCa(url, file) => {
                for table in list(root, "servers").iter_mut().filter(|table| names(table, "url", url)) {
                    set(table, "ca", &file.to_string_lossy());
                }
            }
            Change::SetPin(url, pin) => {
                for table in list(root, "servers").iter_mut().filter(|table| names(table, "url", url)) {
                    set(table, "server_key", &pin.server_key.to_string());
                    table.insert("derived_key", toml_edit::value(pin.derived));
                }
            }
            Change::SetLevel(set_to) => set_level(root, set_to),
        }
    }
    Ok(document.to_string())
}

/// Sets a flag; one that is not set is left out.
fn set_flag(table: &mut Table, key: &str, flag: bool) {
    match flag {
        true => table.insert(key, toml_edit::value(true)),
        false => table.remove(key),
    };
}

fn set_level(root: &mut Table, Override { server, scope, level, mentions_only }: &Override) {
    // Existing clients compare URLs letter by letter: the registration's spelling is the one to write.
    let registered = root.get("servers").and_then(Item::as_array_of_tables).and_then(|servers| {
        let entry = servers.iter().find(|table| names(table, "url", server))?;
        entry.get("url")?.as_str().map(String::from)
    });
    let channel = scope.channel().map(ChannelName::as_str);
    let list = list(root, "overrides");
    let mut found = false;
    for table in list.iter_mut() {
        if names(table, "server", server) && table.get("channel").and_then(Item::as_str) == channel {
            set(table, "level", level.as_str());
            set_flag(table, "mentions_only", *mentions_only);
            found = true;
        }
    }
    if !found && let Some(table) = append(list, "server", registered.as_deref().unwrap_or(server.as_str())) {
        if let Some(channel) = channel {
            set(table, "channel", channel);
        }
        set(table, "level", level.as_str());
        set_flag(table, "mentions_only", *mentions_only);
    }
}

fn names(table: &Table, key: &str, url: &ServerUrl) -> bool {
    table.get(key).and_then(Item::as_str).and_then(|text| text.parse().ok()).as_ref() == Some(url)
}

fn append<'a>(list: &'a mut ArrayOfTables, key: &str, value: &str) -> Option<&'a mut Table> {
    let mut table = Table::new();
    table.insert(key, toml_edit::value(value));
    list.push(table);
    list.get_mut(list.len() - 1)
}

fn retain(root: &mut Table, key: &str, keep: impl Fn(&Table) -> bool) {
    if root.contains_key(key) {
        list(root, key).retain(keep);
    }
}

/// The list of tables at `key`; `[]` and inline tables, which mean the same, become one.
fn list<'a>(root: &'a mut Table, key: &str) -> &'a mut ArrayOfTables {
    let is_list = root.get(key).is_some_and(Item::is_array_of_tables);
    if !is_list {
        let mut tables = ArrayOfTables::new();
        if let Some(Item::Value(Value::Array(array))) = root.remove(key) {
            for value in array {
                if let Value::InlineTable(table) = value {
                    let mut table = table.into_table();
                    table.decor_mut().clear();
                    tables.push(table);
                }
            }
        }
        root.insert(key, Item::ArrayOfTables(tables));
    }
    match root.get_mut(key) {
        Some(Item::ArrayOfTables(tables)) => tables,
        _ => unreachable!("it was made a list of tables above"),
    }
}

/// Sets a text and keeps the comment behind it.
fn set(table: &mut Table, key: &str, text: &str) {
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            let mut new = Value::from(text);
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        _ => {
            table.insert(key, toml_edit::value(text));
        }
    }
}

/// A table of a list, and where it stands in the text.
type Entry<'t> = (&'t dyn TableLike, Option<Range<usize>>);

struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn tables<'t>(&self, root: &'t Table, key: &str) -> Result<Vec<Entry<'t>>, Fault> {
        match root.get(key) {
            None => Ok(Vec::new()),
            Some(Item::ArrayOfTables(tables)) => {
                Ok(tables.iter().map(|table| (table as &dyn TableLike, table.span())).collect())
            }
            Some(Item::Value(Value::Array(array))) if array.iter().all(Value::is_inline_table) => Ok(array
                .iter()
                .filter_map(|value| Some((value.as_inline_table()? as &dyn TableLike, value.span())))
                .collect()),
            Some(item) => {
                Err(fault(self.text, item.span(), &format!("`{key}` is a list of tables: write [[{key}]]")))
            }
        }
    }

    fn optional<T: FromStr<Err: Display>>(
        &self,
        table: &dyn TableLike,
        key: &str,
    ) -> Result<Option<T>, Fault> {
        table.get(key).map(|item| self.word(key, item.as_str(), item.span())).transpose()
    }

    fn flag(&self, table: &dyn TableLike, key: &str) -> Result<bool, Fault> {
        let Some(item) = table.get(key) else { return Ok(false) };
        item.as_bool().ok_or_else(|| fault(self.text, item.span(), &format!("`{key}` is true or false")))
    }

    fn count(&self, table: &dyn TableLike, key: &str) -> Result<Option<u32>, Fault> {
        let Some(item) = table.get(key) else { return Ok(None) };
        let count = item.as_integer().and_then(|count| u32::try_from(count).ok());
        match count.filter(|count| *count > 0) {
            Some(count) => Ok(Some(count)),
            None => Err(fault(self.text, item.span(), &format!("`{key}` is a number from 1"))),
        }
    }

    fn required<T: FromStr<Err: Display>>(
        &self,
        table: &dyn TableLike,
        key: &str,
        kind: &str,
        span: &Option<Range<usize>>,
    ) -> Result<T, Fault> {
        self.optional(table, key)?
            .ok_or_else(|| fault(self.text, span.clone(), &format!("this {kind} entry has no `{key}`")))
    }

    fn word<T: FromStr<Err: Display>>(
        &self,
        key: &str,
        text: Option<&str>,
        span: Option<Range<usize>>,
    ) -> Result<T, Fault> {
        let Some(text) = text else {
            return Err(fault(self.text, span, &format!("`{key}` is a text: write it in quotes")));
        };
        text.parse().map_err(|error| fault(self.text, span, &format!("`{key}`: {error}")))
    }
}

fn fault(text: &str, span: Option<Range<usize>>, what: &str) -> Fault {
    let start = span.map_or(0, |span| span.start).min(text.len());
    let line = text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count() + 1;
    // A parser's message may take several lines; an error here is one.
    Fault { line, what: what.split_whitespace().collect::<Vec<_>>().join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_core::level::Level;
    use conclave_core::name::{MachineName, UserName};
    use proptest::prelude::*;

    const FILE: &str = r#"# mine
default_permission = "notify" # careful
theme = "dark"

# the office
[[servers]]
url = "wss://conclave.example/"
username = "aaron"
machine = "workstation"
colour = 3

[[overrides]]
server = "wss://conclave.example/"
channel = "ops"
level = "converse" # for now

[[overrides]]
server = "wss://conclave.example/"
level = "act"
"#;

    fn url(text: &str) -> ServerUrl {
        text.parse().unwrap()
    }

    fn level(server: &str, channel: Option<&str>, level: Level) -> Change {
        let scope = channel.map_or(Scope::Whispers, |name| Scope::Channel(ChannelName::new(name).unwrap()));
        Change::SetLevel(Override { server: url(server), scope, level, mentions_only: false })
    }

    fn server(at: &str, user: &str) -> Server {
        Server {
            url: url(at),
            username: UserName::new(user).unwrap(),
            machine: MachineName::new("ws").unwrap(),
        }
    }

    #[test]
    fn the_file_is_read() {
        let config = read(FILE).unwrap();
        let office = url("wss://conclave.example");
        assert_eq!(config.server(&office).unwrap().username.as_str(), "aaron");
        assert_eq!(config.level(&office, &Scope::Channel(ChannelName::new("ops").unwrap())), Level::Converse);
        assert_eq!(config.level(&office, &Scope::Whispers), Level::Act);
        assert_eq!(config.level(&office, &Scope::Channel(ChannelName::new("x").unwrap())), Level::Notify);
        assert_eq!(read("").unwrap(), Config::default());
    }

    #[test]
    fn an_approver_is_a_user_wherever_there_is_one_server_or_a_user_of_one_server() {
        let text = "approvers = [\"bea\", \"bea@conclave.example\", \" b@t@wss://other:7/x \"]\n";
        let approvers = read(text).unwrap().approvers;
        let said: Vec<_> = approvers.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["bea", "bea@conclave.example", "b@t@wss://other:7/x"]);
        assert_eq!(
            read(&change(text, &[Change::DefaultPermission(Level::Mute)]).unwrap()).unwrap().approvers,
            approvers
        );
        for (text, line) in
            [("approvers = [\n\"bea@\"]", 2), ("approvers = [\"@a\"]", 1), ("approvers = \"bea\"", 1)]
        {
            assert_eq!(read(text).unwrap_err().line, line, "{text}");
        }
    }

    #[test]
    fn the_certificates_of_a_server_are_remembered_with_its_registration() {
        let office = url("wss://conclave.example");
        let text = change(FILE, &[Change::SetCa(office.clone(), "/etc/ca.pem".into())]).unwrap();
        let config = read(&text).unwrap();
        assert_eq!(config.ca(&office), Some(std::path::Path::new("/etc/ca.pem")));
        assert_eq!(config.ca(&url("wss://other")), None);
        assert_eq!(text, FILE.replace("colour = 3\n", "colour = 3\nca = \"/etc/ca.pem\"\n"));
        let gone = change(&text, &[Change::RemoveServer(office.clone())]).unwrap();
        assert_eq!(read(&gone).unwrap().ca(&office), None);
    }

    #[test]
    fn a_change_touches_nothing_else() {
        let text = change(FILE, &[level("wss://conclave.example", Some("ops"), Level::Act)]).unwrap();
        assert_eq!(text, FILE.replace("\"converse\"", "\"act\""));
        let text = change(FILE, &[Change::DefaultPermission(Level::Mute)]).unwrap();
        assert_eq!(text, FILE.replace("\"notify\"", "\"mute\""));
    }

    #[test]
    fn a_new_level_takes_the_registrations_spelling() {
        let text = change(FILE, &[level("wss://CONCLAVE.example", Some("dev"), Level::Mute)]).unwrap();
        assert!(text.ends_with(
            "\n[[overrides]]\nserver = \"wss://conclave.example/\"\nchannel = \"dev\"\nlevel = \"mute\"\n"
        ));
    }

    #[test]
    fn a_removed_server_takes_its_levels_along_and_leaves_the_rest() {
        let more = change(
            FILE,
            &[Change::AddServer(server("ws://other", "bob")), level("ws://other", None, Level::Mute)],
        )
        .unwrap();
        let text = change(&more, &[Change::RemoveServer(url("wss://conclave.example"))]).unwrap();
        let config = read(&text).unwrap();
        assert_eq!(config.servers, [server("ws://other", "bob")]);
        assert_eq!(config.overrides.len(), 1);
        assert!(text.contains("theme = \"dark\"") && text.contains("# mine"));
    }

    #[test]
    fn an_empty_file_becomes_one_that_existing_clients_read() {
        let text = change("", &[Change::AddServer(server("ws://a", "bob"))]).unwrap();
        assert_eq!(
            text,
            "default_permission = \"notify\"\n\n[[servers]]\nurl = \"ws://a\"\nusername = \"bob\"\nmachine = \"ws\"\n"
        );
    }

    #[test]
    fn the_empty_lists_of_existing_clients_and_inline_tables_can_be_added_to() {
        let text = "default_permission = \"notify\"\noverrides = []\n\n[[servers]]\nurl = \"ws://a\"\nusername = \"bob\"\nmachine = \"ws\"\n";
        let changed = change(text, &[level("ws://a", None, Level::Act)]).unwrap();
        assert_eq!(read(&changed).unwrap().level(&url("ws://a"), &Scope::Whispers), Level::Act, "{changed}");
        let text = "overrides = [{ server = \"ws://a\", level = \"act\" }]\nafter = 1\n";
        let changed = change(text, &[level("ws://a", Some("x"), Level::Mute)]).unwrap();
        let config = read(&changed).unwrap();
        assert_eq!(config.overrides.len(), 2, "{changed}");
        assert!(changed.contains("after = 1"));
    }

    #[test]
    fn a_fault_names_its_line() {
        for (text, line, what) in [
            ("a = 1\nb = \n", 2, ""),
            ("default_permission = \"loud\"", 1, "mute, notify, converse or act"),
            ("\n\ndefault_permission = 3", 3, "quotes"),
            ("x = 1\n[[servers]]\nurl = \"ws://a\"\nmachine = \"m\"\n", 2, "`username`"),
            ("[[servers]]\nurl = \"http://a\"\nusername = \"u\"\nmachine = \"m\"\n", 2, "wss://"),
            ("[[servers]]\nurl = \"ws://a\"\nusername = \"u/v\"\nmachine = \"m\"\n", 3, "'/'"),
            ("servers = 3\n", 1, "[[servers]]"),
            ("[overrides]\n", 1, "[[overrides]]"),
            ("approvers = [\n\"a\",\n1]\n", 3, "quotes"),
            ("default_mentions_only = \"yes\"", 1, "true or false"),
            ("agent_messages = 0", 1, "a number from 1"),
            ("agent_messages = \"many\"", 1, "a number from 1"),
        ] {
            let fault = read(text).unwrap_err();
            assert_eq!(fault.line, line, "{text}: {}", fault.what);
            assert!(fault.what.contains(what) && !fault.what.contains('\n'), "{}", fault.what);
        }
    }

    fn any_change() -> impl Strategy<Value = Change> {
        let level_of =
            prop_oneof![Just(Level::Mute), Just(Level::Notify), Just(Level::Converse), Just(Level::Act)];
        let at = prop_oneof![Just("ws://a"), Just("WS://A:80/"), Just("wss://b"), Just("wss://c/d")];
        let channel = proptest::option::of(prop_oneof![Just("x"), Just("y \"z\\")]);
        prop_oneof![
            level_of.clone().prop_map(Change::DefaultPermission),
            (at.clone(), "[a-z]{1,3}").prop_map(|(at, user)| Change::AddServer(server(at, &user))),
            at.clone().prop_map(|at| Change::RemoveServer(url(at))),
            (at.clone(), "/[a-z \"]{1,3}").prop_map(|(at, ca)| Change::SetCa(url(at), ca.into())),
            (at.clone(), 1..4u8, proptest::bool::ANY).prop_map(|(at, seed, derived)| {
                let server_key = conclave_core::key::SecretKey::from_seed(&[seed; 32]).public();
                Change::SetPin(url(at), Pin { server_key, derived })
            }),
            proptest::bool::ANY.prop_map(Change::DefaultMentionsOnly),
            proptest::option::of(1..9_u32).prop_map(Change::AgentMessages),
            (at, channel, level_of, proptest::bool::ANY).prop_map(|(at, channel, to, only)| {
                match level(at, channel, to) {
                    Change::SetLevel(said) => Change::SetLevel(Override { mentions_only: only, ..said }),
                    other => other,
                }
            }),
        ]
    }

    /// What the changes mean, without any text.
    fn apply(config: &mut Config, change: Change) {
        match change {
            Change::DefaultPermission(level) => config.default_permission = level,
            Change::DefaultMentionsOnly(only) => config.default_mentions_only = only,
            Change::AgentMessages(count) => config.agent_messages = count,
            Change::AddServer(new) => match config.servers.iter_mut().find(|old| old.url == new.url) {
                Some(old) => *old = new,
                None => config.servers.push(new),
            },
            Change::RemoveServer(url) => {
                config.servers.retain(|server| server.url != url);
                config.overrides.retain(|said| said.server != url);
                config.cas.retain(|(of, _)| *of != url);
                config.pins.retain(|(of, _)| *of != url);
            }
            Change::SetPin(url, pin) => {
                if config.server(&url).is_some() {
                    config.pins.retain(|(of, _)| *of != url);
                    config.pins.push((url, pin));
                }
                let servers = config.servers.clone();
                config.pins.sort_by_key(|(of, _)| servers.iter().position(|server| server.url == *of));
            }
            Change::SetCa(url, file) => {
                if config.server(&url).is_some() {
                    config.cas.retain(|(of, _)| *of != url);
                    config.cas.push((url, file));
                }
                let servers = config.servers.clone();
                config.cas.sort_by_key(|(of, _)| servers.iter().position(|server| server.url == *of));
            }
            Change::SetLevel(new) => {
                let is = |old: &&mut Override| old.server == new.server && old.scope == new.scope;
                match config.overrides.iter_mut().find(is) {
                    Some(old) => (old.level, old.mentions_only) = (new.level, new.mentions_only),
                    None => config.overrides.push(new),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_text_always_means_what_its_changes_say(changes in proptest::collection::vec(any_change(), 0..12)) {
            let mut text = String::from("# keep me\nodd = { a = 1 }\noverrides = []\n");
            let mut model = Config::default();
            for it in changes {
                text = change(&text, std::slice::from_ref(&it)).unwrap();
                apply(&mut model, it);
                prop_assert_eq!(read(&text).unwrap(), model.clone(), "{}", text);
            }
            prop_assert!(text.contains("# keep me\nodd = { a = 1 }"), "{}", text);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}|(default_permission|servers|overrides|=|\\[|\\]|\"a\"|\n){0,12}") {
            let _ = read(&text);
        }
    }
}
