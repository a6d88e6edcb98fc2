//! The leader is killed with SIGKILL under a constant write load, again and again: no acknowledged
//! write is lost, none is applied twice, and writes resume.

use std::time::Duration;

use super::load::Load;
use super::{Failure, Measured, ensure, in_time, median_and_worst};
use crate::checkers::availability;
use crate::cluster::{Cluster, Options};
use crate::history::{NEMESIS, Operation, Recorder};

/// Runs the scenario with so many kills.
///
/// # Errors
/// [`Failure`] says what broke.
pub async fn run(times: u32) -> Result<Measured, Failure> {
    let mut cluster = Cluster::start(Options::members(3)).await?;
    let recorder = Recorder::start(None)?;
    let load = Load::start(&cluster, &recorder, 4).await?;
    for _ in 0..times {
        // Long enough that the load runs evenly before the next kill.
        wait_for_successes(&recorder, 50).await?;
        let leader = cluster.leader().await?;
        let fault =
            |healed| Operation::Fault { nemesis: "kill-leader".into(), healed, members: vec![leader] };
        recorder.info(NEMESIS, fault(false), None);
        cluster.kill(leader)?;
        wait_for_successes(&recorder, 20).await?;
        recorder.info(NEMESIS, fault(true), None);
        cluster.restart(leader).await?;
    }
    wait_for_successes(&recorder, 20).await?;
    let mut measured = load.finish(&cluster).await?;
    let outages = availability::outages(&recorder.finish()?);
    ensure(outages.len() == times as usize, || format!("{} outages of {times} kills", outages.len()))?;
    measured.note(format!(
        "kill -9 of the leader to the next acknowledged write: {}",
        median_and_worst(&outages)
    ));
    cluster.wait_digests_agree(Duration::from_secs(30)).await?;
    measured.note("the digests of all members agree");
    ensure(cluster.panics().is_empty(), || format!("{:?}", cluster.panics()))?;
    Ok(measured)
}

/// Waits until so many more operations have succeeded.
pub(super) async fn wait_for_successes(recorder: &Recorder, count: u64) -> Result<(), Failure> {
    let goal = recorder.completed() + count;
    let waiting = async {
        while recorder.completed() < goal {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time("writes succeed", waiting).await
}
