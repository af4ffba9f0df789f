//! What benches/peers/compare.py asks a peer, a line each, and gets, a line of JSON each:
//!
//! | question | answer |
//! |---|---|
//! | `about` | `version`, `device` |
//! | `prepare CASE DETAIL` | after one run of the case; facts such as `parameters` |
//! | `run` | `ms`: the times of the case that was prepared last, repeated where it is quick |
//! | `first EDGE` | as `prepare train EDGE`, but nothing is verified: it is timed from the start of the process |
//! | `memory` | after one more run: `resident_mib`, the growth of this process since it was ready |
//!
//! CASE is `train` or `infer` with the edge of the patch, or an operator with `forward` or `both` (backward too).
//! `error` in place of an answer says why there is none.

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// What a question leads to.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// A case that is ready: each call runs it and waits for its end.
pub struct Prepared {
    /// One run.
    pub run: Box<dyn FnMut() -> Outcome<()>>,
    /// What is known of it, for the table.
    pub facts: Map<String, Value>,
}

/// Where a quick case's repetitions end.
const TURN: Duration = Duration::from_millis(250);

/// Answers the questions on the standard input until it ends. `prepare` takes the case, its detail, and whether its
/// results must be verified.
pub fn serve(
    about: Value,
    mut prepare: impl FnMut(&str, &str, bool) -> Outcome<Prepared>,
) -> Outcome<()> {
    let base = resident("VmRSS");
    let mut job = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["about"] => Ok(about.clone()),
            ["prepare", case, detail] => ready(&mut job, || prepare(case, detail, true)),
            ["first", edge] => ready(&mut job, || prepare("train", edge, false)),
            ["run"] => times(&mut job).map(|ms| json!({ "ms": ms })),
            ["memory"] => timed(&mut job).map(|_| {
                let growth = resident("VmHWM").zip(base).map(|(peak, base)| peak - base);
                json!({ "resident_mib": growth })
            }),
            _ => Err(format!("unknown question: {line}").into()),
        };
        let answer = answer.unwrap_or_else(|e| json!({ "error": e.to_string() }));
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn ready(
    job: &mut Option<Prepared>,
    prepare: impl FnOnce() -> Outcome<Prepared>,
) -> Outcome<Value> {
    // The last case's memory goes first.
    *job = None;
    *job = Some(prepare()?);
    timed(job)?;
    Ok(job.as_ref().map_or(Value::Null, |j| j.facts.clone().into()))
}

fn timed(job: &mut Option<Prepared>) -> Outcome<Duration> {
    let job = job.as_mut().ok_or("no case is prepared")?;
    let start = Instant::now();
    (job.run)()?;
    Ok(start.elapsed())
}

/// Milliseconds.
fn times(job: &mut Option<Prepared>) -> Outcome<Vec<f64>> {
    let (mut total, mut ms) = (Duration::ZERO, Vec::new());
    while total < TURN {
        let time = timed(job)?;
        total += time;
        ms.push(1e3 * time.as_secs_f64());
    }
    Ok(ms)
}

/// MiB of this process now (VmRSS) or at most (VmHWM), where the system says it.
fn resident(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
