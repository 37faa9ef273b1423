//! The house checks itself: arrows, rooms, names and sizes. Runs first; needs nothing of the product to be built.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use house::{
    ARROWS, BEHIND, EMPTY_NAMES, FILE_BYTES_MAX, FILE_LINES_MAX, FUNCTION_LINES_MAX, IMPURE, LONG_FILES, PURE, WIRES,
};
use serde_json::Value;
use syn::spanned::Spanned;
use syn::visit::Visit;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

fn run(program: &str, arguments: &[&str]) -> String {
    #[allow(clippy::disallowed_methods, reason = "the house asks cargo and git about itself")]
    let output = Command::new(program).args(arguments).current_dir(root()).output().expect("a program that runs");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Files in git, and those about to be.
fn files() -> Vec<String> {
    let listed = run("git", &["ls-files", "--cached", "--others", "--exclude-standard"]);
    listed.lines().filter(|file| root().join(file).is_file()).map(str::to_owned).collect()
}

fn rust_files() -> Vec<String> {
    files().into_iter().filter(|file| file.ends_with(".rs")).collect()
}

fn check(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn arrows_point_down() {
    let metadata: Value =
        serde_json::from_str(&run("cargo", &["metadata", "--no-deps", "--format-version", "1"])).expect("metadata");
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        if name == "deps" || manifest.contains("/e2e/") {
            continue;
        }
        let Some(may) = allowed.get(name) else {
            problems.push(format!("crate {name} has no row in the table of arrows (e2e/house/src/lib.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let other = dependency["name"].as_str().expect("a name");
            if dependency["path"].is_string() && other != "deps" && !may.contains(&other) {
                problems.push(format!("{name} uses {other}: that arrow is not in the table"));
            }
        }
    }
    check(problems);
}

#[test]
fn the_map_names_every_crate_and_every_dependency() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let mut problems = Vec::new();
    for (name, uses) in ARROWS {
        let row = map.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let Some(row) = row else {
            problems.push(format!("ARCHITECTURE.md has no row for {name} in its table of arrows"));
            continue;
        };
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let written: BTreeSet<&str> = last.split(',').map(|word| word.trim().trim_matches('`')).collect();
        let written: BTreeSet<&str> = written.into_iter().filter(|word| !word.is_empty() && *word != "—").collect();
        let expected: BTreeSet<&str> = uses.iter().copied().collect();
        if written != expected {
            problems.push(format!("ARCHITECTURE.md: the row of {name} says {written:?}, the table {expected:?}"));
        }
    }
    let external =
        manifest.split("# Everybody else's").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap_or_default();
    for name in external.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.trim()) {
        if !map.contains(&format!("`{name}`")) {
            problems.push(format!("ARCHITECTURE.md does not say why there is {name}"));
        }
    }
    check(problems);
}

#[test]
fn rooms_keep_to_themselves() {
    let mut problems = Vec::new();
    for file in rust_files() {
        let is_test = file.contains("/tests") || file.ends_with("simulation.rs");
        for (rooms, forbidden) in [(PURE, IMPURE), (WIRES, BEHIND)] {
            if is_test || !rooms.iter().any(|room| file.starts_with(room)) {
                continue;
            }
            for path in paths_of(&file) {
                let hit = forbidden.iter().find(|one| {
                    path == **one || path.starts_with(&format!("{one}::")) || path.split("::").any(|part| part == **one)
                });
                if let Some(one) = hit {
                    problems.push(format!("{file} names {path}: {one} does not belong in this room"));
                }
            }
        }
    }
    check(problems);
}

#[test]
fn names_say_something_and_sizes_stay_small() {
    let mut problems = Vec::new();
    for file in files() {
        let path = root().join(&file);
        let is_data = file.contains("testdata/") || file.contains("golden/") || file.contains("/facts/");
        let is_lock = file.ends_with("Cargo.lock") || file.ends_with("package-lock.json");
        let size = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        if size > FILE_BYTES_MAX && !is_data && !is_lock {
            problems.push(format!("{file} has {size} bytes"));
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let folders = file.split('/').map(|part| part.trim_end_matches(".rs"));
        if file.ends_with(".rs")
            && (EMPTY_NAMES.contains(&stem) || folders.clone().any(|part| EMPTY_NAMES.contains(&part)))
        {
            problems.push(format!("{file}: this name says nothing"));
        }
    }
    for file in rust_files() {
        let text = std::fs::read_to_string(root().join(&file)).expect("a file");
        if !text.starts_with("//!") {
            problems.push(format!("{file} does not begin with what it is (//!)"));
        }
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        let is_test = file.contains("/tests") || file.ends_with("simulation.rs");
        if lines > FILE_LINES_MAX && !is_test && !LONG_FILES.contains(&file.as_str()) {
            problems.push(format!("{file} has {lines} lines: does it still do one job?"));
        }
        for (number, line) in text.lines().enumerate() {
            let marker = ["TO", "DO"].concat();
            if line.contains(&marker) && !line.contains('#') {
                problems.push(format!("{file}:{}: an open end without an issue's number", number + 1));
            }
        }
        if !is_test {
            problems.extend(long_functions(&file, &text));
        }
    }
    check(problems);
}

fn long_functions(file: &str, text: &str) -> Vec<String> {
    struct Functions<'a>(&'a str, Vec<String>);
    impl Functions<'_> {
        fn look(&mut self, name: &syn::Ident, body: &syn::Block) {
            let lines = body.span().end().line - body.span().start().line;
            if lines > FUNCTION_LINES_MAX {
                self.1.push(format!("{}: fn {name} has {lines} lines", self.0));
            }
        }
    }
    impl<'ast> Visit<'ast> for Functions<'_> {
        fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
            self.look(&function.sig.ident, &function.block);
            syn::visit::visit_item_fn(self, function);
        }
        fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
            self.look(&function.sig.ident, &function.block);
            syn::visit::visit_impl_item_fn(self, function);
        }
    }
    let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut functions = Functions(file, Vec::new());
    functions.visit_file(&syntax);
    functions.1
}

