//! A bank: transfers between accounts in transactions, and reads of all accounts at one moment. Money
//! is neither made nor lost, and no account is overdrawn.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::door::{Change, Session};
use super::{Arena, Noted, Workload, parse};
use crate::checkers::{Checker, bank};
use crate::history::{Operation, Process};

const PARENT: &str = "/bank";
const ACCOUNTS: u32 = 5;
/// In each account, at first.
const BALANCE: u64 = 100;

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Bank;

impl Workload for Bank {
    fn name(&self) -> &'static str {
        "bank"
    }

    fn about(&self) -> &'static str {
        "transfers between accounts (checker: bank: the total never changes, nothing overdrawn)"
    }

    fn doors(&self) -> &'static [super::Door] {
        super::BOTH_DOORS
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            super::prepare_path(&arena, PARENT).await?;
            let session = arena.open().await?;
            for account in 0..ACCOUNTS {
                let mode = quorate::CreateMode::Persistent;
                session.create(&path(account), BALANCE.to_string(), mode).await?;
            }
            session.close().await
        }
        .boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            let step = async |session: &Session, random: &mut fastrand::Rng| match random.u32(..3) {
                0 => read_all(&arena, session, process).await,
                _ => {
                    let from = random.u32(..ACCOUNTS);
                    let to = (from + random.u32(1..ACCOUNTS)) % ACCOUNTS;
                    transfer(&arena, session, process, from, to, random.u64(1..40)).await
                }
            };
            arena.operate(&mut random, step).await;
        }
        .boxed_local()
    }

    fn finish(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            let session = arena.open().await?;
            read_all(&arena, &session, 0).await;
            session.close().await
        }
        .boxed_local()
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(bank::Bank { total: i64::from(ACCOUNTS) * BALANCE as i64 })]
    }
}

/// One transfer, given up if an account has changed meanwhile or has too little.
async fn transfer(
    arena: &Arena,
    session: &Session,
    process: Process,
    from: u32,
    to: u32,
    amount: u64,
) -> bool {
    let asked = Operation::Transfer { from, to, amount };
    let call = async {
        let (source, target) = (session.get(&path(from)).await?, session.get(&path(to)).await?);
        let (Some(has), Some(had)) = (parse(Some(&source.data)), parse(Some(&target.data))) else {
            // Nothing can be moved; the reads of all accounts show it.
            return Ok(None);
        };
        let Some(left) = has.checked_sub(amount) else { return Ok(None) };
        let changes = vec![
            Change::Set(path(from), left.to_string(), source.version),
            Change::Set(path(to), (had + amount).to_string(), target.version),
        ];
        session.transaction(changes).await.map(Some)
    };
    let noted = arena
        .note(process, asked.clone(), call, |zxid| {
            // Without enough there is no transfer: it is told as one of nothing.
            let amount = if zxid.is_some() { amount } else { 0 };
            (Operation::Transfer { from, to, amount }, *zxid)
        })
        .await;
    matches!(noted, Noted::Ended)
}

/// All accounts, if none changed while they were read.
async fn read_all(arena: &Arena, session: &Session, process: Process) -> bool {
    let call = async {
        loop {
            let mut balances = Vec::new();
            let mut checks = Vec::new();
            for account in 0..ACCOUNTS {
                let seen = session.get(&path(account)).await?;
                // What is no number shows in the total.
                balances.push(parse(Some(&seen.data)).map_or(i64::MIN / 8, |value| value as i64));
                checks.push(Change::Check(path(account), seen.version));
            }
            match session.transaction(checks).await {
                Ok(zxid) => return Ok((balances, zxid)),
                Err(error) if error.kind() == quorate::ErrorKind::BadVersion => {}
                Err(error) => return Err(error),
            }
        }
    };
    let noted = arena
        .note(process, Operation::ReadBalances { balances: None }, call, |(balances, zxid)| {
            (Operation::ReadBalances { balances: Some(balances.clone()) }, Some(*zxid))
        })
        .await;
    matches!(noted, Noted::Ended)
}

fn path(account: u32) -> String {
    format!("{PARENT}/{account}")
}
