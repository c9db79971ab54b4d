//! Progress of long work: on a terminal a spinner or a bar below the lines that are done, elsewhere only the lines.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Mark, Output, line};

/// What is shown while something runs. Standard error, so that results can be piped; gone when dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    output: Output,
}

impl Progress {
    /// For work whose parts are `total`, when that is known.
    pub(crate) fn start(output: Output, total: Option<u64>) -> Self {
        // indicatif itself hides the bar where standard error is no terminal.
        let target = if output.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match total {
            Some(_) => "{spinner} [{bar:30}] {pos}/{len} {wide_msg} {elapsed}",
            None => "{spinner} {wide_msg} {elapsed}",
        };
        // A template that does not parse would be a bug of the line above; the default one serves then.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, output }
    }

    /// What runs now.
    pub(crate) fn now(&self, done: u64, what: &str) {
        self.bar.set_position(done);
        self.bar.set_message(line(what));
    }

    /// One part has ended. Programs get the whole as JSON at the end instead.
    pub(crate) fn ended(&self, mark: Mark, what: &str) -> anyhow::Result<()> {
        if self.output.quiet {
            return Ok(());
        }
        self.bar.suspend(|| self.output.marked(mark, what))
    }

    /// What a part that has ended printed.
    pub(crate) fn block(&self, text: &str) -> anyhow::Result<()> {
        self.bar.suspend(|| self.output.block(text))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
