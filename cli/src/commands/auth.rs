//! `quorate auth`: who a credential proves its owner to be.

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::table::{Cell, Table};
use crate::values::AuthArgument;

/// Check a credential, and print the identities that this connection proves.
///
/// The ids are what an ACL names. In the shell, later commands carry the credential too; elsewhere
/// give it with --auth.
#[derive(Args, Debug)]
pub struct AuthArguments {
    /// Such as digest:alice:secret. Without one the identities are those that there are already.
    #[arg(value_name = "SCHEME:CREDENTIAL")]
    credential: Option<AuthArgument>,
}

#[derive(Debug, Serialize)]
struct AuthJson {
    identities: Vec<IdentityJson>,
}

#[derive(Debug, Serialize)]
struct IdentityJson {
    scheme: String,
    id: String,
}

pub async fn run(arguments: AuthArguments, context: &mut Context) -> Outcome {
    let client = context.session().await?;
    if let Some(auth) = arguments.credential {
        context.add_credential(auth).await?;
    }
    let identities = client.identities().await.map_err(|error| Failure::from_client(&error, ""))?;
    let identities = identities
        .into_iter()
        .map(|identity| IdentityJson { scheme: identity.scheme, id: identity.id })
        .collect();
    let document = AuthJson { identities };
    context.output.show(&document, |style| {
        let mut table = Table::new(&["SCHEME", "ID"]);
        for identity in &document.identities {
            table.row(vec![Cell::text(&identity.scheme), Cell::text(&identity.id)]);
        }
        table.render(style)
    })
}
