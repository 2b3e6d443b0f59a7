//! A page of the documentation: its blocks of code, and the commands in them.

use std::fs;
use std::path::{Path, PathBuf};

/// A page.
pub(crate) struct Page {
    /// Where it is, from the project's root.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A fenced block.
pub(crate) struct Block<'a> {
    /// What stands behind the fence.
    pub(crate) language: &'a str,
    /// Its lines, each with its number in the page.
    pub(crate) lines: Vec<(usize, &'a str)>,
}

/// The project's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All pages that people read, README first.
pub(crate) fn pages() -> Vec<Page> {
    let mut paths = vec![String::from("README.md"), String::from("CONTRIBUTING.md")];
    let mut docs: Vec<_> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|path| path.ends_with(".md"))
        .collect();
    docs.sort();
    paths.append(&mut docs);
    paths.into_iter().map(page).collect()
}

/// One page.
pub(crate) fn page(path: impl Into<String>) -> Page {
    let path = path.into();
    let text = fs::read_to_string(root().join(&path)).unwrap();
    Page { path, text }
}

impl Page {
    /// Its fenced blocks.
    pub(crate) fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut open: Option<Block<'_>> = None;
        for (number, line) in (1..).zip(self.text.lines()) {
            match (line.strip_prefix("```"), &mut open) {
                (Some(language), None) => open = Some(Block { language, lines: Vec::new() }),
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => block.lines.push((number, line)),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", self.path);
        blocks
    }

    /// What is typed: the `conclave` commands of the shell blocks and of the `code` in its sentences.
    pub(crate) fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        for block in self.blocks() {
            match block.language {
                "sh" => commands.extend(block.lines.iter().flat_map(|(_, line)| typed(line))),
                "console" => {
                    let typed_there = block.lines.iter().filter_map(|(_, line)| prompt(line));
                    commands.extend(typed_there.flat_map(|(_, line)| typed(line)));
                }
                _ => {}
            }
        }
        let mut fenced = false;
        for line in self.text.lines() {
            fenced ^= line.starts_with("```");
            if !fenced {
                commands.extend(line.split('`').skip(1).step_by(2).flat_map(typed));
            }
        }
        commands
    }
}

/// The machine and the command of a line that starts with a prompt: `$ ls`, or `aaron$ ls`.
pub(crate) fn prompt(line: &str) -> Option<(&str, &str)> {
    let (machine, command) = line.split_once("$ ")?;
    machine.bytes().all(|b| b.is_ascii_alphanumeric()).then_some((machine, command))
}

/// The conclave commands of a line of shell, without what stands before and behind them.
fn typed(line: &str) -> Vec<String> {
    let line = line.replace("cargo run --release -p conclave -- ", "conclave ");
    let code = line.split(" # ").next().unwrap_or_default();
    let mut commands = Vec::new();
    for part in code.split(['|', ';', '&', '(', ')']) {
        let words: Vec<_> = part.split_whitespace().collect();
        let before = ["sudo", "-u", "conclave-server", "exec", "--", "then", "docker", "run"];
        let start = words.iter().position(|word| !before.contains(word)).unwrap_or(0);
        if words.get(start) == Some(&"conclave") && words.len() > start + 1 {
            commands.push(words[start..].join(" "));
        }
    }
    commands
}

#[test]
fn commands_are_found_where_they_stand() {
    let text = "`conclave who` and `ls`\n```sh\nsudo conclave serve # x\ngit log | conclave send a\n```\n";
    let page = Page { path: String::new(), text: text.into() };
    assert_eq!(page.commands(), ["conclave serve", "conclave send a", "conclave who"]);
    assert_eq!(prompt("bea$ ls -l"), Some(("bea", "ls -l")));
    assert_eq!(prompt("costs 3$ a piece"), None);
}
