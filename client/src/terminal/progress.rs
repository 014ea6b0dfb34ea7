//! Progress on standard error: visible on a terminal, silent in a pipe.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressDrawTarget, ProgressStyle};

pub use indicatif::ProgressBar;

const SPINNER: &str = "{spinner} {msg}  {elapsed}";

/// A bar over `total` units of work, such as "bootstraps".
pub fn bar(total: u64, message: &str, unit: &str) -> ProgressBar {
    styled(Some(total), message, &bar_template(unit))
}

/// Several bars below each other.
#[derive(Clone, Debug)]
pub struct Bars(MultiProgress);

impl Default for Bars {
    /// No bars.
    fn default() -> Self {
        Self(MultiProgress::with_draw_target(target(std::io::stderr().is_terminal())))
    }
}

impl Bars {
    /// Adds a bar.
    pub fn add(&self, total: u64, message: &str, unit: &str) -> ProgressBar {
        self.0.add(bar(total, message, unit))
    }
}

/// A spinner for work of unknown length.
pub fn spinner(message: &str) -> ProgressBar {
    let spinner = styled(None, message, SPINNER);
    if !spinner.is_hidden() {
        spinner.enable_steady_tick(Duration::from_millis(120));
    }
    spinner
}

fn bar_template(unit: &str) -> String {
    // Braces are syntax of the template.
    let unit = unit.replace(['{', '}'], "");
    format!("{{msg}} [{{bar:32}}] {{pos}}/{{len}} {unit}  {{elapsed}} (about {{eta}} left)")
}

fn styled(total: Option<u64>, message: &str, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, target(std::io::stderr().is_terminal()));
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.with_message(message.to_owned())
}

fn target(is_terminal: bool) -> ProgressDrawTarget {
    match is_terminal {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_unless_on_a_terminal() {
        assert!(target(false).is_hidden());
    }

    #[test]
    fn templates_are_valid() {
        for template in [SPINNER, &bar_template("boot{strap}s")] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn counts() {
        let bar = bar(10, "evaluating", "bootstraps");
        bar.inc(3);
        assert_eq!((bar.position(), bar.length()), (3, Some(10)));
    }
}
