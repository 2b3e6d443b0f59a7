//! Settings files: what installing and uninstalling does to them and to what is around them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::common::{Ran, program, run};

const CLIENTS: [(&str, &str); 5] = [
    ("claude-code", ".claude/settings.json"),
    ("codex", ".codex/hooks.json"),
    ("gemini", ".gemini/settings.json"),
    ("cursor", ".cursor/hooks.json"),
    ("opencode", ".config/opencode/plugins/conclave.js"),
];

fn command(home: &Path, typed: &[&str]) -> Command {
    let mut command = program();
    command.env("HOME", home).current_dir(home).arg("hook").args(typed);
    command
}

#[track_caller]
fn hook(home: &Path, typed: &[&str]) -> Ran {
    run(&mut command(home, typed), b"")
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn a_file_that_was_made_goes_again_with_its_directory() {
    for (client, file) in CLIENTS {
        for project in [false, true] {
            let home = TempDir::new().unwrap();
            let file = if project { file.replace(".config/opencode", ".opencode") } else { file.to_owned() };
            let with = |action| [action, client, "--project"][..if project { 3 } else { 2 }].to_vec();
            let dry = hook(home.path(), &[&with("install")[..], &["--dry-run"]].concat()).ok();
            assert!(dry.out.contains(&file) && dry.out.contains("--client"), "{dry:?}");
            assert!(is_empty(home.path()), "a dry run changes nothing");
            hook(home.path(), &with("install")).ok();
            let once = fs::read(home.path().join(&file)).unwrap();
            assert!(hook(home.path(), &with("install")).ok().out.contains("nothing to change"));
            assert_eq!(fs::read(home.path().join(&file)).unwrap(), once);
            hook(home.path(), &with("uninstall")).ok();
            assert!(is_empty(home.path()), "{client}");
            assert!(hook(home.path(), &with("uninstall")).ok().out.contains("nothing to change"));
        }
    }
}

#[test]
fn settings_that_were_there_come_back_with_their_mode_through_a_link() {
    for (client, file) in &CLIENTS[..4] {
        for text in
            ["{}", "{}\n", "{\r\n\t\"hooks\": {},\r\n\t\"a\": 1 // one\r\n}", "{\"hooks\":{\"Stop\":[]}}"]
        {
            let home = TempDir::new().unwrap();
            let (kept, link) = (home.path().join("dotfiles.json"), home.path().join(file));
            fs::write(&kept, text).unwrap();
            fs::set_permissions(&kept, fs::Permissions::from_mode(0o640)).unwrap();
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(&kept, &link).unwrap();
            hook(home.path(), &["install", client]).ok();
            assert!(fs::read_to_string(&kept).unwrap().contains("--client"));
            hook(home.path(), &["uninstall", client]).ok();
            assert_eq!(fs::read_to_string(&kept).unwrap(), text, "{client}");
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o640);
        }
    }
}

#[test]
fn what_cannot_be_read_is_left_as_it_is() {
    let home = TempDir::new().unwrap();
    let file = home.path().join(".claude/settings.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    for text in ["", "{", "{\"hooks\": []}", "\u{feff}no"] {
        fs::write(&file, text).unwrap();
        hook(home.path(), &["install", "claude-code"]).fails(1, "cannot be changed", "nothing was changed");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    fs::remove_file(&file).unwrap();
    symlink("nowhere", &file).unwrap();
    hook(home.path(), &["install", "claude-code"]).fails(1, "a symbolic link to nothing", "type this again");
    let plugin = home.path().join(".config/opencode/plugins/conclave.js");
    fs::create_dir_all(plugin.parent().unwrap()).unwrap();
    fs::write(&plugin, "export const Mine = 1\n").unwrap();
    hook(home.path(), &["install", "opencode"]).fails(1, "is not conclave's", "move it away");
    assert!(hook(home.path(), &["uninstall", "opencode"]).ok().out.contains("nothing to change"));
}

#[test]
fn the_command_is_one_that_a_shell_finds_with_the_directory_that_was_given() {
    let own = Path::new(env!("CARGO_BIN_EXE_conclave"));
    let home = TempDir::new().unwrap();
    let dry = hook(home.path(), &["install", "codex", "--dry-run"]).ok();
    assert!(dry.out.contains(&format!("{} hook Stop --client codex", own.display())), "{dry:?}");
    let mut named = command(home.path(), &["install", "codex", "--dry-run", "--config-dir", "a dir"]);
    let named = run(named.env("PATH", own.parent().unwrap()), b"").ok();
    let dir = home.path().canonicalize().unwrap().join("a dir");
    let expected = format!(" conclave --config-dir '{}' hook Stop --client codex", dir.display());
    assert!(named.out.contains(&expected), "{named:?}");
    let mut moved = command(home.path(), &["install", "codex"]);
    run(moved.env("CODEX_HOME", home.path().join("elsewhere")), b"").ok();
    assert!(home.path().join("elsewhere/hooks.json").exists());
}
