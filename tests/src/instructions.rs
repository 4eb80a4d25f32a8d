//! Instructions, where the machine can count them.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
};

/// Counts instructions of all threads of this process, user and kernel. Made before the first
/// thread starts.
#[derive(Debug)]
pub struct Instructions(#[cfg(target_os = "linux")] Option<perf_event::Counter>);

impl Instructions {
    /// Starts counting, where the machine can.
    pub fn start() -> Self {
        #[cfg(target_os = "linux")]
        {
            use perf_event::{Builder, events::Hardware};
            let counter = Builder::new(Hardware::INSTRUCTIONS)
                .include_kernel()
                .inherit(true)
                .build()
                .and_then(|mut counter| counter.enable().map(|()| counter));
            Self(counter.ok())
        }
        #[cfg(not(target_os = "linux"))]
        Self()
    }

    /// Instructions so far; `None` where the machine has no counters.
    pub fn read(&mut self) -> Option<u64> {
        #[cfg(target_os = "linux")]
        return self.0.as_mut().and_then(|counter| counter.read().ok());
        #[cfg(not(target_os = "linux"))]
        None
    }
}

/// Runs this program with `args` under valgrind's callgrind; the user instructions it took. Exact
/// and repeatable where there are no hardware counters.
///
/// # Errors
/// If there is no valgrind, or it does not say.
pub fn callgrind<'a>(args: impl IntoIterator<Item = &'a str>) -> io::Result<u64> {
    let out = std::env::temp_dir().join(format!("callgrind.{}", std::process::id()));
    let status = callgrind_command(&out)?
        .args(args)
        .stdout(Stdio::null())
        .status()?;
    let total = callgrind_total(&out);
    match status.success() {
        true => total,
        false => Err(io::Error::other(format!("callgrind failed ({status})"))),
    }
}

/// What runs this program under callgrind, which reports to `out`.
///
/// # Errors
/// If this program is not to be found.
pub fn callgrind_command(out: &Path) -> io::Result<Command> {
    let mut command = Command::new("valgrind");
    command
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .stderr(Stdio::null());
    Ok(command)
}

/// The user instructions that callgrind reported to `out`, which is removed.
///
/// # Errors
/// If it did not.
pub fn callgrind_total(out: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(out)?;
    std::fs::remove_file(out)?;
    let totals = text.lines().find_map(|line| {
        line.strip_prefix("totals:")
            .or_else(|| line.strip_prefix("summary:"))
    });
    totals
        .and_then(|totals| totals.trim().parse().ok())
        .ok_or_else(|| io::Error::other("callgrind wrote no totals"))
}
