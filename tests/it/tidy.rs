//! Keeps the house: arrows between crates, first lines, lengths, names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory;

const LINES_MAX: usize = 600;
const NAMES_OF_NOTHING: [&str; 6] = ["common", "core", "helpers", "misc", "util", "utils"];

pub(crate) fn root() -> PathBuf {
    // As the tests run, not as they were compiled: checkouts may share compiled tests.
    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
    manifest.parent().unwrap().to_owned()
}

/// Files of the workspace with one of these extensions, build outputs and caches left out.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let hidden = name.starts_with('.') && name != ".ci";
            if path.is_dir() && !hidden && !["target", "artifacts", "mlflow"].contains(&&*name) {
                folders.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|known| e == *known)) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no file with {extensions:?}");
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the table in `ARCHITECTURE.md` lets each crate depend on.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let architecture = text(&root().join("ARCHITECTURE.md"));
    let rows = architecture.lines().filter(|line| line.starts_with("| heimdall-"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let allowed = cells[2].split(", ").filter(|name| *name != "–");
        (cells[1].to_owned(), allowed.map(|name| format!("heimdall-{name}")).collect())
    })
    .collect()
}

/// What the manifest of a crate says that it depends on, tests included.
fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest: toml::Table = text(&root().join(name).join("Cargo.toml")).parse().unwrap();
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|section| manifest.get(*section)?.as_table())
        .flat_map(|section| section.keys().cloned())
        .filter(|dependency| dependency.starts_with("heimdall-"))
        .collect()
}

#[test]
fn crates_depend_on_what_the_table_allows_and_nothing_else() {
    let table = table();

    let members: BTreeSet<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("heimdall-"))
        .collect();
    assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), members);
    for (name, allowed) in table {
        let dependencies = dependencies(&name);
        let unlisted: Vec<_> = dependencies.difference(&allowed).collect();
        assert!(unlisted.is_empty(), "{name} depends on {unlisted:?}");
    }
}

#[test]
fn source_files_say_why_they_exist_and_are_short() {
    for path in files(&["rs"]) {
        let source = text(&path);
        let shown = path.display();

        assert!(source.starts_with("//! "), "{shown} does not begin with `//! `");
        let lines = source.lines().count();
        assert!(lines <= LINES_MAX, "{shown} has {lines} lines, more than {LINES_MAX}");
        let stem = path.file_stem().unwrap().to_string_lossy();
        assert!(!NAMES_OF_NOTHING.contains(&&*stem), "{shown} is named for nothing");
    }
}

#[test]
fn text_has_no_tabs_trailing_blanks_or_unnumbered_tasks() {
    for path in files(&["rs", "md", "toml", "yaml", "py", "sql"]) {
        for (index, line) in text(&path).lines().enumerate() {
            let place = format!("{}:{}", path.display(), index + 1);

            assert!(!line.contains('\t'), "{place} has a tab");
            assert_eq!(line, line.trim_end(), "{place} ends in blanks");
            // Written in two parts, or this line would be found.
            let task = concat!("TO", "DO");
            assert!(
                !line.contains(task) || line.contains(&format!("{task}(#")),
                "{place} has a task without a number"
            );
        }
    }
}

#[test]
fn pipelines_are_valid() {
    let pipelines = files(&["yaml"]);
    let pipelines = pipelines.iter().filter(|path| path.parent().unwrap().ends_with("pipelines"));
    let mut checked = 0;
    for pipeline in pipelines {
        let output = Command::new(env!("CARGO_BIN_EXE_heimdall-pipeline"))
            .current_dir(root())
            .arg("validate")
            .arg(pipeline)
            .args(vars_without_default(pipeline))
            .output()
            .unwrap();

        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", pipeline.display());
        checked += 1;
    }
    assert!(checked >= 2, "only {checked} pipelines");
}

/// A pipeline whose data only a person can name is checked with any folder.
fn vars_without_default(pipeline: &Path) -> Vec<String> {
    if text(pipeline).contains("data:") {
        vec!["--set".to_owned(), format!("vars.data={}", root().join("tests").display())]
    } else {
        Vec::new()
    }
}

/// Every command in the documentation is one that the programs know.
#[test]
fn documented_commands_exist() {
    let cli = heimdall_pipeline::Cli::command();
    let commands: Vec<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
    let mut checked = 0;
    for path in files(&["md"]) {
        for line in text(&path).lines() {
            for (program, known) in [
                ("heimdall-pipeline ", [commands.as_slice(), &["--help", "--version"]].concat()),
                ("cargo xtask ", vec!["check", "test", "bench", "docs", "fuzz"]),
            ] {
                // In prose a program may be named without a command: only code is looked at.
                for code in code_in(line) {
                    let Some(rest) = code.split(program).nth(1) else { continue };
                    let rest = rest.trim_start_matches("-- ");
                    let command = rest.split([' ', '|']).next().unwrap_or_default();
                    assert!(
                        known.contains(&command),
                        "{}: `{program}{command}` is not a command",
                        path.display()
                    );
                    checked += 1;
                }
            }
        }
    }
    assert!(checked >= 5, "only {checked} commands");
}

/// The parts of a line that are code: between backquotes, or the whole of an indented line.
fn code_in(line: &str) -> Vec<&str> {
    if line.starts_with("    ") || line.starts_with('$') {
        return vec![line];
    }
    line.split('`').skip(1).step_by(2).collect()
}
