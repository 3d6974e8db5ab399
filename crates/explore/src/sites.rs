//! The flushes and fences of the code as its text has them: each must be passed by some shape, and missed there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file, from the root of the repository, and a line.
pub type Place = (String, u32);

const CALLS: [&str; 4] = [".pwb(", ".pfence(", ".psync(", ".thread_fence("];
/// What these crates have is explored. The medium's does not flush and fence, it says how that is done.
const FOLDERS: [&str; 2] = ["crates/pm/src", "crates/mirror/src"];
/// What a benchmark compares a save with commits nothing, and so makes no promise that a crash could break.
const UNEXPLORED: &str = "bound.rs";

/// Finds them. A function that is `#[track_caller]` has none of its own: the calls of it count.
pub fn in_sources() -> BTreeSet<Place> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let sources: Vec<Source> = FOLDERS.iter().flat_map(|folder| files(&root, folder)).collect();
    let tracked = sources.iter().flat_map(|source| &source.tracked);
    let calls: Vec<String> = tracked.map(|name| format!(".{name}(")).chain(CALLS.map(String::from)).collect();
    let mut found = BTreeSet::new();
    for source in &sources {
        let has_call = |line: &str| calls.iter().any(|call| line.contains(call));
        let lines = source.lines.iter().filter(|(_, line)| has_call(line));
        found.extend(lines.map(|(number, _)| (source.path.clone(), *number)));
    }
    found
}

struct Source {
    path: String,
    /// The code that is in no tracked function.
    lines: Vec<(u32, String)>,
    /// The names of the tracked functions.
    tracked: Vec<String>,
}

fn files(root: &Path, folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(root.join(&folder)).expect("the sources are there").flatten() {
            let name = item.file_name().into_string().expect("names are UTF-8");
            let path = folder.join(&name);
            if item.path().is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" && name != UNEXPLORED {
                let text = fs::read_to_string(item.path()).expect("the sources can be read");
                found.push(parse(path.to_string_lossy().into_owned(), &text));
            }
        }
    }
    found
}

/// Sources are formatted, so that a function ends with a brace as far to the left as its attribute.
fn parse(path: String, text: &str) -> Source {
    let mut source = Source { path, lines: Vec::new(), tracked: Vec::new() };
    let mut end_of_tracked = None;
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.trim_start();
        if end_of_tracked.as_deref() == Some(line) {
            end_of_tracked = None;
        } else if end_of_tracked.is_some() {
            let name = code.split_once("fn ").and_then(|(_, rest)| rest.split(['<', '(']).next());
            source.tracked.extend(name.map(String::from));
        } else if code.starts_with("#[track_caller]") {
            end_of_tracked = Some(format!("{}}}", &line[..line.len() - code.len()]));
        } else if !code.starts_with("//") {
            source.lines.push((number, line.into()));
        }
    }
    source
}
