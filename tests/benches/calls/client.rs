//! The process of one contestant: makes calls when told to, and says what they cost.

use std::{io::BufRead, sync::Arc};

use cpu_time::ProcessTime;
use hdrhistogram::Histogram;
use mesh_tests::instructions::Instructions;
use tokio::time::Instant;

use crate::{
    ALLOCATOR, BoxError,
    contestants::{Contestant, connect},
    measure::Sample,
};

pub(crate) fn run(name: &str, multi_thread: bool) -> Result<(), BoxError> {
    let mut instructions = Instructions::start();
    let runtime = match multi_thread {
        true => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?,
        false => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
    };
    let mut lines = std::io::stdin().lock().lines();
    let server = lines.next().ok_or("no server was named")??;
    let contestant = Arc::new(runtime.block_on(connect(name, &serde_json::from_str(&server)?))?);
    println!("connected");
    for line in lines {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["hello"] => println!("{}", contestant.features()),
            ["run", calls, in_flight] => {
                let (calls, in_flight) = (calls.parse()?, in_flight.parse()?);
                let work = calls_in_flight(Arc::clone(&contestant), calls, in_flight);
                let sample = runtime.block_on(measured(work, calls, &mut instructions))?;
                println!("{}", serde_json::to_string(&sample)?);
            }
            _ => return Err(format!("not understood: {line:?}").into()),
        }
    }
    Ok(())
}

async fn measured(
    work: impl Future<Output = Result<Histogram<u64>, BoxError>>,
    calls: u64,
    instructions: &mut Instructions,
) -> Result<Sample, BoxError> {
    let allocated = ALLOCATOR.stats();
    let counted = instructions.read();
    let cpu = ProcessTime::now();
    let wall = Instant::now();
    let latencies = work.await?;
    let wall_ns = wall.elapsed().as_nanos() as u64;
    let cpu_ns = cpu.elapsed().as_nanos() as u64;
    let instructions = counted.and_then(|then| Some(instructions.read()? - then));
    let allocated = ALLOCATOR.stats() - allocated;
    Ok(Sample {
        calls,
        instructions,
        cpu_ns,
        wall_ns,
        allocations: (allocated.allocations + allocated.reallocations) as u64,
        bytes: allocated.bytes_allocated as u64,
        p50_ns: latencies.value_at_quantile(0.5),
        p99_ns: latencies.value_at_quantile(0.99),
    })
}

/// Makes `calls` calls, `in_flight` at once.
async fn calls_in_flight(
    contestant: Arc<Contestant>,
    calls: u64,
    in_flight: u64,
) -> Result<Histogram<u64>, BoxError> {
    let workers = (0..in_flight).map(|worker| {
        let contestant = Arc::clone(&contestant);
        let share = calls / in_flight + u64::from(worker < calls % in_flight);
        tokio::spawn(async move {
            let mut caller = contestant.caller();
            let mut latencies = Histogram::<u64>::new_with_max(60_000_000_000, 3)?;
            for _ in 0..share {
                let start = Instant::now();
                caller.call().await?;
                latencies.record(start.elapsed().as_nanos() as u64)?;
            }
            Ok::<_, BoxError>(latencies)
        })
    });
    // All are started before the first is awaited.
    let workers: Vec<_> = workers.collect();
    let mut all = Histogram::<u64>::new_with_max(60_000_000_000, 3)?;
    for worker in workers {
        all.add(worker.await??)?;
    }
    Ok(all)
}
