//! Answers in ZooKeeper's shapes. They come from the outbox in the order of the requests, so each
//! only needs to know what its request's answer looks like.

use bytes::{BufMut, BytesMut};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::reply::{ReadResult, WriteResult};

use super::jute::{put_buffer, put_string, put_vector};
use super::records::{begin_frame, end_frame, opcode, put_acl, put_reply_header, put_stat};
use super::requests::Shape;

/// Puts the answer to a write.
pub fn put_write(
    out: &mut BytesMut,
    (xid, zxid): (i32, u64),
    shape: &Shape,
    result: &Result<WriteResult, Error>,
) {
    match (result, shape) {
        (Err(error), Shape::Multi(codes)) if error.operation.is_some() => {
            let frame = begin_frame(out);
            put_reply_header(out, xid, zxid, 0);
            put_multi_failure(out, codes.len(), error);
            end_frame(out, frame);
        }
        (Err(error), _) => put_error(out, (xid, zxid), error),
        (Ok(result), shape) => {
            let frame = begin_frame(out);
            put_reply_header(out, xid, zxid, 0);
            put_write_body(out, shape, result);
            end_frame(out, frame);
        }
    }
}

/// Puts the answer to a read.
pub fn put_read(
    out: &mut BytesMut,
    (xid, zxid): (i32, u64),
    shape: &Shape,
    result: &Result<ReadResult, Error>,
) {
    match result {
        Err(error) => put_error(out, (xid, zxid), error),
        Ok(result) => {
            let frame = begin_frame(out);
            put_reply_header(out, xid, zxid, 0);
            put_read_body(out, shape, result);
            end_frame(out, frame);
        }
    }
}

/// Puts a header with an error and nothing more.
pub fn put_error(out: &mut BytesMut, (xid, zxid): (i32, u64), error: &Error) {
    let frame = begin_frame(out);
    put_reply_header(out, xid, zxid, error.kind.zookeeper_code());
    end_frame(out, frame);
}

fn put_write_body(out: &mut BytesMut, shape: &Shape, result: &WriteResult) {
    match (shape, result) {
        (Shape::Path, WriteResult::Created { path, .. }) => put_string(out, path),
        (Shape::PathAndStat, WriteResult::Created { path, stat }) => {
            put_string(out, path);
            put_stat(out, stat);
        }
        (Shape::Stat, WriteResult::DataSet(stat) | WriteResult::AclSet(stat)) => put_stat(out, stat),
        (Shape::Multi(codes), WriteResult::Multi(results)) => {
            for (code, result) in codes.iter().zip(results) {
                let (code, shape) = match *code {
                    opcode::CREATE => (opcode::CREATE, Shape::Path),
                    opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => {
                        (opcode::CREATE2, Shape::PathAndStat)
                    }
                    opcode::SET_DATA => (opcode::SET_DATA, Shape::Stat),
                    code => (code, Shape::Empty),
                };
                put_multi_header(out, code, false, 0);
                put_write_body(out, &shape, result);
            }
            put_multi_header(out, -1, true, -1);
        }
        _ => {}
    }
}

/// A multi that failed at one operation: those before it would have been fine, those behind it
/// were not tried.
fn put_multi_failure(out: &mut BytesMut, count: usize, error: &Error) {
    let failed = error.operation.map_or(0, |operation| operation as usize);
    for index in 0..count {
        let code = match index.cmp(&failed) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => error.kind.zookeeper_code(),
            std::cmp::Ordering::Greater => ErrorKind::RuntimeInconsistency.zookeeper_code(),
        };
        put_multi_header(out, opcode::ERROR, false, code);
        out.put_i32(code);
    }
    put_multi_header(out, -1, true, -1);
}

fn put_multi_header(out: &mut BytesMut, code: i32, is_done: bool, error: i32) {
    out.put_i32(code);
    out.put_u8(is_done.into());
    out.put_i32(error);
}

fn put_read_body(out: &mut BytesMut, shape: &Shape, result: &ReadResult) {
    match (shape, result) {
        (Shape::Data, ReadResult::Data { data, stat }) => {
            put_buffer(out, data.as_deref());
            put_stat(out, stat);
        }
        (Shape::Stat, ReadResult::Exists(stat)) => put_stat(out, stat),
        (Shape::Acl, ReadResult::Acl { acl, stat }) => {
            put_acl(out, acl);
            put_stat(out, stat);
        }
        (Shape::Children | Shape::ChildrenAndStat, ReadResult::Children { children, stat, .. }) => {
            put_vector(out, children, |out, child| put_string(out, &child.name));
            if *shape == Shape::ChildrenAndStat {
                put_stat(out, stat);
            }
        }
        (Shape::Paths, ReadResult::Ephemerals(paths)) => {
            put_vector(out, paths, |out, path| put_string(out, path));
        }
        (Shape::Count, ReadResult::Count(count)) => out.put_i32(i32::try_from(*count).unwrap_or(i32::MAX)),
        (Shape::Synced, ReadResult::Synced(path)) => put_string(out, path),
        (Shape::Identities, ReadResult::Identities(identities)) => {
            put_vector(out, identities, |out, identity| {
                put_string(out, &identity.scheme);
                // Of a digest only the user is anybody's business.
                let user = match identity.scheme.as_str() {
                    "digest" => identity.id.split(':').next().unwrap_or_default(),
                    _ => &identity.id,
                };
                put_string(out, user);
            });
        }
        (Shape::Zero, _) => out.put_i32(0),
        (Shape::MultiRead(codes), ReadResult::Multi(results)) => {
            for (code, result) in codes.iter().zip(results) {
                match result {
                    Ok(result) => {
                        put_multi_header(out, *code, false, 0);
                        let shape = if *code == opcode::GET_DATA { Shape::Data } else { Shape::Children };
                        put_read_body(out, &shape, result);
                    }
                    Err(error) => {
                        let code = error.kind.zookeeper_code();
                        put_multi_header(out, opcode::ERROR, false, code);
                        out.put_i32(code);
                    }
                }
            }
            put_multi_header(out, -1, true, -1);
        }
        _ => {}
    }
}
