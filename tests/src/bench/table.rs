//! What is held against a bar, by whichever benchmark: kept, so that one table has them all.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::BoxError;

/// A measure and its bar.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// What was measured, and in which unit.
    pub measure: String,
    /// What it is compared with.
    pub against: String,
    /// The most, or the least, that it may be.
    pub bar: String,
    /// What it is.
    pub figure: String,
    /// Whether that is within the bar.
    pub met: bool,
}

/// The entries of one benchmark.
#[derive(Debug)]
pub struct Entries {
    /// Which benchmark.
    pub bench: String,
    /// When they were measured.
    pub at: SystemTime,
    /// They.
    pub entries: Vec<Entry>,
}

// === impl Entry ===

impl Entry {
    /// A figure that may be `bar` at most.
    pub fn at_most(measure: &str, against: &str, bar: f64, figure: f64, unit: &str) -> Self {
        Self::new(measure, against, ("<=", bar), (figure, unit), figure <= bar)
    }

    /// A figure that must be `bar` at least.
    pub fn at_least(measure: &str, against: &str, bar: f64, figure: f64, unit: &str) -> Self {
        Self::new(measure, against, (">=", bar), (figure, unit), figure >= bar)
    }

    fn new(
        measure: &str,
        against: &str,
        (sign, bar): (&str, f64),
        (figure, unit): (f64, &str),
        met: bool,
    ) -> Self {
        Self {
            measure: measure.to_owned(),
            against: against.to_owned(),
            bar: format!("{sign} {bar}{unit}"),
            figure: format!("{figure:.3}{unit}"),
            met,
        }
    }

    /// As a row of a table in Markdown.
    pub fn row(&self) -> String {
        let Self {
            measure,
            against,
            bar,
            figure,
            met,
        } = self;
        let verdict = if *met { "met" } else { "**missed**" };
        format!("| {measure} | {against} | {bar} | {figure} | {verdict} |")
    }
}

/// The head of the table that [`Entry::row`] is of.
pub const HEAD: &str = "| measure | against | bar | measured | |\n|---|---|---|---|---|";

/// Prints the entries of a benchmark, and keeps them in place of those of its last run.
/// `folder` is cargo's `CARGO_TARGET_TMPDIR`, which only benchmarks themselves know.
///
/// # Errors
/// If they cannot be written.
pub fn keep(folder: &str, bench: &str, entries: &[Entry]) -> Result<(), BoxError> {
    println!("{HEAD}");
    for entry in entries {
        println!("{}", entry.row());
    }
    println!();
    let folder = figures(folder);
    fs::create_dir_all(&folder)?;
    fs::write(
        folder.join(format!("{bench}.json")),
        serde_json::to_string_pretty(entries)?,
    )?;
    Ok(())
}

/// What all benchmarks have kept, by their names.
///
/// # Errors
/// If it cannot be read.
pub fn kept(folder: &str) -> Result<Vec<Entries>, BoxError> {
    let mut kept = Vec::new();
    let files = match fs::read_dir(figures(folder)) {
        Ok(files) => files.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    for file in files {
        let path = file.path();
        kept.push(Entries {
            bench: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into(),
            at: file.metadata()?.modified()?,
            entries: serde_json::from_str(&fs::read_to_string(&path)?)?,
        });
    }
    kept.sort_by(|a, b| a.bench.cmp(&b.bench));
    Ok(kept)
}

fn figures(folder: &str) -> PathBuf {
    Path::new(folder).join("figures")
}
