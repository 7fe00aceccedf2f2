//! Who may know whom: imports between our crates, and where the storage engine may be named.

use super::manifest::{Dependencies, line_of};
use super::tokens::Tokens;
use super::{Finding, TextFile};

/// What each of our packages may depend on. `annals-tests` and the fuzz targets are free; development dependencies are not restricted.
const LAYERS: [(&str, &[&str]); 11] = [
    ("annals-derive", &[]),
    ("annals-shim", &[]),
    ("annals-core", &["annals-derive"]),
    ("annals-audit", &["annals-core"]),
    ("annals-commands", &["annals-core"]),
    ("annals-commerce", &["annals-core"]),
    ("annals-event-store", &["annals-audit", "annals-core"]),
    ("annals-projections", &["annals-core"]),
    (
        "annals-api",
        &[
            "annals-audit",
            "annals-core",
            "annals-commands",
            "annals-event-store",
            "annals-projections",
        ],
    ),
    (
        "annals-testkit",
        &[
            "annals-core",
            "annals-commands",
            "annals-event-store",
            "annals-projections",
        ],
    ),
    (
        "annals",
        &[
            "annals-audit",
            "annals-derive",
            "annals-core",
            "annals-commands",
            "annals-commerce",
            "annals-event-store",
            "annals-projections",
            "annals-api",
        ],
    ),
];

/// Packages that may depend on all of ours.
const FREE: [&str; 2] = ["annals-tests", "annals-fuzz"];

/// What stays out of pure crates.
const BANNED: [(&str, &[&str]); 3] = [
    ("annals-core", &["tokio", "sled", "axum"]),
    // An auditor who trusts nobody builds this, and no server.
    ("annals-audit", &["tokio", "sled", "axum"]),
    // A domain that could wait, store or serve would no longer be replayable by a test of one line.
    ("annals-commerce", &["tokio", "sled", "axum"]),
];

/// A storage engine and where it may be named.
struct Engine {
    /// The crate's name in manifests.
    package: &'static str,
    /// Its name in Rust.
    name: &'static str,
    /// Rust files, or directories ending in `/`.
    sources: &'static [&'static str],
    manifests: &'static [&'static str],
}

const ENGINES: [Engine; 2] = [
    Engine {
        package: "sled",
        name: "sled",
        sources: &[
            "event-store/src/sled/",
            "tests/src/damage.rs",
            "tests/src/bin/log-driver/plain.rs",
            "event-store/tests/support/damage.rs",
        ],
        manifests: &["Cargo.toml", "event-store/Cargo.toml", "tests/Cargo.toml"],
    },
    Engine {
        package: "lsm-tree",
        name: "lsm_tree",
        sources: &["projections/src/store/lsm.rs"],
        manifests: &["Cargo.toml", "projections/Cargo.toml"],
    },
];

/// A crate depends only on the layers below it, and pure crates on no runtime, engine or server.
pub fn import_directions(manifest: &TextFile) -> Vec<Finding> {
    let dependencies = match Dependencies::read(manifest) {
        Ok(dependencies) => dependencies,
        Err(finding) => return vec![*finding],
    };
    let Some(package) = dependencies.package.as_deref() else {
        return Vec::new();
    };
    if FREE.contains(&package) {
        return Vec::new();
    }
    let Some((_, layers)) = LAYERS.iter().find(|(name, _)| *name == package) else {
        let remedy = "say in `LAYERS` of tests/src/rules/layers.rs what it may depend on";
        return vec![manifest.finding(1, format!("`{package}` stands in no layer"), remedy)];
    };
    let banned = BANNED
        .iter()
        .find(|(name, _)| *name == package)
        .map_or(&[][..], |(_, banned)| banned);
    let mut findings = Vec::new();
    for name in dependencies.linked.iter().map(String::as_str) {
        let ours = name == "annals" || name.starts_with("annals-");
        if ours && !layers.contains(&name) {
            let problem = format!("`{package}` depends on `{name}`, which is not below it");
            let remedy = "put a trait or type in `annals-core`, or make it a development dependency";
            findings.push(manifest.finding(line_of(manifest, name), problem, remedy));
        }
        if banned.contains(&name) {
            let problem = format!("`{package}` depends on `{name}`, but must stay pure");
            findings.push(manifest.finding(
                line_of(manifest, name),
                problem,
                "move what needs it into a crate above",
            ));
        }
    }
    findings
}

/// Only the manifests of the engine's homes depend on it.
pub fn engine_in_manifest(manifest: &TextFile) -> Vec<Finding> {
    let dependencies = match Dependencies::read(manifest) {
        Ok(dependencies) => dependencies,
        Err(finding) => return vec![*finding],
    };
    let remedy = "go through the traits of `annals-core`";
    ENGINES
        .iter()
        .filter(|engine| !engine.manifests.contains(&manifest.path.as_str()))
        .filter(|engine| {
            let mut named = dependencies.linked.iter().chain(&dependencies.development);
            named.any(|name| name == engine.package)
        })
        .map(|engine| {
            let line = line_of(manifest, engine.package);
            manifest.finding(
                line,
                format!("depends on the storage engine `{}`", engine.package),
                remedy,
            )
        })
        .collect()
}

