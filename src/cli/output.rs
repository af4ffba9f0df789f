//! Where text goes: results to stdout, news and progress to stderr, silence where nobody watches.

use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::CliError;

/// The face of a verb.
#[derive(Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Text, or with `json` one JSON document.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether the result is wanted as JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the result: `text` as it is, or `document` as JSON. A closed pipe (`| head`) is no error: whoever closed
    /// it does not want the rest.
    ///
    /// # Errors
    /// [`CliError::Stdout`] where stdout takes no more, as on a full disk.
    pub fn result(&self, text: &str, document: &serde_json::Value) -> Result<(), CliError> {
        let mut stdout = std::io::stdout().lock();
        let written = if self.json {
            writeln!(stdout, "{document:#}")
        } else {
            writeln!(stdout, "{}", text.trim_end())
        };
        match written.and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Stdout(error)),
            _ => Ok(()),
        }
    }

    /// A line of news on stderr, while a person watches or writes a log.
    pub fn news(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// An error on stderr; with `--json` a document on stdout as well, unless the result stands there.
    pub fn error(&self, error: &CliError) {
        let _ = writeln!(std::io::stderr().lock(), "error: {error}");
        if self.json && !error.is_told() {
            Self::error_document(&error.to_string(), error.exit_code());
        }
    }

    /// The document of an error on stdout.
    pub fn error_document(error: &str, exit_code: u8) {
        let document = serde_json::json!({ "error": error, "exit_code": exit_code });
        let _ = writeln!(std::io::stdout().lock(), "{document:#}");
    }

    /// A progress bar of `total` `unit`s of which `done` were done before, with throughput and time left; hidden where
    /// stderr is no terminal.
    pub fn progress(&self, total: u64, done: u64, unit: &str) -> ProgressBar {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(4)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_position(done);
        let template = format!("{{bar:30}} {{pos}}/{{len}} {unit} {{pace}} {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            // Not indicatif's own rate, which counts what was done before.
            let pace = move |state: &ProgressState, to: &mut dyn std::fmt::Write| {
                let now = state.pos().saturating_sub(done);
                let left = total.saturating_sub(state.pos());
                // A bar that cannot be drawn is no reason to stop.
                let _ = to.write_str(&pace(now, left, state.elapsed()));
            };
            bar.set_style(style.with_key("pace", pace));
        }
        bar
    }
}

/// Throughput and time left after `done` things in `elapsed`; nothing where none is done.
pub(super) fn pace(done: u64, left: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if done == 0 || seconds <= 0.0 {
        return String::new();
    }
    let rate = done as f64 / seconds;
    let digits = match rate {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let left = duration(Duration::from_secs_f64(left as f64 / rate));
    format!("{rate:.digits$}/s {left} left")
}

/// A duration in the two largest units that it has: `2 h 05 min`, `3 min 09 s`, `12 s`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{minutes} min {:02} s", seconds % 60),
        _ => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits_and_times_two_units() {
        let second = Duration::from_secs(1);
        assert_eq!(pace(30_359, 0, second), "30359/s 0 s left");
        assert_eq!(pace(25, 50, 2 * second), "12.5/s 4 s left");
        assert_eq!(pace(1, 20, 8 * second), "0.12/s 2 min 40 s left");
        assert_eq!(pace(1, 900, 8 * second), "0.12/s 2 h 00 min left");
        assert_eq!(pace(0, 900, 8 * second), "");
    }
}
