//! What the fuzz targets share. Each one is an entry point of `mesh_core::testing::entry`, by its name.

use std::{fs, io, path::Path};

pub use libfuzzer_sys;
pub use mesh_core::testing::entry;

/// The fuzz target of the entry point `$name`. Its seeds are in its corpus when it begins.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::sow($name).expect("the corpus can be written"),
            |bytes: &[u8]| $crate::entry::read($name, bytes)
        );
    };
}

/// Writes the seeds of the entry point `name` to its corpus, where cargo-fuzz looks for them.
pub fn sow(name: &str) -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    fs::create_dir_all(&corpus)?;
    for (number, seed) in entry::seeds(name).iter().enumerate() {
        fs::write(corpus.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}