/// Every path that a file names, from `use` and in place, inside macros too. Test modules are left out.
fn paths_of(file: &str) -> Vec<String> {
    struct Paths(Vec<String>);
    impl Paths {
        fn tree(&mut self, prefix: &str, tree: &syn::UseTree) {
            let join =
                |name: &syn::Ident| if prefix.is_empty() { name.to_string() } else { format!("{prefix}::{name}") };
            match tree {
                syn::UseTree::Path(path) => self.tree(&join(&path.ident), &path.tree),
                syn::UseTree::Name(name) => self.0.push(join(&name.ident)),
                syn::UseTree::Rename(name) => self.0.push(join(&name.ident)),
                syn::UseTree::Glob(_) => self.0.push(prefix.to_owned()),
                syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(prefix, item)),
            }
        }
    }
    impl<'ast> Visit<'ast> for Paths {
        fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
            let is_test = module.attrs.iter().any(|attribute| {
                attribute.path().is_ident("cfg")
                    && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string() == "test")
            });
            if !is_test {
                syn::visit::visit_item_mod(self, module);
            }
        }
        fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
            self.tree("", &item.tree);
        }
        fn visit_path(&mut self, path: &'ast syn::Path) {
            let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            if parts.len() > 1 {
                self.0.push(parts.join("::"));
            }
            syn::visit::visit_path(self, path);
        }
        fn visit_macro(&mut self, call: &'ast syn::Macro) {
            let text = call.tokens.to_string().replace(" :: ", "::");
            let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
            self.0.extend(words.filter(|word| word.contains("::")).map(str::to_owned));
        }
    }
    let text = std::fs::read_to_string(root().join(file)).expect("a file");
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut paths = Paths(Vec::new());
    paths.visit_file(&syntax);
    paths.0
}
