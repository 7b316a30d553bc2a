//! What builders and buildpackages say of themselves (distribution specification, "Builder" and "Buildpackage"), as
//! pack's users know it.

use crate::detect::Kind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use strata_spec::builder::{BuildVariable, Builder};
use strata_spec::buildpack::{Descriptor, Target};
use strata_spec::extension;
use strata_spec::lifecycle::Lifecycle;
use strata_spec::order::{Order, OrderElement, OrderFile, OrderGroup};
use strata_spec::run::RunImage;
use strata_spec::system::{System, SystemBuildpack, SystemBuildpacks};
use toml_text::{array, string};

/// A buildpack and the layer that it is in.
#[derive(Clone, Debug)]
pub struct Module {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// diffID of its layer.
    pub diff_id: String,
}

/// An image extension and the layer that it is in.
#[derive(Clone, Debug)]
pub struct Extension {
    /// Its descriptor.
    pub descriptor: extension::Descriptor,
    /// diffID of its layer.
    pub diff_id: String,
}

/// What an order names and the builder does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// No such buildpack or extension.
    #[error("the order names {1}, which is not among the {0}s")]
    Missing(Kind, String),
    /// Several versions, of which none is named.
    #[error("the order names {0} without a version, and there are several")]
    Ambiguous(String),
}

/// The order with all versions; each buildpack in it is there.
///
/// # Errors
/// When one is not there, or its version is not clear.
pub fn resolve(order: &Order, modules: &[Module]) -> Result<Order, OrderError> {
    let known = modules.iter().map(|module| &module.descriptor.buildpack);
    with_versions(order, Kind::Buildpack, &known.map(|info| (&*info.id, &*info.version)).collect::<Vec<_>>())
}

/// The order of image extensions with all versions; each extension in it is there.
///
/// # Errors
/// When one is not there, or its version is not clear.
pub fn resolve_extensions(order: &Order, extensions: &[Extension]) -> Result<Order, OrderError> {
    let known = extensions.iter().map(|extension| &extension.descriptor.extension);
    with_versions(order, Kind::Extension, &known.map(|info| (&*info.id, &*info.version)).collect::<Vec<_>>())
}

fn with_versions(order: &Order, kind: Kind, known: &[(&str, &str)]) -> Result<Order, OrderError> {
    let element = |element: &OrderElement| -> Result<OrderElement, OrderError> {
        let name = || format!("{}@{}", element.id, element.version).trim_end_matches('@').to_owned();
        let mut found = known.iter().filter(|(id, version)| {
            *id == element.id && (element.version.is_empty() || *version == element.version)
        });
        let (_, version) = found.next().ok_or_else(|| OrderError::Missing(kind, name()))?;
        match found.next() {
            Some(_) => Err(OrderError::Ambiguous(name())),
            None => Ok(OrderElement { version: (*version).to_owned(), ..element.clone() }),
        }
    };
    let group = |group: &OrderGroup| {
        let group = group.group.iter().map(element).collect::<Result<_, _>>()?;
        Ok(OrderGroup { group })
    };
    order.iter().map(group).collect()
}

/// Whether all buildpacks of composites are there.
///
/// # Errors
/// When one is not.
pub fn check_composites(modules: &[Module]) -> Result<(), OrderError> {
    modules.iter().try_for_each(|module| resolve(&module.descriptor.order, modules).map(drop))
}

/// The operator's buildpacks with all versions; each of them is there.
///
/// # Errors
/// As of [`resolve`].
pub fn resolve_system(system: &System, modules: &[Module]) -> Result<System, OrderError> {
    let resolved = |part: &SystemBuildpacks| -> Result<SystemBuildpacks, OrderError> {
        let element = |one: &SystemBuildpack| OrderElement {
            id: one.id.clone(),
            version: one.version.clone(),
            optional: false,
        };
        let group = OrderGroup { group: part.buildpacks.iter().map(element).collect() };
        let found = resolve(&vec![group], modules)?.into_iter().flat_map(|group| group.group);
        let buildpacks = found.map(|one| SystemBuildpack { id: one.id, version: one.version });
        Ok(SystemBuildpacks { buildpacks: buildpacks.collect() })
    };
    Ok(System { pre: resolved(&system.pre)?, post: resolved(&system.post)? })
}

