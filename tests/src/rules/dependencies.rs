//! One table for the dependencies, which the decision record explains row by row, and one for the lints.

use std::collections::BTreeMap;

use toml::Table;

use super::manifest::{Dependencies, line_of};
use super::{Finding, TextFile};

/// The one package with lints of its own: the workspace forbids `unsafe`, without which the shim of the fault suites
/// could not stand for functions of the C library.
const OWN_LINTS: [&str; 1] = ["annals-shim"];

/// Every member takes its versions from the workspace's one dependency table, and its lints from the one lint table. A
/// package that is a workspace of its own cannot.
pub fn one_table(manifest: &TextFile) -> Vec<Finding> {
    let dependencies = match Dependencies::read(manifest) {
        Ok(dependencies) => dependencies,
        Err(finding) => return vec![*finding],
    };
    let Some(package) = dependencies.package.as_ref().filter(|_| !dependencies.apart) else {
        return Vec::new();
    };
    let mut findings: Vec<Finding> = dependencies
        .own_version
        .iter()
        .map(|name| {
            let remedy = "put it in `[workspace.dependencies]` of the root Cargo.toml and write `workspace = true`";
            manifest.finding(
                line_of(manifest, name),
                format!("`{name}` has a version of its own"),
                remedy,
            )
        })
        .collect();
    if !dependencies.workspace_lints && !OWN_LINTS.contains(&package.as_str()) {
        let problem = format!("`{package}` has lints of its own");
        findings.push(manifest.finding(1, problem, "write `[lints]` with `workspace = true`"));
    }
    findings
}

/// The dependency table of the workspace and the one in `record`, its decision record, name the same crates and versions.
pub fn dependencies_are_recorded(manifest: &TextFile, record: &TextFile) -> Vec<Finding> {
    let table: Table = match manifest.text.parse() {
        Ok(table) => table,
        Err(_) => return vec![manifest.finding(1, "does not parse", "make it valid TOML")],
    };
    let entries = table
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies")?.as_table());
    let taken: BTreeMap<&str, &str> = entries
        .into_iter()
        .flatten()
        .filter_map(|(name, entry)| {
            Some((
                name.as_str(),
                entry.as_str().or_else(|| entry.get("version")?.as_str())?,
            ))
        })
        .collect();
    let rows: BTreeMap<&str, (&str, usize)> = record
        .numbered_lines()
        .filter_map(|(line, text)| {
            let cells: Vec<&str> = text.strip_prefix("| ")?.split(" | ").collect();
            // Four columns are a row of this table; its head names no version.
            (cells.len() == 4 && cells[1] != "version" && cells[1] != "---").then(|| (cells[0], (cells[1], line)))
        })
        .collect();
    let missing = taken
        .iter()
        .filter(|(name, version)| rows.get(*name).is_none_or(|(row, _)| row != *version));
    let mut findings: Vec<Finding> = missing
        .map(|(name, version)| {
            let remedy = format!(
                "write its row `| {name} | {version} | licence | why |` in {}",
                record.path
            );
            manifest.finding(
                line_of(manifest, name),
                format!("`{name}` {version} is not recorded"),
                remedy,
            )
        })
        .collect();
    let gone = rows.iter().filter(|(name, _)| !taken.contains_key(*name));
    findings.extend(gone.map(|(name, (_, line))| {
        record.finding(
            *line,
            format!("`{name}` is no dependency of the workspace"),
            "delete its row",
        )
    }));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(package: &str, dependencies: &str) -> TextFile {
        let head = format!("[package]\nname = \"{package}\"\n[lints]\nworkspace = true\n");
        TextFile::new("some/Cargo.toml", format!("{head}{dependencies}"))
    }

    #[test]
    fn a_version_or_lint_outside_the_one_table_is_found() {
        assert_eq!(
            one_table(&manifest("annals-core", "[dependencies]\nserde = \"1\"\n"))[0].line,
            6
        );
        assert!(one_table(&manifest("annals-core", "[dependencies]\nserde.workspace = true\n")).is_empty());
        assert_eq!(
            one_table(&TextFile::new("a/Cargo.toml", "[package]\nname = \"annals-core\"\n")).len(),
            1
        );
        let apart = "[package]\nname = \"annals-fuzz\"\n[workspace]\n[dependencies]\na = \"1\"\n";
        assert!(one_table(&TextFile::new("fuzz/Cargo.toml", apart)).is_empty());
        let shim = TextFile::new("tests/shim/Cargo.toml", "[package]\nname = \"annals-shim\"\n");
        assert!(one_table(&shim).is_empty(), "the shim has lints of its own");
    }

    #[test]
    fn a_dependency_that_is_not_recorded_is_found() {
        let manifest = "[workspace.dependencies]\nours = { path = \"a\" }\nb = \"1\"\nc = { version = \"2\" }\n";
        let manifest = TextFile::new("Cargo.toml", manifest);
        let found = |rows: &str| {
            let head = "| crate | version | licence | why |\n| --- | --- | --- | --- |\n";
            dependencies_are_recorded(&manifest, &TextFile::new("record.md", format!("{head}{rows}")))
        };
        assert!(found("| b | 1 | MIT | b |\n| c | 2 | MIT | c |\n").is_empty());
        assert_eq!(
            found("| b | 1 | MIT | b |\n| c | 1 | MIT | c |\n")[0].line,
            4,
            "another version"
        );
        assert_eq!(found("| c | 2 | MIT | c |\n")[0].line, 3, "no row");
        assert_eq!(
            found("| b | 1 | MIT | b |\n| c | 2 | MIT | c |\n| d | 1 | MIT | d |\n")[0].path,
            "record.md"
        );
    }
}
