//! Paths: validation and taking apart.
//!
//! The rules are ZooKeeper's (SEMANTICS.md 36–39), told over UTF-16 units there and over
//! characters here: a character beyond U+FFFF is a pair of surrogates there, so it is refused.

use crate::error::{Error, ErrorKind};

/// The longest path. Beyond it a path is refused as [`ErrorKind::BadArguments`]: every event and
/// every ephemeral's listing carries whole paths, so their length bounds what a command can cost.
pub const PATH_BYTES_MAX: usize = 8 * 1024;

/// The nodes that can be neither created nor deleted.
pub const RESERVED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// Whether this is one of the nodes that can be neither created nor deleted.
pub fn is_reserved(path: &str) -> bool {
    path.len() <= "/zookeeper/config".len() && RESERVED.contains(&path)
}

/// Whether a node can have this path.
///
/// # Errors
/// [`ErrorKind::BadArguments`], naming what is wrong.
pub fn validate(path: &str) -> Result<(), Error> {
    if path.is_empty() {
        return Err(bad(path, "is empty"));
    }
    if !path.starts_with('/') {
        return Err(bad(path, "does not start with a slash"));
    }
    if path.len() == 1 {
        return Ok(());
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(bad(path, "is longer than 8192 bytes"));
    }
    if path.ends_with('/') {
        return Err(bad(path, "ends with a slash"));
    }
    let mut name_length = 0;
    let mut dots_only = true;
    for byte in path.as_bytes()[1..].iter().copied().chain([b'/']) {
        match byte {
            b'/' => {
                if name_length == 0 {
                    return Err(bad(path, "has an empty name"));
                }
                if dots_only && name_length <= 2 {
                    return Err(bad(path, "is relative"));
                }
                (name_length, dots_only) = (0, true);
            }
            0..=0x1f | 0x7f => return Err(bad(path, "contains a control character")),
            0x80.. => return validate_unicode(path),
            _ => {
                name_length += 1;
                dots_only &= byte == b'.';
            }
        }
    }
    Ok(())
}

/// The same for a path that is not plain ASCII.
fn validate_unicode(path: &str) -> Result<(), Error> {
    for character in path.chars() {
        if is_forbidden(character) {
            return Err(bad(path, "contains a character that is not allowed"));
        }
    }
    for name in path[1..].split('/') {
        match name {
            "" => return Err(bad(path, "has an empty name")),
            "." | ".." => return Err(bad(path, "is relative")),
            _ => {}
        }
    }
    Ok(())
}

fn is_forbidden(character: char) -> bool {
    matches!(character, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// A path's parent and last name, by its last slash. The parent of a top node is "", which names the root.
///
/// # Errors
/// [`ErrorKind::BadArguments`] without a slash or with a NUL character.
pub fn split_last(path: &str) -> Result<(&str, &str), Error> {
    match last_slash(path) {
        Some(slash) if !path.contains('\0') => Ok((&path[..slash], &path[slash + 1..])),
        Some(_) => Err(bad(path, "contains a NUL character")),
        None => Err(bad(path, "has no slash")),
    }
}

/// What stands behind the last slash.
pub fn last_name(path: &str) -> &str {
    &path[last_slash(path).map_or(0, |slash| slash + 1)..]
}

/// Names are short: a plain walk from the end beats a search made for long texts.
fn last_slash(path: &str) -> Option<usize> {
    path.as_bytes().iter().rposition(|byte| *byte == b'/')
}

/// A parent's path and a child's name, put together.
pub fn join(parent: &str, name: &str) -> String {
    let parent = if parent == "/" { "" } else { parent };
    let mut path = String::with_capacity(parent.len() + 1 + name.len());
    path.push_str(parent);
    path.push('/');
    path.push_str(name);
    path
}

fn bad(path: &str, what: &str) -> Error {
    Error::new(ErrorKind::BadArguments, format!("path {:?} {what}", excerpt(path)))
}

/// The beginning of a path that may be too long to repeat to people.
pub(crate) fn excerpt(path: &str) -> &str {
    let mut end = path.len().min(200);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_paths_are_accepted() {
        for path in
            ["/", "/a", "/a/b", "/.a", "/a.", "/...", "/a/..b", "/naïve/日本", "/a b", "/\u{a0}", "/\u{ffef}"]
        {
            assert_eq!(validate(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn bad_paths_are_refused() {
        for path in [
            "",
            "a",
            "a/b",
            "/a/",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/a/.",
            "/a/../b",
            "/./a",
            "/é/.",
            "/é//b",
            "/a\0b",
            "/a\u{1}",
            "/a\u{1f}",
            "/a\u{7f}",
            "/a\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{ffff}",
            "/\u{1f600}",
        ] {
            assert_eq!(validate(path).map_err(|error| error.kind), Err(ErrorKind::BadArguments), "{path:?}");
        }
        assert!(validate(&format!("/{}", "x".repeat(PATH_BYTES_MAX - 1))).is_ok());
        assert!(validate(&format!("/{}", "x".repeat(PATH_BYTES_MAX))).is_err());
    }

    #[test]
    fn paths_come_apart_and_together() {
        assert_eq!(split_last("/a/b"), Ok(("/a", "b")));
        assert_eq!(split_last("/a"), Ok(("", "a")));
        assert_eq!(split_last("/"), Ok(("", "")));
        assert!(split_last("a").is_err() && split_last("/a\0").is_err());
        assert_eq!((join("/", "a"), join("/a", "b")), ("/a".into(), "/a/b".into()));
    }

    #[test]
    fn an_excerpt_ends_between_characters() {
        assert!(excerpt(&"é".repeat(1000)).len() <= 200);
    }
}