/// Whether a builder that names targets can be made of an image of this platform.
///
/// # Errors
/// The targets that it names.
pub fn check_targets(targets: &[Target], os: &str, arch: &str) -> Result<(), String> {
    let fits = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
    if targets.is_empty() || targets.iter().any(|target| fits(&target.os, os) && fits(&target.arch, arch)) {
        return Ok(());
    }
    let named: Vec<String> = targets.iter().map(|target| format!("{}/{}", target.os, target.arch)).collect();
    Err(named.join(", "))
}

/// `/cnb/system.toml`; none if there is nothing to say.
pub fn system_toml(system: &System) -> Option<String> {
    let mut text = String::new();
    for (name, part) in [("pre", &system.pre), ("post", &system.post)] {
        for one in &part.buildpacks {
            let (id, version) = (string(&one.id), string(&one.version));
            text.push_str(&format!("[[system.{name}.buildpacks]]\n  id = {id}\n  version = {version}\n"));
        }
    }
    (!text.is_empty()).then_some(text)
}

/// `io.buildpacks.buildpack.system`.
pub fn system_label(system: &System) -> String {
    let part = |part: &SystemBuildpacks| -> Value {
        let one = |one: &SystemBuildpack| json!({ "id": one.id, "version": one.version });
        json!({ "buildpacks": part.buildpacks.iter().map(one).collect::<Vec<_>>() })
    };
    json!({ "pre": part(&system.pre), "post": part(&system.post) }).to_string()
}

/// `io.buildpacks.buildpack.layers`.
pub fn layers_label(modules: &[Module]) -> String {
    let mut all: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for module in modules {
        let Descriptor { api, buildpack, .. } = &module.descriptor;
        let mut value = json!({ "api": api });
        let descriptor = &module.descriptor;
        put(&mut value, "stacks", descriptor.stacks.iter().map(|stack| json!({ "id": stack.id })).collect());
        put(&mut value, "targets", descriptor.targets.iter().map(target).collect());
        put(&mut value, "order", order_value(&descriptor.order));
        put(&mut value, "layerDiffID", json!(module.diff_id));
        put(&mut value, "homepage", json!(buildpack.homepage));
        put(&mut value, "name", json!(buildpack.name));
        all.entry(&buildpack.id).or_default().insert(&buildpack.version, value);
    }
    json!(all).to_string()
}

/// `io.buildpacks.extension.layers`.
pub fn extension_layers_label(extensions: &[Extension]) -> String {
    let mut all: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for Extension { descriptor, diff_id } in extensions {
        let info = &descriptor.extension;
        let mut value = json!({ "api": descriptor.api });
        put(&mut value, "targets", descriptor.targets.iter().map(target).collect());
        put(&mut value, "layerDiffID", json!(diff_id));
        put(&mut value, "homepage", json!(info.homepage));
        put(&mut value, "name", json!(info.name));
        all.entry(&info.id).or_default().insert(&info.version, value);
    }
    json!(all).to_string()
}

/// `io.buildpacks.buildpackage.metadata` of the package of this image extension.
pub fn extension_package_label(main: &extension::Descriptor) -> String {
    extension_info(main).to_string()
}

/// `io.buildpacks.buildpackage.metadata` of the package of this buildpack.
pub fn package_label(main: &Descriptor) -> String {
    let mut value = info(main);
    // pack asks every package for stacks, which newer buildpacks do not have.
    let stacks: Vec<Value> = main.stacks.iter().map(|stack| json!({ "id": stack.id })).collect();
    let stacks = if stacks.is_empty() { vec![json!({ "id": "*" })] } else { stacks };
    put(&mut value, "stacks", json!(stacks));
    value.to_string()
}

