//! What every benchmark does: measure the adapter's peak, verify a case, time it, and report it beside its twin.

mod case;
pub mod clock;
pub mod network;
pub mod peak;
mod rig;
mod run;
pub mod truth;

use std::error::Error;
use std::time::Duration;

use criterion::Criterion;

pub use case::Case;
pub use rig::Rig;
pub use run::{Feeds, Run, cost};

/// What setting up a benchmark gives.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Times `cases` as criterion's group `family`; prints rates, shares of the peak and ratios. A case that is wrong panics.
pub fn bench(criterion: &mut Criterion, family: &str, cases: impl IntoIterator<Item = Case>) {
    let rig = Rig::get();
    let mut group = criterion.benchmark_group(family);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500));
    for case in cases {
        let fail = |e: Box<dyn Error>| -> ! { panic!("{family} {}: not timed: {e}", case.name) };
        // Built and verified only when criterion's filter lets the case through.
        let mut runs = None;
        group.bench_function(&case.name, |b| {
            let (run, _) =
                runs.get_or_insert_with(|| case.verified(&rig.gpu).unwrap_or_else(|e| fail(e)));
            b.iter_custom(|count| {
                (0..count)
                    .map(|_| run.time().unwrap_or_else(|e| fail(e)))
                    .sum()
            });
        });
        if let Some((run, twin)) = &runs {
            println!(
                "    {}",
                report(rig, run, twin.as_ref()).unwrap_or_else(|e| fail(e))
            );
        }
    }
    group.finish();
}

/// Runs of which the best is reported.
const TURNS: usize = 3;
/// Seconds beyond which a twin runs only once.
const SLOW: f64 = 0.2;

fn report(rig: &Rig, run: &Run, twin: Option<&Run>) -> Outcome<String> {
    // In turns, so that a neighbour's load falls on both.
    let mut best = [f64::INFINITY; 2];
    for _ in 0..TURNS {
        best[0] = best[0].min(run.best(1)?);
        if let Some(twin) = twin
            && (best[1] < SLOW || best[1].is_infinite())
        {
            best[1] = best[1].min(twin.best(1)?);
        }
    }
    let mut text = format!(
        "best {:.2} ms: {}",
        1e3 * best[0],
        rig.rates(cost(run.executor.program()), best[0])
    );
    if twin.is_some() {
        text += &format!(", {:.1} times as fast as its twin", best[1] / best[0]);
    }
    Ok(text)
}
