//! What every program does: read its command line, run until it is asked to end, tell what went
//! wrong.

use std::{error::Error, io, process::ExitCode};

use tokio::signal;

use crate::flags::FlagError;

/// Exit status of a command line that is not valid.
const USAGE: u8 = 2;

/// Runs the program `name` with the flags of its command line; `None`: it was asked for `help`.
pub async fn run<F>(
    name: &str,
    flags: Result<Option<F>, FlagError>,
    help: String,
    run: impl AsyncFnOnce(F) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    let flags = match flags {
        Ok(Some(flags)) => flags,
        Ok(None) => {
            print!("{help}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{name}: {error}\n--help lists the flags");
            return ExitCode::from(USAGE);
        }
    };
    match run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            eprintln!("{name}: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Resolves when the process is asked to end.
///
/// # Errors
/// If signals cannot be listened to.
#[cfg(unix)]
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Resolves when the process is asked to end.
#[cfg(not(unix))]
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = signal::ctrl_c().await;
    })
}
