//! Checks a directory of resources, for CI: prints what is wrong with them, then what is accepted
//! and not fully in force, then what is not read, and exits with 1 if anything is wrong.
//!
//! ```text
//! cargo run --example mesh_check -- examples/files default
//! ```
//!
//! The names after the directory are those of certificate providers that the mesh will have.

use std::process::ExitCode;

use mesh_core::control::files::Checker;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(directory) = arguments.next() else {
        eprintln!("mesh_check DIRECTORY [CERTIFICATE_PROVIDER...]");
        return ExitCode::from(2);
    };
    let checker = arguments.fold(Checker::new(), Checker::certificate_provider);
    let report = match checker.check(&directory) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{directory}: {error}");
            return ExitCode::FAILURE;
        }
    };
    for error in report.errors() {
        println!("error: {error}");
    }
    for finding in &report.findings {
        println!("note: {finding}");
    }
    for name in &report.not_read {
        println!("note: {name}: not read");
    }
    let resources: usize = report.files.iter().map(|file| file.resources.len()).sum();
    println!(
        "{} files, {resources} resources in force",
        report.files.len()
    );
    if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
