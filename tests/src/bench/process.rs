use std::{
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::{BoxError, Reading};
use crate::instructions::{callgrind_command, callgrind_total};

/// A process, such as this program in another, which is told lines and answers in lines. It ends with its
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
        command.args(args);
        Self::of(name, command)
    }

    /// Starts another program.
    ///
    /// # Errors
    /// If it does not start.
    pub fn of(name: &str, mut command: Command) -> io::Result<Self> {
        let mut child = command
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

    /// Its CPU time since it began, user and kernel, in nanoseconds, as Linux counts it: in steps
    /// of 10 ms.
    ///
    /// # Errors
    /// If it has ended, or this is not Linux.
    pub fn cpu_ns(&self) -> Result<u64, BoxError> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Fields 14 and 15 (proc_pid_stat(5)), the third being the first behind the name.
        let behind = stat.rsplit_once(") ").ok_or("no name")?.1;
        let mut ticks = 0;
        for field in behind.split(' ').skip(11).take(2) {
            ticks += field.parse::<u64>()?;
        }
        Ok(ticks * 10_000_000)
    }

    /// Its resident memory in bytes, as Linux counts it.
    ///
    /// # Errors
    /// If it has ended, or this is not Linux.
    pub fn memory(&self) -> Result<u64, BoxError> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let mut lines = status.lines();
        let resident = lines.find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.trim().strip_suffix(" kB"));
        Ok(kib.ok_or("no resident memory")?.parse::<u64>()? << 10)
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

    /// Has callgrind, under which it runs, forget what it has counted.
    ///
    /// # Errors
    /// If that cannot be told.
    pub fn zero(&self) -> Result<(), BoxError> {
        let told = Command::new("callgrind_control")
            .args(["--zero", &self.child.id().to_string()])
            .stdout(Stdio::null())
            .status()?;
        match told.success() {
            true => Ok(()),
            false => Err(format!("callgrind_control failed ({told})").into()),
        }
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
    Ok((count(MANY)? as f64 - few as f64) / (MANY - FEW) as f64)
}
