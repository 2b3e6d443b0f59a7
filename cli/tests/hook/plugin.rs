//! The plugin for Claude Code in `packaging/claude-code-plugin`: by the rules of the documented manifests, and the same as
//! what the program prints and installs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{program, run};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn plugin() -> PathBuf {
    root().join("packaging/claude-code-plugin")
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

fn printed(typed: &[&str]) -> String {
    let home = TempDir::new().unwrap();
    run(program().env("HOME", home.path()).args(typed), b"").ok().out
}

/// Lower case, digits, hyphens between.
fn is_kebab(name: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    name.split('-').all(plain) && name.starts_with(|c: char| c.is_ascii_lowercase())
}

/// A path in a manifest: from the plugin's root, into it, to something that is there.
fn is_path(base: &Path, path: &Value) -> bool {
    let path = path.as_str().unwrap();
    path.starts_with("./") && !path.contains("..") && !path.contains('\\') && base.join(path).exists()
}

fn is_author(author: &Value) -> bool {
    let fields = ["name", "email", "url"];
    author["name"].is_string() && author.as_object().unwrap().keys().all(|it| fields.contains(&it.as_str()))
}

#[test]
fn the_manifest_keeps_the_documented_rules() {
    let manifest = read(&plugin().join(".claude-plugin/plugin.json"));
    for (field, value) in manifest.as_object().unwrap() {
        let valid = match field.as_str() {
            "name" => is_kebab(value.as_str().unwrap()),
            "version" => value == env!("CARGO_PKG_VERSION"),
            "description" | "license" => value.as_str().is_some_and(|text| !text.is_empty()),
            "homepage" | "repository" => value.as_str().is_some_and(|url| url.starts_with("https://")),
            "author" => is_author(value),
            "mcpServers" => is_path(&plugin(), value),
            "channels" => {
                let servers = read(&plugin().join(".mcp.json"));
                let known = |it: &Value| servers["mcpServers"].get(it["server"].as_str().unwrap()).is_some();
                value.as_array().unwrap().iter().all(known)
            }
            // Files where they are looked for anyway must not be named again: that loads them twice.
            _ => false,
        };
        assert!(valid, "{field}: {value}");
    }
    assert!(manifest["name"].is_string(), "the one field that has to be there");
    let inside: BTreeSet<_> =
        fs::read_dir(plugin().join(".claude-plugin")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(inside, BTreeSet::from(["plugin.json".into()]), "everything else stands at the plugin's root");
}

#[test]
fn the_marketplace_in_the_checkout_has_the_plugin() {
    let marketplace = read(&root().join(".claude-plugin/marketplace.json"));
    assert!(is_kebab(marketplace["name"].as_str().unwrap()) && is_author(&marketplace["owner"]));
    let [entry] = &marketplace["plugins"].as_array().unwrap()[..] else { panic!("{marketplace}") };
    assert_eq!(entry["name"], read(&plugin().join(".claude-plugin/plugin.json"))["name"]);
    assert!(is_path(&root(), &entry["source"]), "{entry}");
    assert_eq!(
        root().join(entry["source"].as_str().unwrap()).canonicalize().unwrap(),
        plugin().canonicalize().unwrap()
    );
}

#[test]
fn its_files_are_what_the_program_prints_and_installs() {
    let text = printed(&["bridge", "--print-config", "claude-code-plugin"]);
    let mut shown = text.split("# ").filter_map(|part| {
        let (name, json) = part.split_once('\n')?;
        Some((name.to_owned(), serde_json::from_str::<Value>(json).ok()?))
    });
    let (name, manifest) = shown.next().unwrap();
    assert!(name.ends_with("plugin.json"), "{text}");
    let file = read(&plugin().join(".claude-plugin/plugin.json"));
    for (field, value) in manifest.as_object().unwrap() {
        assert_eq!(&file[field], value, "{field}");
    }
    assert_eq!(shown.next().unwrap().1, read(&plugin().join(".mcp.json")));

    assert_eq!(fs::read_to_string(plugin().join("skills/conclave/SKILL.md")).unwrap(), printed(&["skill"]));

    let home = TempDir::new().unwrap();
    let own = Path::new(env!("CARGO_BIN_EXE_conclave")).parent().unwrap();
    let mut install = program();
    install.env("HOME", home.path()).env("PATH", own).args(["hook", "install", "claude-code"]);
    run(&mut install, b"").ok();
    assert_eq!(read(&plugin().join("hooks/hooks.json")), read(&home.path().join(".claude/settings.json")));
}

#[test]
fn its_hooks_are_of_the_documented_shape() {
    let hooks = read(&plugin().join("hooks/hooks.json"));
    let events: Vec<_> = hooks["hooks"].as_object().unwrap().iter().collect();
    assert_eq!(events.len(), 4);
    for (event, groups) in events {
        assert_eq!(
            groups,
            &json!([{ "hooks": [
            { "type": "command", "command": format!("conclave hook {event} --client claude-code"), "timeout": 5 }
        ] }])
        );
    }
}
