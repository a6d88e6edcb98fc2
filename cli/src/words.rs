//! Lines of a shell or a transaction file as words: quotes, escapes, comments.

/// Splits a line at blanks. '…' keeps everything, "…" keeps all but `\"` and `\\`, `\` keeps the
/// next character, # at a word's beginning starts a comment.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '#' if word.is_none() => break,
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a ' is not closed".into()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some('"') => break,
                        Some('\\') if matches!(characters.peek(), Some('"' | '\\')) => {
                            word.extend(characters.next());
                        }
                        Some(c) => word.push(c),
                        None => return Err("a \" is not closed".into()),
                    }
                }
            }
            '\\' => match characters.next() {
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err("nothing follows the last \\".into()),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_shells_do() {
        for (line, words) in [
            ("", &[][..]),
            ("  get   /a  ", &["get", "/a"]),
            ("set /a 'two words'", &["set", "/a", "two words"]),
            (r#"set /a "say \"hi\" \n""#, &["set", "/a", r#"say "hi" \n"#]),
            (r"set /a one\ word", &["set", "/a", "one word"]),
            ("set /a ''", &["set", "/a", ""]),
            ("set /a pre'fix and 'rest", &["set", "/a", "prefix and rest"]),
            ("get /a # look", &["get", "/a"]),
            ("get /a#b", &["get", "/a#b"]),
            ("# all of it", &[]),
        ] {
            assert_eq!(split(line).expect(line), words, "{line}");
        }
    }

    #[test]
    fn what_is_open_at_the_end_is_an_error() {
        for line in ["set /a 'x", "set /a \"x", "set /a x\\"] {
            assert!(split(line).is_err(), "{line}");
        }
    }
}
