//! Waiting for members: ready, led, agreed; and what their logs say where it was in vain.

use std::time::{Duration, Instant};

use super::{ASK_AGAIN, Cluster, ClusterError, READY_PATIENCE, admin};

impl Cluster {
    /// Waits until a member has a quorum.
    ///
    /// # Errors
    /// [`ClusterError::TooLate`], with the end of its log.
    pub async fn wait_ready(&mut self, id: u64) -> Result<(), ClusterError> {
        let started = Instant::now();
        loop {
            let detail = match admin::http_get(&self.member(id).http, "/readyz").await {
                Ok((200, _)) => return Ok(()),
                Ok((code, body)) => format!("{code} {body}"),
                Err(error) => error,
            };
            let has_ended = self.member(id).pid().is_none() || self.notice_end(id)?.is_some();
            if has_ended || started.elapsed() > READY_PATIENCE {
                let ended = if has_ended { ", its process has ended" } else { "" };
                let tail = self.member(id).log_tail(20);
                return Err(ClusterError::TooLate {
                    what: format!("member {id} is ready{ended}"),
                    patience: started.elapsed(),
                    detail: format!("{detail}\n{tail}"),
                });
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Waits until every member that should run has a quorum.
    ///
    /// # Errors
    /// [`ClusterError::TooLate`].
    pub async fn wait_all_ready(&mut self) -> Result<(), ClusterError> {
        for id in self.running() {
            self.wait_ready(id).await?;
        }
        Ok(())
    }

    /// The leader, waiting for one.
    ///
    /// # Errors
    /// [`ClusterError::TooLate`].
    pub async fn leader(&self) -> Result<u64, ClusterError> {
        self.leader_except(None).await
    }

    /// The leader that a running member other than `except` names and that runs, waiting for one.
    ///
    /// # Errors
    /// [`ClusterError::TooLate`].
    pub async fn leader_except(&self, except: Option<u64>) -> Result<u64, ClusterError> {
        let started = Instant::now();
        let mut detail = String::new();
        while started.elapsed() < READY_PATIENCE {
            // The highest term knows best: a stale member may still name a dead leader.
            let mut best: Option<(u64, u64)> = None;
            for id in self.running() {
                match admin::status(&self.member(id).client).await {
                    Ok(status) => {
                        if let Some(leader) = status.leader_id {
                            best = best.max(Some((status.term, leader)));
                        }
                    }
                    Err(error) => detail = error,
                }
            }
            if let Some((_, leader)) = best
                && Some(leader) != except
                && self.running().contains(&leader)
            {
                return Ok(leader);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Err(ClusterError::TooLate { what: "a leader".into(), patience: READY_PATIENCE, detail })
    }

    /// Waits until all running members' digests, recomputed from their records, agree.
    ///
    /// # Errors
    /// [`ClusterError::TooLate`] with the digests that differ.
    pub async fn wait_digests_agree(&self, patience: Duration) -> Result<u64, ClusterError> {
        let started = Instant::now();
        loop {
            let Some(id) = self.running().first().copied() else {
                return Err(ClusterError::NotRunning { member: 0 });
            };
            let detail = match admin::digest(&self.member(id).client).await {
                Ok(answer) if answer.agree => return Ok(answer.zxid),
                Ok(answer) => format!("{answer:?}"),
                Err(error) => error,
            };
            if started.elapsed() > patience {
                return Err(ClusterError::TooLate { what: "equal digests".into(), patience, detail });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The ends of all members' logs, for messages.
    pub fn log_tails(&self, lines: usize) -> String {
        let tails = self.members.iter().map(|m| format!("--- member {}\n{}\n", m.id, m.log_tail(lines)));
        tails.collect()
    }

    /// What no member may do: the lines of all logs that speak of a panic, those of members that are
    /// none any more too, and who ended unasked, as far as it was noticed ([`Cluster::notice_ends`]).
    pub fn panics(&self) -> Vec<String> {
        let mut found = self.ended.clone();
        let retired = self.retired.iter().map(|(id, log)| (*id, log));
        for (id, log) in self.members.iter().map(|member| (member.id, &member.log)).chain(retired) {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines = text.lines().filter(|line| line.contains("panicked at"));
            found.extend(lines.map(|line| format!("member {id}: {line}")));
        }
        found
    }
}
