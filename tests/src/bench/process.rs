use std::{
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::{BoxError, Reading};
use crate::instructions::{callgrind_command, callgrind_total};

/// This program in another process, which is told lines and answers in lines. It ends with its
/// handle.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts it with these arguments; under valgrind's callgrind if there is a file for its report.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(name: &str, args: &[&str], callgrind: Option<&Path>) -> io::Result<Self> {
        let mut command = match callgrind {
            None => Command::new(std::env::current_exe()?),
            Some(out) => callgrind_command(out)?,
        };
        let mut child = command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let stdout = stdout.ok_or_else(|| io::Error::other("no standard output"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    /// Says a line and waits for its answer.
    ///
    /// # Errors
    /// If it has ended, or does then.
    pub fn ask(&mut self, line: &str) -> io::Result<String> {
        if let Some(stdin) = &mut self.stdin {
            writeln!(stdin, "{line}")?;
            stdin.flush()?;
        }
        self.answer()
    }

    /// Waits for a line.
    ///
    /// # Errors
    /// If it ends.
    pub fn answer(&mut self) -> io::Result<String> {
        let mut answer = String::new();
        self.stdout.read_line(&mut answer)?;
        match answer.trim_end() {
            "" => {
                let text = format!("{} ended; see its output above", self.name);
                Err(io::Error::other(text))
            }
            answer => Ok(answer.to_owned()),
        }
    }

    /// What it has cost so far.
    ///
    /// # Errors
    /// If it ends, or does not say.
    pub fn read(&mut self) -> Result<Reading, BoxError> {
        Ok(serde_json::from_str(&self.ask("read")?)?)
    }

    /// Lets it end by itself, so that a tool around it can write its report.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn end(mut self) -> io::Result<()> {
        self.stdin = None;
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers with a line.
///
/// # Errors
/// If nobody listens.
pub fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// User instructions per call, counted by callgrind: the difference between two runs of different
/// length, each of which `run` makes with a process that reports to the file. Exact and repeatable
/// where there are no hardware counters, but blind to the kernel.
///
/// # Errors
/// If a run fails, or callgrind does not say.
pub fn per_call(mut run: impl FnMut(u64, &Path) -> Result<(), BoxError>) -> Result<f64, BoxError> {
    const FEW: u64 = 1_000;
    const MANY: u64 = 3_000;
    let out = std::env::temp_dir().join(format!("callgrind.{}", std::process::id()));
    let mut count = |calls| {
        run(calls, &out)?;
        Ok::<_, BoxError>(callgrind_total(&out)?)
    };
    let few = count(FEW)?;
    Ok(count(MANY)?.saturating_sub(few) as f64 / (MANY - FEW) as f64)
}
