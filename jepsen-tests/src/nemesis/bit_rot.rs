//! A member is killed, and one bit in the middle of its log turns over. It must refuse to start, and name file and offset; the
//! operator then replaces it under a new id, on an empty disk.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Nemesis, log_files};
use crate::cluster::{Cluster, ClusterError};

/// How long a member may take to read its log and refuse it.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct BitRot;

impl Nemesis for BitRot {
    fn name(&self) -> &'static str {
        "bit-rot"
    }

    fn about(&self) -> &'static str {
        "one bit of a killed member's log flips: it refuses to start and is replaced"
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let victim = super::any(cluster, random);
            cluster.kill(victim)?;
            let folder = cluster.member(victim).data_dir.join("log");
            let flipped = log_files::flip(&folder, random);
            match flipped.map_err(|source| ClusterError::Files { path: folder, source })? {
                true => Ok(vec![victim]),
                // A log so short that all of it may be a torn tail.
                false => super::unhurt(cluster, victim).await,
            }
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
                cluster.launch(*id)?;
                let status = cluster.reap(*id, STOP_PATIENCE).await?;
                let said = cluster.member(*id).log_tail(10);
                if status.success() || !(said.contains(".seg") && said.contains("offset")) {
                    return Err(ClusterError::TooLate {
                        what: format!(
                            "member {id} refuses its damaged log, naming file and offset ({status})"
                        ),
                        patience: STOP_PATIENCE,
                        detail: said,
                    });
                }
                cluster.replace(*id).await?;
            }
            Ok(())
        }
        .boxed_local()
    }
}