/// `io.buildpacks.builder.metadata`.
pub fn builder_label(
    builder: &Builder,
    modules: &[Module],
    extensions: &[Extension],
    lifecycle: Option<&Lifecycle>,
    version: &str,
) -> String {
    // What pack writes where there are none.
    let all = |list: Vec<Value>| if list.is_empty() { Value::Null } else { list.into() };
    let images = builder.run.images.iter().map(|run| json!({ "image": run.image, "mirrors": run.mirrors }));
    let first = builder.run.images.first().cloned().unwrap_or_default();
    let mut value = json!({
        "description": builder.description,
        "buildpacks": modules.iter().map(|module| info(&module.descriptor)).collect::<Vec<_>>(),
        "extensions": all(extensions.iter().map(|extension| extension_info(&extension.descriptor)).collect()),
        "stack": { "runImage": { "image": first.image, "mirrors": first.mirrors } },
    });
    if let Some(lifecycle) = lifecycle {
        let apis = |apis: &strata_spec::lifecycle::Apis| json!({ "deprecated": apis.deprecated, "supported": apis.supported });
        let lowest =
            |apis: &strata_spec::lifecycle::Apis| apis.supported.first().cloned().unwrap_or_default();
        let (buildpack, platform) = (&lifecycle.apis.buildpack, &lifecycle.apis.platform);
        let document = json!({
            "version": lifecycle.lifecycle.version,
            "api": { "buildpack": lowest(buildpack), "platform": lowest(platform) },
            "apis": { "buildpack": apis(buildpack), "platform": apis(platform) },
        });
        put(&mut value, "lifecycle", document);
    }
    put(&mut value, "createdBy", json!({ "name": "strata", "version": version }));
    put(&mut value, "images", images.collect());
    value.to_string()
}

/// `io.buildpacks.buildpack.order`.
pub fn order_label(order: &Order) -> String {
    order_value(order).to_string()
}

/// `/cnb/order.toml`.
pub fn order_toml(file: &OrderFile) -> String {
    let mut text = String::new();
    for (table, order) in [("order", &file.order), ("order-extensions", &file.order_extensions)] {
        for group in order {
            text.push_str(&format!("[[{table}]]\n"));
            for element in &group.group {
                text.push_str(&format!(
                    "  [[{table}.group]]\n    id = {}\n    version = {}\n",
                    string(&element.id),
                    string(&element.version)
                ));
                if element.optional {
                    text.push_str("    optional = true\n");
                }
            }
        }
    }
    text
}

/// `/cnb/run.toml`.
pub fn run_toml(images: &[RunImage]) -> String {
    let one = |run: &RunImage| {
        format!("[[images]]\n  image = {}\n  mirrors = {}\n", string(&run.image), array(&run.mirrors))
    };
    images.iter().map(one).collect()
}

/// `/cnb/stack.toml`, for lifecycles before Platform API 0.12.
pub fn stack_toml(image: &RunImage) -> String {
    format!("[run-image]\n  image = {}\n  mirrors = {}\n", string(&image.image), array(&image.mirrors))
}

/// The files of `/cnb/build-config/env`: name and contents.
pub fn build_config(variables: &[BuildVariable]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for variable in variables {
        let suffix = if variable.suffix.is_empty() { String::new() } else { format!(".{}", variable.suffix) };
        files.push((format!("{}{suffix}", variable.name), variable.value.clone()));
        if !variable.delim.is_empty() {
            files.push((format!("{}.delim", variable.name), variable.delim.clone()));
        }
    }
    files
}

fn info(descriptor: &Descriptor) -> Value {
    let info = &descriptor.buildpack;
    let mut value = json!({ "id": info.id });
    put(&mut value, "name", json!(info.name));
    put(&mut value, "version", json!(info.version));
    put(&mut value, "homepage", json!(info.homepage));
    put(&mut value, "exec-env", json!(info.exec_env));
    value
}

fn extension_info(descriptor: &extension::Descriptor) -> Value {
    let info = &descriptor.extension;
    let mut value = json!({ "id": info.id });
    put(&mut value, "name", json!(info.name));
    put(&mut value, "version", json!(info.version));
    put(&mut value, "homepage", json!(info.homepage));
    put(&mut value, "exec-env", json!(info.exec_env));
    value
}

/// Adds a member that says something.
fn put(value: &mut Value, name: &str, member: Value) {
    let is_empty = member == json!("") || member == json!([]) || member.is_null();
    if let (Some(object), false) = (value.as_object_mut(), is_empty) {
        object.insert(name.to_owned(), member);
    }
}

