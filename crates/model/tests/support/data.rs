//! Where the tests' inputs lie. What is not there is skipped with a message.
#![allow(dead_code)] // each test binary uses its part

use std::path::PathBuf;

/// A file of the assets folder that stands beside the repository.
pub fn asset(name: &str) -> Option<PathBuf> {
    let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/assets")).join(name);
    there(file, name)
}

/// A file of a registry's package, fetched by tools/testdata.
pub fn package_file(name: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/test-data");
    let folder = std::env::var_os("CHALOT_TEST_DATA").map_or_else(|| PathBuf::from(default), PathBuf::from);
    there(folder.join(name), name)
}

fn there(file: PathBuf, name: &str) -> Option<PathBuf> {
    if file.exists() {
        return Some(file);
    }
    println!("skipped: {name} is not there");
    None
}