/// Only the engine's homes name it: as the root of a path, in `use` or in `extern crate`.
pub fn engine_in_source(file: &TextFile) -> Vec<Finding> {
    let at_home = |home: &str| {
        if home.ends_with('/') {
            file.path.starts_with(home)
        } else {
            file.path == home
        }
    };
    let foreign: Vec<_> = ENGINES
        .iter()
        .filter(|engine| !engine.sources.iter().any(|home| at_home(home)))
        .collect();
    let tokens = match Tokens::read(file) {
        Ok(tokens) => tokens,
        Err(finding) => return vec![*finding],
    };
    let remedy = "go through the traits of `annals-core`; for a module of this name write `crate::` before it";
    let named = |index: &usize| {
        let text = &tokens.list[*index].text;
        foreign.iter().any(|engine| *text == engine.name) && names_crate(&tokens, *index)
    };
    (0..tokens.list.len())
        .filter(named)
        .map(|index| file.finding(tokens.list[index].line, "names the storage engine", remedy))
        .collect()
}

/// Whether the token at `index` is the name of a crate, not of a module, field or variable.
fn names_crate(tokens: &Tokens, index: usize) -> bool {
    let before = tokens.text(index.checked_sub(1));
    let after = tokens.text(Some(index + 1));
    if before == "crate" || (before == "use" && [";", "as"].contains(&after)) {
        return true;
    }
    let is_crate = match before {
        "::" => !continues_name(tokens.text(index.checked_sub(2))),
        "{" | "," => !tokens.list[index].continues_path && !has_own_module(tokens, &tokens.list[index].text),
        _ => !has_own_module(tokens, &tokens.list[index].text),
    };
    after == "::" && is_crate
}

/// Whether the file declares a module of the engine's name, which a path without `::` before it then means.
fn has_own_module(tokens: &Tokens, engine: &str) -> bool {
    tokens
        .list
        .windows(2)
        .any(|pair| pair[0].text == "mod" && pair[1].text == engine)
}

/// Whether a `::` after this token continues its path; otherwise the `::` begins one.
fn continues_name(token: &str) -> bool {
    let keyword = [
        "use", "as", "in", "return", "impl", "for", "dyn", "mut", "where", "else", "match", "if",
    ];
    token == ">" || (token.starts_with(|c: char| c.is_alphabetic() || c == '_') && !keyword.contains(&token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(package: &str, dependencies: &str) -> TextFile {
        let head = format!("[package]\nname = \"{package}\"\n[lints]\nworkspace = true\n");
        TextFile::new("some/Cargo.toml", format!("{head}{dependencies}"))
    }

    #[test]
    fn an_import_against_the_direction_is_found() {
        let upward = manifest(
            "annals-core",
            "[dependencies]\nannals-derive.workspace = true\nannals-api.workspace = true\n",
        );
        assert_eq!(import_directions(&upward)[0].line, 7);
        let on_target = manifest(
            "annals-commands",
            "[target.'cfg(unix)'.dependencies]\nannals-commerce.workspace = true\n",
        );
        assert_eq!(import_directions(&on_target).len(), 1);
        let testkit = manifest("annals-api", "[dependencies]\nannals-testkit.workspace = true\n");
        assert_eq!(
            import_directions(&testkit).len(),
            1,
            "the testkit is for development only"
        );
        let development = manifest("annals-core", "[dev-dependencies]\nannals-testkit.workspace = true\n");
        assert!(import_directions(&development).is_empty());
        assert_eq!(
            import_directions(&manifest("annals-new", "")).len(),
            1,
            "a new crate needs a layer"
        );
    }

    #[test]
    fn a_runtime_in_a_pure_crate_is_found() {
        for name in ["tokio", "axum", "sled"] {
            let text = format!("[dependencies]\n{name}.workspace = true\n");
            assert_eq!(
                import_directions(&manifest("annals-commerce", &text)).len(),
                1,
                "{name}"
            );
        }
        let renamed = manifest(
            "annals-core",
            "[dependencies]\nrt = { package = \"tokio\", version = \"1\" }\n",
        );
        assert_eq!(import_directions(&renamed)[0].line, 6);
    }

    #[test]
    fn an_engine_in_a_foreign_manifest_is_found() {
        let mut file = manifest("annals-api", "[dev-dependencies]\nsled.workspace = true\n");
        assert_eq!(engine_in_manifest(&file)[0].line, 6);
        file.path = "event-store/Cargo.toml".to_owned();
        assert!(engine_in_manifest(&file).is_empty());
        let mut file = manifest("annals-event-store", "[dependencies]\nlsm-tree.workspace = true\n");
        assert_eq!(engine_in_manifest(&file)[0].line, 6, "each engine has its own homes");
        file.path = "projections/Cargo.toml".to_owned();
        assert!(engine_in_manifest(&file).is_empty());
    }

    #[test]
    fn an_engine_named_in_foreign_source_is_found() {
        let found = |path: &str, text: &str| engine_in_source(&TextFile::new(path, text)).len();
        let naming = [
            "use sled::Db;",
            "use ::sled::Db;",
            "use {sled::Db};",
            "use sled as engine;",
            "extern crate sled;",
            "fn a() -> sled::Db { b() }",
            "fn a() { b!(sled::open()) }",
        ];
        for text in naming {
            assert_eq!(found("api/src/lib.rs", text), 1, "{text}");
            assert_eq!(found("event-store/src/sled/mod.rs", text), 0, "{text}");
        }
        assert_eq!(found("projections/src/store/rows.rs", "use lsm_tree::Tree;"), 1);
        assert_eq!(found("projections/src/store/lsm.rs", "use lsm_tree::Tree;"), 0);
        let module = "use crate::sled::Log; use crate::{memory, sled::Log}; fn a(sled: u8) { b(sled, \"sled::\") }";
        assert_eq!(found("event-store/src/log.rs", module), 0);
        assert_eq!(found("event-store/src/lib.rs", "mod sled; pub use sled::Log;"), 0);
        assert_eq!(found("event-store/src/lib.rs", "mod sled; pub use ::sled::Db;"), 1);
    }
}
