//! What every command gets: the way to the cluster, where the result goes, and the session, for
//! those who need one (opened when first asked for).

use std::time::Duration;

use quorate::Client;

use crate::api::Api;
use crate::arguments::GlobalArguments;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::values::AuthArgument;

/// See the file's comment.
#[derive(Debug)]
pub struct Context {
    pub api: Api,
    pub output: Output,
    /// Whether more commands follow: then ephemeral nodes live on behind their command.
    pub is_shell: bool,
    global: GlobalArguments,
    session: Option<Client>,
}

impl Context {
    pub fn new(global: &GlobalArguments) -> Outcome<Context> {
        Ok(Context {
            api: Api::new(global)?,
            output: Output::new(global.output),
            is_shell: false,
            global: global.clone(),
            session: None,
        })
    }

    /// How long to keep trying.
    pub fn timeout(&self) -> Duration {
        self.global.timeout
    }

    /// Later commands of a shell prove this identity too; the session is opened anew with it.
    pub async fn add_credential(&mut self, auth: AuthArgument) -> Outcome {
        // One that is refused must not go along with all later calls.
        if let Some(client) = &self.session {
            let proved = client.auth(&auth.scheme, auth.credential.clone()).await;
            proved.map_err(|error| Failure::from_client(&error, &auth.scheme))?;
        }
        self.api.add_credential(&auth);
        self.global.auth.push(auth);
        Ok(())
    }

    /// The session: the same one for all that ask. It ends with the process.
    pub async fn session(&mut self) -> Outcome<Client> {
        if let Some(client) = self.session.as_ref().filter(|client| !client.state().borrow().is_over()) {
            return Ok(client.clone());
        }
        let client = self.open_session(None).await?;
        self.session = Some(client.clone());
        Ok(client)
    }

    /// A session of one's own.
    pub async fn open_session(&mut self, session_timeout: Option<Duration>) -> Outcome<Client> {
        // Nobody at all there? Then say so now rather than at the end of the time.
        self.api.reach().await?;
        let mut builder = Client::builder().endpoints(self.api.names()).connect_timeout(self.global.timeout);
        if let Some(timeout) = session_timeout {
            builder = builder.session_timeout(timeout);
        }
        for auth in &self.global.auth {
            builder = builder.auth(&auth.scheme, auth.credential.clone());
        }
        match builder.connect().await {
            Ok(client) => Ok(client),
            Err(quorate::Error::Connect(why)) => {
                Err(Failure::unavailable(format!("no member accepted a session: {why}"))
                    .with_hint("`quorate cluster status` shows which members run"))
            }
            Err(error) => Err(Failure::from_client(&error, "")),
        }
    }

    /// Ends the session now rather than by its timeout.
    pub async fn close(&mut self) {
        if let Some(client) = self.session.take() {
            // If it cannot be told now, it ends by its timeout.
            let _ = tokio::time::timeout(Duration::from_secs(2), client.close()).await;
        }
    }
}
