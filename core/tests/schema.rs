//! What is generated from the schema of version 2 is generated again and compared;
//! `UPDATE_SCHEMA=1 cargo test -p conclave-core --test schema` writes it instead. Nothing that was released may change.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Fields that hold a message which is relayed exactly as its sender encoded it, unknown fields included. Both sides of
/// the wire see a message; our own code sees its bytes.
const OPAQUE: [(&str, &str); 4] =
    [("Post", "body"), ("PostCommit", "body"), ("Delivery", "body"), ("Whisper", "body")];

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
        let mut fields: Vec<&FieldDescriptorProto> = message.field.iter().collect();
        fields.sort_by_key(|it| it.number());
        for field in fields {
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
    out.push_str("];\n\n");
    for (constant, root) in [("CLIENT_FRAME", "ClientFrame"), ("SERVER_FRAME", "ServerFrame")] {
        let _ = writeln!(out, "pub(super) static {constant}: &Message = &MESSAGES[{}];", index(&names, root));
    }
    let _ = writeln!(out, "\npub(super) static ENUMS: [Enum; {}] = [", enums.len());
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

/// For the tests: prost's decoding and encoding of a message type by its name.
fn round_trips() -> String {
    let mut out = String::from(
        "// @generated from proto/conclave/v2/conclave.proto by core/tests/schema.rs.\n\n\
         use conclave_core::wire::v2::schema;\n\
         use prost::{DecodeError, Message};\n\n\
         pub(super) fn round_trip(message: &str, bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {\n    \
             match message {\n",
    );
    for message in &schema().file[0].message_type {
        let name = message.name();
        let _ = writeln!(out, "        {name:?} => Ok(schema::{name}::decode(bytes)?.encode_to_vec()),");
    }
    out.push_str("        other => panic!(\"the schema has no {other}\"),\n    }\n}\n");
    out
}

/// One line for each field and each value of an enum, with all that must stay as it is.
fn contract() -> String {
    let mut out = String::new();
    let file = &schema().file[0];
    for message in &file.message_type {
        let _ = writeln!(out, "message {}", message.name());
        for field in &message.field {
            let of = field.type_name().trim_start_matches(".conclave.v2.");
            let label = if field.label() == Label::Repeated { "repeated " } else { "" };
            let kind = format!("{:?}", field.r#type()).to_lowercase();
            let oneof = field.oneof_index.map(|at| message.oneof_decl[at as usize].name());
            let _ = write!(out, "{}.{} = {}: {label}{kind}", message.name(), field.name(), field.number());
            let _ = write!(out, "{}{of}", if of.is_empty() { "" } else { " " });
            let _ = writeln!(out, "{}", oneof.map_or(String::new(), |it| format!(", oneof {it}")));
        }
    }
    for one in &file.enum_type {
        let _ = writeln!(out, "enum {}", one.name());
        for value in &one.value {
            let _ = writeln!(out, "{}.{} = {}", one.name(), value.name(), value.number());
        }
    }
    out
}

fn compare(file: &str, generated: &str) {
    let path = root().join(file);
    if env::var_os("UPDATE_SCHEMA").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
        fs::write(&path, generated).expect("the file is written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == generated, "{} is not what the schema says: run with UPDATE_SCHEMA=1", path.display());
}

#[test]
fn the_types_are_those_of_the_schema() {
    compare("core/src/wire/v2/schema.rs", &types());
}

#[test]
fn the_table_of_the_json_mapping_is_that_of_the_schema() {
    compare("core/src/wire/v2/table.rs", &table());
}

#[test]
fn the_vectors_cover_the_types_of_the_schema() {
    compare("core/tests/vectors_v2/types.rs", &round_trips());
}

#[test]
fn what_was_released_is_unchanged() {
    const FILE: &str = "proto/conclave/v2/released.txt";
    let (released, now) = (fs::read_to_string(root().join(FILE)).unwrap_or_default(), contract());
    for line in released.lines() {
        assert!(now.lines().any(|it| it == line), "the schema no longer has `{line}`");
    }
    // Only additions are left, which the file must list, too.
    compare(FILE, &now);
}
