//! Where text goes: results to stdout, news and progress to stderr, silence where nobody watches.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

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

    /// Prints the result: `text` as it is, or `document` as JSON. A closed pipe (`| head`) is no error.
    pub fn result(&self, text: &str, document: &serde_json::Value) {
        let mut stdout = std::io::stdout().lock();
        // Whoever closed the pipe does not want the rest.
        let _ = if self.json {
            writeln!(stdout, "{document:#}")
        } else {
            writeln!(stdout, "{}", text.trim_end())
        };
    }

    /// A line of news on stderr, while a person watches or writes a log.
    pub fn news(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// An error on stderr; with `--json` a document on stdout as well.
    pub fn error(&self, error: &CliError) {
        let _ = writeln!(std::io::stderr().lock(), "error: {error}");
        if self.json {
            let document = serde_json::json!({
                "error": error.to_string(),
                "exit_code": error.exit_code(),
            });
            let _ = writeln!(std::io::stdout().lock(), "{document:#}");
        }
    }

    /// A progress bar of `total` `unit`s with throughput and time left; hidden where stderr is no terminal.
    pub fn progress(&self, total: u64, unit: &str) -> ProgressBar {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(4)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template =
            format!("{{bar:30}} {{pos}}/{{len}} {unit} {{per_sec}} {{eta}} left {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar
    }
}
