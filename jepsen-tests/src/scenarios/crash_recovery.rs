//! A member is killed with SIGKILL at random instants while it writes its log and its checkpoints: it
//! recovers each time, and nothing is lost.

use std::time::{Duration, Instant};

use super::load::Load;
use super::{Failure, Measured, ensure, median_and_worst};
use crate::cluster::{Cluster, Options};
use crate::history::Recorder;

/// The longest a member may write before it is killed.
const LIFE_MAX: Duration = Duration::from_millis(1_500);

/// Runs the scenario with so many kills, drawn from `seed`.
///
/// # Errors
/// [`Failure`] says what broke.
pub async fn run(times: u32, seed: u64) -> Result<Measured, Failure> {
    let mut random = fastrand::Rng::with_seed(seed);
    // Checkpoints all the time, so that kills fall into them too.
    let options = Options::members(3).flag("--checkpoint-log-mb", 1).flag("--checkpoint-seconds", 1);
    let mut cluster = Cluster::start(options).await?;
    let recorder = Recorder::start(None)?;
    let load = Load::start(&cluster, &recorder, 4).await?;
    let mut recoveries = Vec::new();
    for _ in 0..times {
        let victim = random.u64(1..=3);
        tokio::time::sleep(LIFE_MAX.mul_f64(random.f64())).await;
        cluster.kill(victim)?;
        let started = Instant::now();
        cluster.restart(victim).await?;
        recoveries.push(started.elapsed());
    }
    let mut measured = load.finish(&cluster).await?;
    measured.note(format!("from exec to ready: {} (seed {seed})", median_and_worst(&recoveries)));
    cluster.wait_digests_agree(Duration::from_secs(30)).await?;
    measured.note("the digests of all members, recomputed from their records, agree");
    ensure(cluster.panics().is_empty(), || format!("{:?}", cluster.panics()))?;
    Ok(measured)
}
