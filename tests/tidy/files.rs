//! The files that the rules are about.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of the repository.
#[derive(Clone, Debug)]
pub struct File {
    /// From the root of the repository, with `/`.
    pub path: String,
    pub text: String,
}

impl File {
    /// The file of the repository at `path`.
    pub fn open(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path));
        Self {
            path: path.to_owned(),
            text: text.unwrap_or_else(|e| panic!("{path}: {e}")),
        }
    }

    /// A file that is only in a test.
    pub fn planted(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// Its lines with their numbers, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that people write: Rust, Markdown, scripts, manifests; sorted by path.
pub fn all() -> Vec<File> {
    let mut files = Vec::new();
    collect(root(), &mut files);
    files.push(File::open(".ci/run"));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn collect(folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path: PathBuf = entry.expect("an entry of it").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, files);
            }
        } else if [".rs", ".md", ".sh", ".toml"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            let path = path.strip_prefix(root()).expect("below the root");
            files.push(File::open(&path.to_string_lossy()));
        }
    }
}
