//! What an operator does: members come, go and are replaced, by the commands that the messages name.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::{Cluster, ClusterError, READY_PATIENCE};

impl Cluster {
    /// Replaces a dead member whose disk is lost or of no more use: an empty disk at the same address
    /// and a new id, by the operator's command. Does not wait until it is ready.
    ///
    /// # Errors
    /// [`ClusterError`], with what the command said last.
    pub async fn replace(&mut self, old: u64) -> Result<u64, ClusterError> {
        self.kill(old)?;
        self.wipe(old)?;
        let new = self.new_id();
        let place = self.members.iter().position(|member| member.id == old);
        let mut member = self.members.remove(place.ok_or(ClusterError::NotRunning { member: old })?);
        member.id = new;
        member.join = true;
        let (peer, client) = (member.peer.clone(), member.client.clone());
        self.members.push(member);
        if let Some(network) = &mut self.network {
            network.replaced(old, new);
        }
        self.launch(new)?;
        let (old, text) = (old.to_string(), new.to_string());
        self.command(&["replace", &old, &text, "--peer", &peer, "--client", &client]).await?;
        Ok(new)
    }

    /// Starts a new member and gives it a vote, by the operator's commands.
    ///
    /// # Errors
    /// [`ClusterError`], with what a command said last.
    pub async fn join(&mut self) -> Result<u64, ClusterError> {
        let id = self.new_id();
        let member = self.add_slot(id, true)?;
        let (peer, client) = (member.peer.clone(), member.client.clone());
        let text = id.to_string();
        self.launch(id)?;
        self.command(&["add", &text, "--peer", &peer, "--client", &client]).await?;
        self.command(&["promote", &text]).await?;
        self.wait_ready(id).await?;
        Ok(id)
    }

    /// Takes a member out of the cluster for good, by the operator's command.
    ///
    /// # Errors
    /// [`ClusterError`], with what the command said last.
    pub async fn take_out(&mut self, id: u64) -> Result<(), ClusterError> {
        self.command(&["remove", &id.to_string()]).await?;
        self.retire(id)
    }

    /// Forgets a member that is no longer one: it is not started again.
    ///
    /// # Errors
    /// [`ClusterError`]: it could not be killed.
    pub fn retire(&mut self, id: u64) -> Result<(), ClusterError> {
        self.kill(id)?;
        let retired = self.members.extract_if(.., |member| member.id == id);
        self.retired.extend(retired.map(|member| (member.id, member.log)));
        Ok(())
    }

    /// An id that no member has or had.
    fn new_id(&mut self) -> u64 {
        self.highest += 1;
        self.highest
    }

    /// An operator's command, repeated for as long as the cluster is busy with its faults.
    async fn command(&self, arguments: &[&str]) -> Result<(), ClusterError> {
        let started = Instant::now();
        loop {
            let all = ["--timeout", "60s", "cluster"].iter().chain(arguments);
            let output = self.quorate(&all.copied().collect::<Vec<_>>()).await?;
            if output.status.success() {
                return Ok(());
            }
            if started.elapsed() > READY_PATIENCE {
                return Err(ClusterError::TooLate {
                    what: format!("quorate cluster {}", arguments.join(" ")),
                    patience: READY_PATIENCE,
                    detail: String::from_utf8_lossy(&output.stderr).into_owned(),
                });
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Runs the command line against the members that run.
    ///
    /// # Errors
    /// [`ClusterError::Spawn`]; a refusal is in the output.
    pub async fn quorate(&self, arguments: &[&str]) -> Result<Output, ClusterError> {
        let program = self.binaries.quorate.clone();
        let running: Vec<&str> =
            self.members.iter().filter(|m| m.is_running()).map(|m| m.client.as_str()).collect();
        let mut command = Command::new(&program);
        command.args(["--endpoints", &running.join(",")]).args(arguments).stdin(Stdio::null());
        // On a thread of its own: clients of this runtime must go on with their heartbeats.
        let run = tokio::task::spawn_blocking(move || command.output());
        let output = run.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        output.map_err(|source| ClusterError::Spawn { program: program.display().to_string(), source })
    }
}