fn target(target: &Target) -> Value {
    let mut value = json!({ "os": target.os, "arch": target.arch });
    put(&mut value, "variant", json!(target.variant));
    let distros = target.distros.iter().map(|distro| {
        let mut value = json!({ "name": distro.name });
        put(&mut value, "version", json!(distro.version));
        value
    });
    put(&mut value, "distros", distros.collect());
    value
}

fn order_value(order: &Order) -> Value {
    let element = |element: &OrderElement| {
        let mut value = json!({ "id": element.id });
        put(&mut value, "version", json!(element.version));
        if element.optional {
            put(&mut value, "optional", json!(true));
        }
        value
    };
    order
        .iter()
        .map(|group| json!({ "group": group.group.iter().map(element).collect::<Vec<_>>() }))
        .collect()
}

/// TOML of single values.
mod toml_text {
    /// A basic string. JSON's escapes are TOML's, but for DEL, which JSON leaves as it is.
    pub(super) fn string(text: &str) -> String {
        serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
    }

    pub(super) fn array(texts: &[String]) -> String {
        format!("[{}]", texts.iter().map(|text| string(text)).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_spec::builder::{BuilderMetadata, parse_order_label};
    use strata_spec::buildpackage::{Package, parse_modules};
    use strata_spec::run::{RunFile, StackFile};

    fn module(id: &str, version: &str, more: &str) -> Module {
        let text = format!(
            "api = \"0.10\"\n{more}\n[buildpack]\nid = \"{id}\"\nversion = \"{version}\"\nname = \"N\"\n"
        );
        Module { descriptor: Descriptor::parse(&text).unwrap(), diff_id: format!("sha256:{id}") }
    }

    fn order(text: &str) -> Order {
        OrderFile::parse(text).unwrap().order
    }

    #[test]
    fn orders_name_what_is_there() {
        let modules = [module("a", "1", ""), module("b", "1", ""), module("b", "2", "")];
        let one = |id: &str, version: &str| {
            order(&format!(
                "[[order]]\ngroup = [{{ id = \"{id}\", version = \"{version}\", optional = true }}]"
            ))
        };
        assert_eq!(resolve(&one("a", ""), &modules).unwrap(), one("a", "1"));
        assert_eq!(resolve(&one("b", "2"), &modules).unwrap(), one("b", "2"));
        assert_eq!(resolve(&one("b", ""), &modules), Err(OrderError::Ambiguous("b".into())));
        assert_eq!(
            resolve(&one("a", "2"), &modules),
            Err(OrderError::Missing(Kind::Buildpack, "a@2".into()))
        );
        let meta = module("m", "1", "order = [{ group = [{ id = \"x\", version = \"1\" }] }]");
        assert_eq!(check_composites(&[meta]), Err(OrderError::Missing(Kind::Buildpack, "x@1".into())));
    }

    #[test]
    fn documents_are_read_as_they_were_meant() {
        let text = "[[order]]\ngroup = [{ id = \"a/b\", version = \"1\" }, { id = \"c\", version = \"2\", optional = true }]";
        let order = order(text);
        let order_extensions = vec![OrderGroup { group: order[0].group[..1].to_vec() }];
        let file = OrderFile { order: order.clone(), order_extensions };
        assert_eq!(OrderFile::parse(&order_toml(&file)).unwrap(), file);
        assert_eq!(parse_order_label(&order_label(&order)).unwrap(), order);
        let image = RunImage { image: "a\"\\\u{7f}".into(), mirrors: vec!["m".into(), "n".into()] };
        assert_eq!(RunFile::parse(&run_toml(std::slice::from_ref(&image))).unwrap().images[0], image);
        assert_eq!(StackFile::parse(&stack_toml(&image)).unwrap().run_image, image);
    }

    #[test]
    fn labels_are_packs() {
        let targets = "[[targets]]\nos = \"linux\"\n[[targets.distros]]\nname = \"d\"\n";
        let text = format!(
            "api = \"0.10\"\n[buildpack]\nid = \"a/b\"\nversion = \"1\"\nhomepage = \"h\"\n{targets}"
        );
        let module = Module { descriptor: Descriptor::parse(&text).unwrap(), diff_id: "sha256:1".into() };
        let label = layers_label(std::slice::from_ref(&module));
        assert_eq!(
            label,
            r#"{"a/b":{"1":{"api":"0.10","targets":[{"os":"linux","arch":"","distros":[{"name":"d"}]}],"layerDiffID":"sha256:1","homepage":"h"}}}"#
        );
        assert_eq!(parse_modules(&label).unwrap()["a/b"]["1"].layer_diff_id, "sha256:1");
        let label = package_label(&module.descriptor);
        assert_eq!(label, r#"{"id":"a/b","version":"1","homepage":"h","stacks":[{"id":"*"}]}"#);
        assert_eq!(Package::parse(&label).unwrap().version, "1");
        let toml =
            "description = \"d\"\n[[order]]\n[run]\n[[run.images]]\nimage = \"r\"\nmirrors = [\"m\"]\n";
        let builder = Builder::parse(toml).unwrap();
        let lifecycle = "[lifecycle]\nversion = \"0.21.0\"\n[apis.buildpack]\nsupported = [\"0.7\", \"0.12\"]\n[apis.platform]\nsupported = [\"0.8\"]\n";
        let lifecycle = Lifecycle::parse(lifecycle).unwrap();
        let label = builder_label(&builder, &[module], &[], Some(&lifecycle), "1.0");
        let value: Value = serde_json::from_str(&label).unwrap();
        assert_eq!(value["extensions"], Value::Null);
        assert_eq!(value["lifecycle"]["api"], json!({ "buildpack": "0.7", "platform": "0.8" }));
        assert_eq!(value["buildpacks"], json!([{ "id": "a/b", "version": "1", "homepage": "h" }]));
        assert_eq!(BuilderMetadata::parse(&label).unwrap().run_images()[0].mirrors, ["m"]);
    }

    #[test]
    fn labels_of_extensions_are_packs() {
        let text =
            "api = \"0.10\"\n[extension]\nid = \"a/b\"\nversion = \"1\"\nname = \"N\"\nhomepage = \"h\"\n";
        let extension =
            Extension { descriptor: extension::Descriptor::parse(text).unwrap(), diff_id: "sha256:1".into() };
        let all = [extension];
        let label = extension_layers_label(&all);
        assert_eq!(
            label,
            r#"{"a/b":{"1":{"api":"0.10","layerDiffID":"sha256:1","homepage":"h","name":"N"}}}"#
        );
        assert_eq!(parse_modules(&label).unwrap()["a/b"]["1"].layer_diff_id, "sha256:1");
        let label = extension_package_label(&all[0].descriptor);
        assert_eq!(label, r#"{"id":"a/b","name":"N","version":"1","homepage":"h"}"#);
        let builder = Builder::parse("[[order]]\n").unwrap();
        let value: Value = serde_json::from_str(&builder_label(&builder, &[], &all, None, "1")).unwrap();
        assert_eq!(value["extensions"][0]["id"], "a/b");
        let one = |version: &str| {
            order(&format!("[[order]]\ngroup = [{{ id = \"a/b\", version = \"{version}\" }}]"))
        };
        assert_eq!(resolve_extensions(&one(""), &all).unwrap(), one("1"));
        let missing = resolve_extensions(&one("2"), &all).unwrap_err().to_string();
        assert_eq!(missing, "the order names a/b@2, which is not among the extensions");
    }

    #[test]
    fn variables_of_the_build_configuration_are_files() {
        let variable = |suffix: &str, delim: &str| BuildVariable {
            name: "A".into(),
            value: "v".into(),
            suffix: suffix.into(),
            delim: delim.into(),
        };
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(build_config(&[variable("", "")]), [file("A", "v")]);
        assert_eq!(build_config(&[variable("append", ":")]), [file("A.append", "v"), file("A.delim", ":")]);
    }

    #[test]
    fn a_builder_is_made_for_one_of_its_targets() {
        let target = |os: &str, arch: &str| Target { os: os.into(), arch: arch.into(), ..Target::default() };
        for (targets, expected) in [
            (vec![], Ok(())),
            (vec![target("linux", "")], Ok(())),
            (vec![target("linux", "arm64"), target("linux", "amd64")], Ok(())),
            (
                vec![target("linux", "arm64"), target("windows", "amd64")],
                Err("linux/arm64, windows/amd64".to_owned()),
            ),
        ] {
            assert_eq!(check_targets(&targets, "linux", "amd64"), expected, "{targets:?}");
        }
    }
}
