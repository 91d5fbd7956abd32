//! How far a load is, on standard error.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use patchbay_server::model::{Model, State};
use patchbay_server::wire::model::LoadProgress;

/// Shows a model's load until it ends: as a bar on a terminal, elsewhere as a line a stage.
pub(crate) fn show(model: &Arc<Model>) {
    let model = Arc::clone(model);
    let terminal = std::io::stderr().is_terminal();
    tokio::spawn(async move {
        let mut states = model.watch();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        bar.set_prefix(model.name.clone());
        let mut stage = "";
        loop {
            let state = states.borrow_and_update().clone();
            match state {
                State::Loading(progress) if terminal => draw(&bar, &progress),
                State::Loading(progress) if progress.stage != stage => {
                    stage = progress.stage;
                    tracing::info!(model = %model.name, stage, what = %progress.what, "loading");
                }
                State::Loading(_) => {}
                State::Ready(_) | State::Failed(_) => break,
            }
            if states.changed().await.is_err() {
                break;
            }
        }
        bar.finish_and_clear();
    });
}

fn draw(bar: &ProgressBar, progress: &LoadProgress) {
    let LoadProgress { stage, what, done, total } = progress;
    // Only these stages count bytes.
    let form = match (*total, *stage) {
        (0, _) => "{prefix} {spinner} {msg}",
        (_, "download" | "weights") => {
            "{prefix} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {msg}"
        }
        _ => "{prefix} [{wide_bar}] {pos}/{len} {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style.progress_chars("=> "));
    }
    if *total == 0 {
        bar.enable_steady_tick(Duration::from_millis(100));
    } else {
        bar.set_length(*total);
        bar.set_position(*done);
    }
    bar.set_message(format!("{stage} {what}"));
}
