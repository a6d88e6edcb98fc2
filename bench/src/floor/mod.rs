//! The floor: what the machine and the libraries give when a server does nothing.

mod echo;
mod fsync;

use std::time::Duration;

use crate::failure::Outcome;
use crate::workloads::Figures;

/// Measures every floor for so long each.
pub async fn run(duration: Duration) -> Outcome<Vec<Figures>> {
    let mut figures = fsync::run(duration)?;
    figures.extend(echo::run(duration).await?);
    Ok(figures)
}
