//! The house rules, checked over every file that is tracked or could be added.
//!
//! The rules themselves, each with a test that shows it failing, stand in `tests/src/rules/`.

#![allow(clippy::expect_used, reason = "a test ends where its preparation fails")]

use annals_tests::rules::repository::Repository;
use annals_tests::rules::{Finding, TextFile, dependencies, documents, hygiene, layers, leaks, shape};

fn repository() -> Repository {
    Repository::open().expect("the rules read the repository through git")
}

fn assert_none(findings: impl IntoIterator<Item = Finding>) {
    let lines: Vec<String> = findings.into_iter().map(|finding| format!("  {finding}")).collect();
    assert!(
        lines.is_empty(),
        "\n{} finding(s):\n{}\n",
        lines.len(),
        lines.join("\n")
    );
}

/// Checks a rule over the files that end in `suffix`, of which there must be some: a rule over nothing proves nothing.
fn check(suffix: &str, rule: impl Fn(&TextFile) -> Vec<Finding>) {
    let repository = repository();
    assert!(repository.ending(suffix).next().is_some(), "no file ends in `{suffix}`");
    assert_none(repository.ending(suffix).flat_map(rule));
}

#[test]
fn every_module_says_what_it_is_for() {
    check(".rs", shape::module_docs);
}

#[test]
fn no_file_is_too_long() {
    check(".rs", shape::file_length);
}

#[test]
fn no_function_is_too_long() {
    check(".rs", shape::function_length);
}

#[test]
fn no_code_in_comments() {
    check(".rs", hygiene::commented_out_code);
}

#[test]
fn no_test_is_ignored() {
    check(".rs", hygiene::ignored_tests);
}

#[test]
fn nothing_is_left_unfinished() {
    check(".rs", hygiene::unfinished_marks);
}

#[test]
fn no_unsafe_code() {
    check(".rs", hygiene::unsafe_code);
}

#[test]
fn imports_run_one_way() {
    check("Cargo.toml", layers::import_directions);
}

#[test]
fn one_table_for_dependencies_and_one_for_lints() {
    check("Cargo.toml", dependencies::one_table);
}

#[test]
fn every_dependency_is_recorded() {
    let repository = repository();
    let file = |path| {
        repository
            .ending(path)
            .find(|file| file.path == path)
            .expect("the file is in the repository")
    };
    let record = file("docs/decisions/0001-dependencies.md");
    assert_none(dependencies::dependencies_are_recorded(file("Cargo.toml"), record));
}

#[test]
fn only_its_homes_depend_on_the_engine() {
    check("Cargo.toml", layers::engine_in_manifest);
}

#[test]
fn only_its_homes_name_the_engine() {
    check(".rs", layers::engine_in_source);
}

#[test]
fn every_link_leads_somewhere() {
    let repository = repository();
    assert_none(
        repository
            .ending(".md")
            .flat_map(|file| documents::links_resolve(file, |path| repository.contains(path))),
    );
}

#[test]
fn every_document_is_linked() {
    assert_none(documents::documents_are_linked(repository().ending(".md")));
}

#[test]
fn decision_records_have_their_form() {
    assert_none(documents::decision_records(repository().ending(".md")));
}

#[test]
fn no_machine_paths() {
    assert_none(repository().files().flat_map(leaks::machine_paths));
}

#[test]
fn no_registry_hosts() {
    assert_none(repository().files().flat_map(leaks::registry_hosts));
}
