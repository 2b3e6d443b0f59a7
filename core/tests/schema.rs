//! The types of version 2 are generated from its schema. This test generates them again and compares;
//! `UPDATE_SCHEMA=1 cargo test -p conclave-core --test schema` writes them instead.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Fields that hold a message which is relayed exactly as its sender encoded it, unknown fields included. Both sides of
/// the wire see a message; our own code sees its bytes.
const OPAQUE: [(&str, &str); 2] = [("Post", "body"), ("Delivery", "body")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn schema() -> FileDescriptorSet {
    protox::compile(["conclave/v2/conclave.proto"], [root().join("proto")]).expect("a valid schema")
}

/// The Rust types, by prost.
fn types() -> String {
    let mut set = schema();
    for message in &mut set.file[0].message_type {
        let name = message.name().to_owned();
        for field in message.field.iter_mut().filter(|it| OPAQUE.contains(&(&name, it.name()))) {
            field.set_type(Type::Bytes);
            field.type_name = None;
        }
    }
    let out = tempfile::tempdir().expect("a temporary directory");
    prost_build::Config::new()
        .bytes(["."])
        // Bodies, tokens and signatures must not reach a log.
        .skip_debug(["."])
        .out_dir(out.path())
        .compile_fds(set)
        .expect("types");
    fs::read_to_string(out.path().join("conclave.v2.rs")).expect("the generated file")
}

/// The table that the JSON mapping goes by.
fn table() -> String {
    let set = schema();
    let file = &set.file[0];
    let names: Vec<&str> = file.message_type.iter().map(DescriptorProto::name).collect();
    let enums: Vec<&str> = file.enum_type.iter().map(|it| it.name()).collect();
    let index = |names: &[&str], full: &str| {
        let name = full.trim_start_matches(".conclave.v2.");
        names.iter().position(|it| *it == name).expect("a type of this schema")
    };
    let kind = |field: &FieldDescriptorProto| match field.r#type() {
        Type::Uint32 => "Kind::Uint32".into(),
        Type::Uint64 => "Kind::Uint64".into(),
        Type::Int64 => "Kind::Int64".into(),
        Type::Bool => "Kind::Bool".into(),
        Type::String => "Kind::String".into(),
        Type::Bytes => "Kind::Bytes".into(),
        Type::Enum => format!("Kind::Enum(&ENUMS[{}])", index(&enums, field.type_name())),
        Type::Message => format!("Kind::Message(&MESSAGES[{}])", index(&names, field.type_name())),
        other => panic!("the JSON mapping knows no {other:?}"),
    };
    let mut out = String::from(
        "// @generated from proto/conclave/v2/conclave.proto by core/tests/schema.rs.\n\n\
         use super::json::{Enum, Field, Kind, Message};\n\n\
         pub(super) static MESSAGES: [Message; ",
    );
    let _ = writeln!(out, "{}] = [", names.len());
    for message in &file.message_type {
        let _ = writeln!(out, "    Message {{ name: {:?}, fields: &[", message.name());
        for field in &message.field {
            let _ = writeln!(
                out,
                "        Field {{ number: {}, name: {:?}, json: {:?}, kind: {}, repeated: {}, oneof: {:?} }},",
                field.number(),
                field.name(),
                field.json_name(),
                kind(field),
                field.label() == Label::Repeated,
                field.oneof_index,
            );
        }
        out.push_str("    ] },\n");
    }
    let _ = writeln!(out, "];\n\npub(super) static ENUMS: [Enum; {}] = [", enums.len());
    for one in &file.enum_type {
        let _ = writeln!(out, "    Enum {{ values: &[");
        for value in &one.value {
            let _ = writeln!(out, "        ({}, {:?}),", value.number(), value.name());
        }
        out.push_str("    ] },\n");
    }
    out.push_str("];\n");
    out
}

fn compare(file: &str, generated: &str) {
    let path = root().join("core/src/wire/v2").join(file);
    if env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, generated).expect("the file is written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == generated, "{} is not what the schema says: run with UPDATE_SCHEMA=1", path.display());
}

#[test]
fn the_types_are_those_of_the_schema() {
    compare("schema.rs", &types());
}

#[test]
fn the_table_of_the_json_mapping_is_that_of_the_schema() {
    compare("table.rs", &table());
}
