use super::{BoxError, Sample};

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often everything is run.
    pub rounds: usize,
    /// Calls of one run; a quarter of them where one is in flight at a time.
    pub calls: u64,
    /// Calls in flight at once, load by load.
    pub loads: Vec<u64>,
}

impl Plan {
    /// What a first look needs, or figures to be believed.
    pub fn new(quick: bool) -> Self {
        match quick {
            true => Self {
                rounds: 5,
                calls: 2_000,
                loads: vec![1, 64, 128],
            },
            false => Self {
                rounds: 15,
                calls: 20_000,
                loads: vec![1, 16, 64, 128],
            },
        }
    }

    /// The contestants take turns: every round runs each of them once under each load, so that
    /// what disturbs the machine disturbs all alike. `run` is told how many calls to make, and how
    /// many at once. The samples of each contestant, load by load.
    ///
    /// # Errors
    /// If a run fails.
    pub fn in_turns<C, S>(
        &self,
        contestants: &mut [C],
        mut run: impl FnMut(&mut C, u64, u64) -> Result<S, BoxError>,
    ) -> Result<Vec<Vec<Vec<S>>>, BoxError> {
        let mut samples: Vec<Vec<Vec<S>>> = Vec::new();
        for contestant in &mut *contestants {
            let mut of_loads = Vec::new();
            for load in &self.loads {
                run(contestant, self.calls / 4, *load)?; // warm-up
                of_loads.push(Vec::new());
            }
            samples.push(of_loads);
        }
        for round in 0..self.rounds {
            for (at, load) in self.loads.iter().enumerate() {
                // Another order each round, so that nobody always runs after the same neighbour.
                for turn in 0..contestants.len() {
                    let number = (turn + round) % contestants.len();
                    let calls = if *load == 1 {
                        self.calls / 4
                    } else {
                        self.calls
                    };
                    let sample = run(&mut contestants[number], calls, *load)?;
                    samples[number][at].push(sample);
                }
            }
        }
        Ok(samples)
    }
}

/// A process that makes calls, told to make some.
///
/// # Errors
/// If it ends, or a call fails.
pub fn run(client: &mut super::Process, calls: u64, in_flight: u64) -> Result<Sample, BoxError> {
    let answer = client.ask(&format!("run {calls} {in_flight}"))?;
    Ok(serde_json::from_str(&answer)?)
}
