//! The names, numbers and types of fields that files of resources are read with: those of the very
//! version of `envoy-types` that the decoders are built with.
//!
//! `MESH_UPDATE_DESCRIPTORS=1 cargo test -p mesh-core --features files --test descriptors` writes
//! them anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use prost::Message;
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MessageOptions,
    field_descriptor_proto::{Label, Type},
};

const KEPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/src/control/files/descriptors.bin"
);

/// Where the package that cargo builds with is.
fn envoy_types() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--offline", "--locked"])
        // No more than what was fetched to build this.
        .args(["--filter-platform", &host(), "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs, as it runs this test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages
        .iter()
        .find(|package| package["name"] == "envoy-types")
        .unwrap();
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    manifest.with_file_name("proto")
}

fn host() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8(output.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.unwrap().to_owned()
}

/// Every definition below `root`, as paths that `import` would say.
fn definitions(root: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(below) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            definitions(root, &path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            found.insert(path.strip_prefix(root).unwrap().to_owned());
        }
    }
}

/// What a reader needs: no comments, no options but that of maps, no services.
fn bare(file: FileDescriptorProto) -> FileDescriptorProto {
    FileDescriptorProto {
        name: file.name,
        package: file.package,
        dependency: file.dependency,
        public_dependency: file.public_dependency,
        message_type: file.message_type.into_iter().map(message).collect(),
        enum_type: file.enum_type.into_iter().map(enumeration).collect(),
        syntax: file.syntax,
        ..Default::default()
    }
}

fn message(message: DescriptorProto) -> DescriptorProto {
    let is_map = message.options.and_then(|options| options.map_entry);
    DescriptorProto {
        name: message.name,
        field: message.field.into_iter().map(field).collect(),
        nested_type: message.nested_type.into_iter().map(self::message).collect(),
        enum_type: message.enum_type.into_iter().map(enumeration).collect(),
        oneof_decl: message
            .oneof_decl
            .into_iter()
            .map(|mut oneof| {
                oneof.options = None;
                oneof
            })
            .collect(),
        options: is_map.map(|_| MessageOptions {
            map_entry: is_map,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn field(field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto {
        options: None,
        ..field
    }
}

fn enumeration(enumeration: EnumDescriptorProto) -> EnumDescriptorProto {
    EnumDescriptorProto {
        name: enumeration.name,
        value: enumeration
            .value
            .into_iter()
            .map(|value| EnumValueDescriptorProto {
                options: None,
                ..value
            })
            .collect(),
        options: enumeration.options.filter(|options| options.allow_alias()),
        ..Default::default()
    }
}

/// `TypedStruct`, with its two fields.
fn typed_struct(package: &str) -> FileDescriptorProto {
    let field = |name: &str, number, r#type: Type, type_name: Option<&str>| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(r#type.into()),
        type_name: type_name.map(str::to_owned),
        ..Default::default()
    };
    let held = Some(".google.protobuf.Struct");
    FileDescriptorProto {
        name: Some(format!("{}/typed_struct.proto", package.replace('.', "/"))),
        package: Some(package.to_owned()),
        message_type: vec![DescriptorProto {
            name: Some("TypedStruct".to_owned()),
            field: vec![
                field("type_url", 1, Type::String, None),
                field("value", 2, Type::Message, held),
            ],
            ..Default::default()
        }],
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}

/// The names of all types that `message` refers to.
fn references(message: &DescriptorProto, into: &mut BTreeSet<String>) {
    into.extend(
        message
            .field
            .iter()
            .filter_map(|field| field.type_name.clone()),
    );
    for nested in &message.nested_type {
        references(nested, into);
    }
}

/// The names of all types that `file` has.
fn types(file: &FileDescriptorProto) -> BTreeSet<String> {
    fn inside(scope: &str, message: &DescriptorProto, into: &mut BTreeSet<String>) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            inside(&name, nested, into);
        }
        into.extend(
            message
                .enum_type
                .iter()
                .map(|e| format!("{name}.{}", e.name())),
        );
        into.insert(name);
    }
    let scope = format!(".{}", file.package());
    let mut names = BTreeSet::new();
    for message in &file.message_type {
        inside(&scope, message, &mut names);
    }
    names.extend(
        file.enum_type
            .iter()
            .map(|e| format!("{scope}.{}", e.name())),
    );
    names
}

/// All of the definitions, each importing what it uses and nothing else: without options, most of
/// what options are made of is not used by anybody.
fn descriptors() -> Vec<u8> {
    let root = envoy_types();
    let packages: Vec<PathBuf> = [
        "data-plane-api",
        "xds",
        "googleapis",
        "protoc-gen-validate",
        "cel-spec/proto",
        "client_model",
        "opentelemetry-proto",
        "ratelimit/api",
    ]
    .map(|package| root.join(package))
    .into();
    let mut wanted = BTreeSet::new();
    for (package, below) in [
        ("data-plane-api", "envoy/config"),
        ("data-plane-api", "envoy/extensions"),
        ("data-plane-api", "envoy/service/discovery/v3"),
        ("data-plane-api", "envoy/type"),
        ("xds", "xds/type/v3"),
        ("xds", "udpa/type/v1"),
    ] {
        let package = root.join(package);
        definitions(&package, &package.join(below), &mut wanted);
    }
    // One by one: protox looks names up in all packages that are compiled, not in what a file imports
    // alone. The few that go wrong even so are left out, none of which a decoder reads.
    let mut files = BTreeMap::new();
    wanted.retain(|path| match protox::compile([path], &packages) {
        Ok(compiled) => {
            files.extend(
                compiled
                    .file
                    .into_iter()
                    .map(|file| (file.name().to_owned(), bare(file))),
            );
            true
        }
        Err(error) => {
            println!("{error}");
            false
        }
    });
    // Those that `envoy-types` lacks, with which extensions are configured that it does not know.
    for package in ["xds.type.v3", "udpa.type.v1"] {
        let file = typed_struct(package);
        wanted.insert(file.name().into());
        files.insert(file.name().to_owned(), file);
    }
    let home: BTreeMap<String, String> = files
        .iter()
        .flat_map(|(name, file)| types(file).into_iter().map(|t| (t, name.clone())))
        .collect();
    let mut kept = BTreeMap::new();
    let mut left: Vec<String> = wanted
        .iter()
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    while let Some(name) = left.pop() {
        if kept.contains_key(&name) {
            continue;
        }
        let mut file = files[&name].clone();
        let mut used = BTreeSet::new();
        for message in &file.message_type {
            references(message, &mut used);
        }
        let imports: BTreeSet<String> = used
            .iter()
            .map(|t| home[t].clone())
            .filter(|n| *n != name)
            .collect();
        left.extend(imports.iter().cloned());
        file.dependency = imports.into_iter().collect();
        file.public_dependency = Vec::new();
        kept.insert(name, file);
    }
    let set = FileDescriptorSet {
        file: kept
            .into_values()
            .filter(|file| !file.message_type.is_empty() || !file.enum_type.is_empty())
            .collect(),
    };
    set.encode_to_vec()
}

#[test]
fn those_that_are_kept_are_those_of_the_messages_that_are_decoded() {
    let current = descriptors();
    if std::env::var_os("MESH_UPDATE_DESCRIPTORS").is_some() {
        fs::write(KEPT, &current).unwrap();
    }
    assert!(
        fs::read(KEPT).unwrap() == current,
        "envoy-types has changed: run this with MESH_UPDATE_DESCRIPTORS=1"
    );
}
