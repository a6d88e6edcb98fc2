//! One member's disk is full to the last byte, the leader's as often as not: it refuses writes and hands over, or stops. Then
//! there is space again, and it is started if it stopped.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Needs, Nemesis};
use crate::cluster::{Cluster, ClusterError, disk};

/// Large enough for a few segments of the log, the checkpoint, and one that is received beside it.
const DISK_MB: u64 = 320;
/// How long a member may take to stop after a write has failed.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often it is looked at whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct DiskFull;

impl Nemesis for DiskFull {
    fn name(&self) -> &'static str {
        "disk-full"
    }

    fn about(&self) -> &'static str {
        "one member's disk is full, the leader's as often as not"
    }

    fn needs(&self) -> Needs {
        Needs { disk_mb: Some(DISK_MB), ..Needs::default() }
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let victim = super::leader_or_any(cluster, random).await?;
            let folder = cluster.member(victim).data_dir.clone();
            disk::fill(&folder).map_err(|source| ClusterError::Files { path: folder, source })?;
            Ok(vec![victim])
        }
        .boxed_local()
    }

    fn heal<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        members: &'a [u64],
    ) -> LocalBoxFuture<'a, Result<(), ClusterError>> {
        async move {
            for id in members {
                let folder = cluster.member(*id).data_dir.clone();
                disk::relieve(&folder).map_err(|source| ClusterError::Files { path: folder, source })?;
            }
            Ok(())
        }
        .boxed_local()
    }

    fn settle<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        members: &'a [u64],
    ) -> LocalBoxFuture<'a, Result<(), ClusterError>> {
        async move {
            for id in members {
                // A write may have failed just before there was space: the member is then on its way down.
                let relieved = Instant::now();
                while !cluster.has_stopped(*id)? && relieved.elapsed() < LAST_WORDS {
                    tokio::time::sleep(LOOK).await;
                }
                if cluster.has_stopped(*id)? {
                    cluster.launch(*id)?;
                }
            }
            cluster.wait_all_ready().await
        }
        .boxed_local()
    }
}
