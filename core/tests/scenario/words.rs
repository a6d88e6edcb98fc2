//! A command line's words: `create /a data="x y" seq`.
//!
//! Words stand apart by blanks; quotes keep blanks; `\0` and `\u{1f}` are characters. A word that
//! nobody took is a mistake in the script.

use std::collections::VecDeque;

/// The words of one command that have not been taken yet.
#[derive(Clone, Debug)]
pub struct Words {
    line: String,
    words: VecDeque<String>,
}

impl Words {
    /// Takes a line apart.
    pub fn new(line: &str) -> Words {
        let (mut words, mut word, mut started, mut quoted) = (VecDeque::new(), String::new(), false, false);
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => (quoted, started) = (!quoted, true),
                ' ' if !quoted => {
                    if started {
                        words.push_back(std::mem::take(&mut word));
                    }
                    started = false;
                }
                '\\' => {
                    word.push(escaped(&mut characters).unwrap_or_else(|| panic!("bad escape in {line:?}")));
                    started = true;
                }
                _ => {
                    word.push(character);
                    started = true;
                }
            }
        }
        assert!(!quoted, "no closing quote in {line:?}");
        if started {
            words.push_back(word);
        }
        Words { line: line.to_owned(), words }
    }

    /// The next word, whatever it is.
    pub fn next(&mut self) -> String {
        self.words.pop_front().unwrap_or_else(|| panic!("a word is missing in {:?}", self.line))
    }

    /// The next word if there is one.
    pub fn next_if_any(&mut self) -> Option<String> {
        self.words.pop_front()
    }

    /// The words up to the next `;`, as a command of their own.
    pub fn next_part(&mut self) -> Option<Words> {
        if self.words.is_empty() {
            return None;
        }
        let end = self.words.iter().position(|word| word == ";").unwrap_or(self.words.len());
        let words = self.words.drain(..end).collect();
        self.words.pop_front();
        Some(Words { line: self.line.clone(), words })
    }

    /// Takes this word if it is there.
    pub fn flag(&mut self, flag: &str) -> bool {
        let place = self.words.iter().position(|word| word == flag);
        place.and_then(|place| self.words.remove(place)).is_some()
    }

    /// Takes `name=value` if it is there.
    pub fn option(&mut self, name: &str) -> Option<String> {
        let is_named = |word: &String| word.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
        let place = self.words.iter().position(is_named)?;
        self.words.remove(place).map(|word| word[name.len() + 1..].to_owned())
    }

    /// Takes `name=number` if it is there.
    pub fn number<N: std::str::FromStr>(&mut self, name: &str) -> Option<N> {
        let text = self.option(name)?;
        Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number in {:?}", self.line)))
    }

    /// Nothing may be left.
    pub fn finish(self) {
        assert!(self.words.is_empty(), "do not know {:?} in {:?}", self.words, self.line);
    }
}

fn escaped(characters: &mut std::str::Chars<'_>) -> Option<char> {
    match characters.next()? {
        '0' => Some('\0'),
        'u' => {
            let code: String =
                characters.by_ref().skip(1).take_while(|character| *character != '}').collect();
            char::from_u32(u32::from_str_radix(&code, 16).ok()?)
        }
        _ => None,
    }
}
