//! The book and the README stay true where a program can tell: configurations in them are accepted, links lead somewhere,
//! and the folders on the map exist.

use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// README and the pages of the book, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = vec![workspace().join("README.md")];
    let docs = std::fs::read_dir(workspace().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    pages.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn configurations_in_the_book_are_accepted() {
    let mut seen = 0;
    for (path, text) in pages() {
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            let checked = millrace_config::Config::parse(&path.display().to_string(), block);
            assert!(checked.is_ok(), "{}", checked.unwrap_err().human(false));
            seen += 1;
        }
    }
    assert!(seen > 0, "the book shows no configuration");
}

#[test]
fn links_lead_somewhere() {
    for (path, text) in pages() {
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                assert!(path.with_file_name(target).exists(), "{}: {target}", path.display());
            }
        }
    }
}

#[test]
fn the_map_shows_the_folders_there_are() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let map = readme.split("## The house").nth(1).unwrap().split("```").nth(1).unwrap();
    let mut above = String::new();
    let mut shown = Vec::new();
    for line in map.lines().skip(1) {
        let folder = line.split_whitespace().next().unwrap();
        let below = line.starts_with(' ');
        let path = if below { format!("{above}{folder}") } else { folder.to_owned() };
        assert!(workspace().join(&path).is_dir(), "{path} is on the map only");
        if !below {
            above = path.clone();
            shown.push(folder.trim_end_matches('/').to_owned());
        }
    }
    for entry in std::fs::read_dir(workspace()).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = !name.starts_with('.') && name != "target" && entry.path().is_dir();
        assert!(!ours || shown.contains(&name), "{name}/ is not on the map");
    }
}
