//! What things may be called: DNS labels, addresses, and bounded text.
//!
//! Names appear in paths, in DNS and in other systems' configuration, so they are what all of those
//! take: `[a-z0-9]` with hyphens inside, at most 63 bytes.

use std::net::IpAddr;

use crate::error::{Error, ErrorKind};

/// The longest DNS label.
pub const LABEL_BYTES_MAX: usize = 63;
/// The longest host name or address.
pub const ADDRESS_BYTES_MAX: usize = 253;

/// Accepts a DNS label.
///
/// # Errors
/// [`ErrorKind::BadArguments`] or, for its length, [`ErrorKind::TooLarge`], naming the field.
pub fn check_label(field: &str, text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Err(bad(field, "is empty"));
    }
    check_bytes(field, text, LABEL_BYTES_MAX)?;
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !text.bytes().all(is_inner) || text.starts_with('-') || text.ends_with('-') {
        return Err(bad(field, &format!("{:?} is not a DNS label (a-z, 0-9, hyphens inside)", shown(text))));
    }
    Ok(())
}

/// Accepts an IP address or a host name.
///
/// # Errors
/// As [`check_label`].
pub fn check_address(field: &str, text: &str) -> Result<(), Error> {
    check_bytes(field, text, ADDRESS_BYTES_MAX)?;
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let is_label = |label: &str| check_label(field, &label.to_ascii_lowercase()).is_ok();
    // All digits and dots is an address that went wrong, not a name.
    let is_name = text.split('.').all(is_label) && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    match is_name {
        true => Ok(()),
        false => Err(bad(field, &format!("{:?} is neither an IP address nor a host name", shown(text)))),
    }
}

/// Accepts text without control characters up to a length.
///
/// # Errors
/// As [`check_label`].
pub fn check_text(field: &str, text: &str, bytes_max: usize) -> Result<(), Error> {
    check_bytes(field, text, bytes_max)?;
    match text.chars().any(char::is_control) {
        true => Err(bad(field, "contains a control character")),
        false => Ok(()),
    }
}

/// Accepts a number within bounds.
///
/// # Errors
/// [`ErrorKind::BadArguments`], naming the field and the bounds.
pub fn check_range(field: &str, value: u64, least: u64, most: u64) -> Result<(), Error> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(bad(field, &format!("is {value}, must be between {least} and {most}"))),
    }
}

/// Accepts so many entries.
///
/// # Errors
/// [`ErrorKind::TooLarge`], naming the field and the limit.
pub fn check_count(field: &str, count: usize, most: usize) -> Result<(), Error> {
    match count <= most {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::TooLarge, format!("{field}: {count} entries, at most {most}"))),
    }
}

fn check_bytes(field: &str, text: &str, most: usize) -> Result<(), Error> {
    match text.len() <= most {
        true => Ok(()),
        false => {
            Err(Error::new(ErrorKind::TooLarge, format!("bytes of {field}: {}, at most {most}", text.len())))
        }
    }
}

pub(super) fn bad(field: &str, what: &str) -> Error {
    Error::new(ErrorKind::BadArguments, format!("{field} {what}"))
}

/// The beginning of text that may be too long, or hostile, to repeat.
fn shown(text: &str) -> &str {
    crate::path::excerpt(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_dns_labels() {
        let longest = "x".repeat(63);
        for good in ["a", "0", "orders", "a-b", "eu-west-1a", &longest] {
            assert_eq!(check_label("id", good), Ok(()), "{good}");
        }
        let too_long = "x".repeat(64);
        for hostile in ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "..", "a b", "é", "a\0", "a\n", &too_long]
        {
            let error = check_label("instance.id", hostile).expect_err(hostile);
            assert!(error.detail.contains("instance.id"), "{error}");
        }
    }

    #[test]
    fn addresses_are_ips_or_host_names() {
        for good in ["10.0.0.1", "::1", "2001:db8::7", "host", "a.b.example", "Host-1.local"] {
            assert_eq!(check_address("address", good), Ok(()), "{good}");
        }
        for bad in ["", "10.0.0", "10.0.0.256", "a..b", "a b", "http://x", "a:80", "[::1]", "-a.b", "x_y"] {
            assert!(check_address("address", bad).is_err(), "{bad}");
        }
    }
}
