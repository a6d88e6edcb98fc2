//! A counter: a node with a decimal number, changed only from what it was.

use quorate_core::error::ErrorKind;

use crate::calls::Node;
use crate::client::Client;
use crate::error::{Error, Result};

/// A counter at a path.
#[derive(Clone, Debug)]
pub struct Counter {
    client: Client,
    path: String,
}

impl Counter {
    /// The counter whose node is `path`. It is 0 until it is first changed.
    pub fn new(client: &Client, path: impl Into<String>) -> Counter {
        Counter { client: client.clone(), path: path.into() }
    }

    /// The value now.
    ///
    /// # Errors
    /// The session's end, `NoAuth`; [`Error::Protocol`] if the node holds no number.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn value(&self) -> Result<i64> {
        match self.client.get(&self.path).await {
            Ok(node) => parse(&node),
            Err(error) if error.kind() == ErrorKind::NoNode => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Adds to the value; the new one. Every addition counts once.
    ///
    /// # Errors
    /// As [`Counter::value`]; `BadArguments` if the sum does not fit; `OutcomeUnknown` if the
    /// session ended meanwhile.
    ///
    /// # Cancel safety
    /// Dropping the future leaves open whether it was added.
    pub async fn add(&self, delta: i64) -> Result<i64> {
        loop {
            let node = match self.client.get(&self.path).await {
                Ok(node) => node,
                Err(error) if error.kind() == ErrorKind::NoNode => {
                    self.client.ensure_path(&self.path).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let sum = parse(&node)?
                .checked_add(delta)
                .ok_or_else(|| Error::BadArguments(format!("{} would overflow", self.path)))?;
            match self.client.set(&self.path, sum.to_string()).version(node.stat.version).await {
                Ok(_) => return Ok(sum),
                Err(error) if matches!(error.kind(), ErrorKind::BadVersion | ErrorKind::NoNode) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn parse(node: &Node) -> Result<i64> {
    let data = node.data.as_deref().unwrap_or_default();
    if data.is_empty() {
        return Ok(0);
    }
    let number = std::str::from_utf8(data).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::Protocol("the counter's node holds no number".into()))
}
