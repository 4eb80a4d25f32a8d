//! What the processes of contestants do.

use std::{alloc::System, io::BufRead};

use serde::de::DeserializeOwned;
use stats_alloc::StatsAlloc;
use tokio::{net::TcpListener, runtime};

use super::{BoxError, Caller, Meter, measured, say};

/// Who makes calls.
pub trait Contestant {
    /// What each worker makes them with.
    type Caller: Caller;

    /// What is switched on, in words.
    fn features(&self) -> String;

    /// A caller for one worker.
    fn caller(&self) -> Self::Caller;
}

/// The process of a client: connects as its first line says, makes calls when told to, and says what
/// they cost.
///
/// # Errors
/// If a call fails, or a line is not understood.
pub fn client<O: DeserializeOwned, C: Contestant>(
    allocator: &'static StatsAlloc<System>,
    multi_thread: bool,
    connect: impl AsyncFnOnce(O) -> Result<C, BoxError>,
) -> Result<(), BoxError> {
    let mut meter = Meter::start(allocator);
    let runtime = match multi_thread {
        true => runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?,
        false => runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
    };
    let mut lines = std::io::stdin().lock().lines();
    let order = lines.next().ok_or("no order")??;
    let contestant = runtime.block_on(connect(serde_json::from_str(&order)?))?;
    say("connected")?;
    for line in lines {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["features"] => say(&contestant.features())?,
            ["read"] => say(&serde_json::to_string(&meter.read())?)?,
            ["run", calls, in_flight] => {
                let (calls, in_flight) = (calls.parse()?, in_flight.parse()?);
                let read = || Ok(meter.read());
                let work = measured(read, || contestant.caller(), calls, in_flight);
                say(&serde_json::to_string(&runtime.block_on(work)?)?)?;
            }
            _ => return Err(format!("not understood: {line:?}").into()),
        }
    }
    Ok(())
}

/// The process of a server: says where it listens, serves as its first line says, and says what it
/// has cost so far when asked.
///
/// # Errors
/// If a line is not understood.
pub fn server<O, F>(
    allocator: &'static StatsAlloc<System>,
    serve: impl FnOnce(TcpListener, O) -> F,
) -> Result<(), BoxError>
where
    O: DeserializeOwned,
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let mut meter = Meter::start(allocator);
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut lines = std::io::stdin().lock().lines();
    let order = serde_json::from_str(&lines.next().ok_or("no order")??)?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    say(&listener.local_addr()?.to_string())?;
    let serving = serve(listener, order);
    runtime.spawn(async move {
        if let Err(error) = serving.await {
            eprintln!("a server ended: {error}");
            std::process::exit(1);
        }
    });
    for line in lines {
        match &*line? {
            "read" => say(&serde_json::to_string(&meter.read())?)?,
            other => return Err(format!("not understood: {other:?}").into()),
        }
    }
    Ok(())
}
