//! Reads Cargo manifests for the rules. Knows no rule.

use toml::{Table, Value};

use super::{Finding, TextFile};

/// What a manifest says about its package and its dependencies.
#[derive(Debug, Default)]
pub(crate) struct Dependencies {
    pub(crate) package: Option<String>,
    /// Of the library and of build scripts, on any target.
    pub(crate) linked: Vec<String>,
    pub(crate) development: Vec<String>,
    pub(crate) own_version: Vec<String>,
    pub(crate) workspace_lints: bool,
    /// Is a workspace of its own.
    pub(crate) apart: bool,
}

impl Dependencies {
    /// Reads a manifest, or returns the finding that it is not TOML.
    pub(crate) fn read(manifest: &TextFile) -> Result<Self, Box<Finding>> {
        let table: Table = manifest.text.parse().map_err(|error: toml::de::Error| {
            Box::new(manifest.finding(1, format!("does not parse: {}", error.message()), "make it valid TOML"))
        })?;
        let mut dependencies = Self {
            package: table
                .get("package")
                .and_then(|package| package.get("name")?.as_str())
                .map(str::to_owned),
            apart: table.contains_key("package") && table.contains_key("workspace"),
            workspace_lints: table.get("lints").and_then(|lints| lints.get("workspace")?.as_bool()) == Some(true),
            ..Self::default()
        };
        dependencies.gather(&table);
        let targets = table.get("target").and_then(Value::as_table);
        for target in targets
            .iter()
            .flat_map(|targets| targets.values())
            .filter_map(Value::as_table)
        {
            dependencies.gather(target);
        }
        Ok(dependencies)
    }

    fn gather(&mut self, table: &Table) {
        for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let entries = table.get(section).and_then(Value::as_table);
            for (key, value) in entries.into_iter().flatten() {
                let name = value.get("package").and_then(Value::as_str).unwrap_or(key).to_owned();
                if value.get("workspace").and_then(Value::as_bool) != Some(true) {
                    self.own_version.push(name.clone());
                }
                let list = if section == "dev-dependencies" {
                    &mut self.development
                } else {
                    &mut self.linked
                };
                list.push(name);
            }
        }
    }
}

/// The line where a manifest speaks of a dependency, or 1.
pub(crate) fn line_of(manifest: &TextFile, name: &str) -> usize {
    let key = |line: &str| {
        line.trim()
            .strip_prefix(name)
            .is_some_and(|rest| rest.trim().starts_with(['.', '=']))
    };
    let value = format!("\"{name}\"");
    manifest
        .numbered_lines()
        .find(|(_, line)| key(line) || line.contains(&value))
        .map_or(1, |(number, _)| number)
}
