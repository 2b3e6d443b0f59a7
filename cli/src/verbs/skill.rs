//! `conclave skill`: the guide that an agent reads before it uses conclave.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::args::{Skill, SkillAction};
use crate::{Context, Failure};

const TEXT: &str = include_str!("skill.md");

/// The guide, with the tools as the bridge has them.
fn text() -> String {
    format!("{}\n\n## The tools\n{}", TEXT.trim_end(), conclave_core::bridge::tool_reference())
}

pub(super) fn run(skill: &Skill, context: &Context) -> Result<(), Failure> {
    let dir = match &skill.action {
        None | Some(SkillAction::Show) => {
            return context.output.result(text().trim_end(), json!({ "skill": text() }));
        }
        Some(SkillAction::Install { dir }) => dir.clone(),
    };
    let home = || std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).map(PathBuf::from);
    let dir = dir.or_else(|| Some(home()?.join(".claude").join("skills"))).ok_or_else(|| {
        Failure::new("no home directory is known: HOME is not set", "name the directory of skills: --dir DIR")
    })?;
    let file = dir.join("conclave").join("SKILL.md");
    fs::create_dir_all(dir.join("conclave")).and_then(|()| fs::write(&file, text())).map_err(|error| {
        Failure::new(
            format!("the skill cannot be written to {}: {error}", file.display()),
            "name a directory that you may write to: --dir DIR",
        )
    })?;
    context
        .output
        .result(format_args!("wrote {}", file.display()), json!({ "installed": file.display().to_string() }))
}
