//! Exactly once: of each session the numbers 1, 2, 3, … take effect, each once, in this order, and
//! only under the session's present attachment.

use std::collections::BTreeMap;

use quorate_core::command::{Command, Origin};
use quorate_core::id::{AttachEpoch, SessionId, WriteNumber};
use quorate_core::reply::{WriteReply, WriteResult};
use quorate_core::state::{Answer, Applied};

/// Every session's attachment and last number.
#[derive(Debug, Default)]
pub struct ExactlyOnce {
    sessions: BTreeMap<SessionId, (AttachEpoch, WriteNumber)>,
}

impl ExactlyOnce {
    /// A command was applied, as the next of all.
    pub fn applied(&mut self, command: &Command, applied: &Applied) -> Result<(), String> {
        let outcome = match (&command.origin, &applied.answer) {
            (Origin::Session { session, epoch, number, .. }, Answer::Reply(_)) => {
                self.took_effect(*session, *epoch, *number)
            }
            (Origin::Call { .. }, Answer::Reply(WriteReply { result: Ok(result), .. })) => {
                if let WriteResult::SessionOpened(attached) | WriteResult::Attached(attached) = result {
                    let known = self.sessions.entry(attached.session).or_default();
                    known.0 = attached.epoch;
                    if known.1 != attached.last_applied {
                        return Err(format!(
                            "session {} was attached at write {}, but {} had taken effect",
                            attached.session, attached.last_applied.0, known.1.0
                        ));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        };
        if let Some(session) = applied.ended_session {
            self.sessions.remove(&session);
        }
        outcome
    }

    fn took_effect(
        &mut self,
        session: SessionId,
        epoch: AttachEpoch,
        number: WriteNumber,
    ) -> Result<(), String> {
        let Some((attached, last)) = self.sessions.get_mut(&session) else {
            return Err(format!("write {} of session {session} took effect, which is not open", number.0));
        };
        if number != last.next() {
            return Err(format!("write {} of session {session} took effect behind {}", number.0, last.0));
        }
        *last = number;
        if epoch != *attached {
            return Err(format!(
                "write {} of session {session} took effect under attachment {}, the present one is {}",
                number.0, epoch.0, attached.0
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::command::Operation;
    use quorate_core::id::{MemberId, Zxid};
    use quorate_core::reply::Attachment;

    const SESSION: SessionId = SessionId(9);

    fn apply(rule: &mut ExactlyOnce, origin: Origin, result: WriteResult) -> Result<(), String> {
        let command = Command { origin, identities: Vec::new(), operation: Operation::DigestMark };
        let answer = Answer::Reply(WriteReply { zxid: Zxid(1), result: Ok(result) });
        let applied = Applied { zxid: Zxid(1), answer, changes: Vec::new(), ended_session: None };
        rule.applied(&command, &applied)
    }

    fn attach(rule: &mut ExactlyOnce, epoch: u64, last: u64) -> Result<(), String> {
        let attachment = Attachment {
            session: SESSION,
            password: [0; 16],
            timeout_ms: 4000,
            epoch: AttachEpoch(epoch),
            last_applied: WriteNumber(last),
        };
        let origin = Origin::Call { member: MemberId(1), ticket: 1, request: None };
        apply(rule, origin, WriteResult::Attached(attachment))
    }

    fn write(rule: &mut ExactlyOnce, epoch: u64, number: u64) -> Result<(), String> {
        let (number, acknowledged) = (WriteNumber(number), WriteNumber(0));
        let origin = Origin::Session { session: SESSION, epoch: AttachEpoch(epoch), number, acknowledged };
        apply(rule, origin, WriteResult::Done)
    }

    #[test]
    fn a_write_twice_out_of_order_or_under_an_old_attachment_is_noticed() {
        let mut rule = ExactlyOnce::default();
        assert!(attach(&mut rule, 1, 0).is_ok());
        assert!(write(&mut rule, 1, 1).is_ok());
        assert!(write(&mut rule, 1, 1).is_err(), "twice");
        assert!(write(&mut rule, 1, 3).is_err(), "a gap");
        assert!(attach(&mut rule, 2, 0).is_err(), "a write forgotten");
        assert!(attach(&mut rule, 3, 1).is_ok());
        assert!(write(&mut rule, 2, 2).is_err(), "an old attachment");
        assert!(write(&mut ExactlyOnce::default(), 1, 1).is_err(), "no session");
    }
}
