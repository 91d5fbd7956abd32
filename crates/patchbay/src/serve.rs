//! `patchbay serve`.

use std::io::Write;

use patchbay_server::Service;
use patchbay_server::wire::model::LoadRequest;

use crate::listen::listen;
use crate::options::ServeOptions;
use crate::progress;
use crate::source::NamedSource;

const HOST: &str = "127.0.0.1";
const PORT: u16 = 8420;

/// Serves until the process is told to stop.
pub(crate) async fn serve(flags: Box<ServeOptions>) -> anyhow::Result<()> {
    let options = flags.over_file()?;
    options.models.start_logging("info")?;
    let service = Service::new(options.settings()?);
    let models = NamedSource::parse_all(&options.model)?;
    let listener = listen(options.host.as_deref().unwrap_or(HOST), options.port.unwrap_or(PORT)).await?;
    let address = listener.local_addr()?;
    for NamedSource { name, source } in models {
        let placed = service.load_first(&name, &LoadRequest { source, dtype: None, device: None })?;
        progress::show(placed.model());
    }
    let mut out = std::io::stdout();
    writeln!(out, "listening on http://{address}").and_then(|()| out.flush())?;
    patchbay_server::http::serve(listener, service, stop()).await?;
    Ok(())
}

/// Ends when the process is told to stop: by Ctrl-C, or by SIGTERM where there is such a thing.
async fn stop() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        _ = interrupted => {}
        () = terminated => {}
    }
    tracing::info!("stopping: requests under way are still answered");
}
