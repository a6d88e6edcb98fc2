//! Failures: anything with a message. Nobody acts on their kinds; a run ends with them.

/// Why something could not be measured.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What can fail.
pub type Outcome<T> = Result<T, Failure>;
