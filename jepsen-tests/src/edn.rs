//! A history as Jepsen writes it (EDN), so that other checkers can read it.
//!
//! One map a line: `:type`, `:f`, `:process`, `:time` in nanoseconds, `:value`. Transactions on lists
//! are as Elle wants them: `[[:r 1 [5]] [:append 1 6]]`; everything else is a map of what the
//! operation says. Unknown outcomes are `:info`, as they are here.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use serde_json::Value;

use crate::history::{Entry, History, Kind, NEMESIS, Operation, Step};

/// Writes a history.
///
/// # Errors
/// The file cannot be written.
pub fn write(history: &History, path: &Path) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for (index, entry) in history.entries.iter().enumerate() {
        writeln!(file, "{}", line(index, entry))?;
    }
    file.flush()
}

/// One entry.
pub fn line(index: usize, entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::Invoke => "invoke",
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    };
    let process = if entry.process == NEMESIS { ":nemesis".into() } else { entry.process.to_string() };
    let (name, value) = match &entry.operation {
        Operation::Transaction { steps } => ("txn".to_owned(), transaction(steps)),
        operation => {
            let mut value = serde_json::to_value(operation).unwrap_or(Value::Null);
            let name = value.as_object_mut().and_then(|fields| fields.remove("f"));
            let name = name.as_ref().and_then(Value::as_str).unwrap_or("unknown").to_owned();
            (name, edn(&value))
        }
    };
    let time = u128::from(entry.time_us) * 1000;
    let mut line = format!(
        "{{:index {index}, :type :{kind}, :f :{name}, :process {process}, :time {time}, :value {value}"
    );
    // Writing into a String cannot fail.
    if let Some(zxid) = entry.zxid {
        let _ = write!(line, ", :zxid {zxid}");
    }
    if let Some(error) = &entry.error {
        let _ = write!(line, ", :error {}", text(error));
    }
    line + "}"
}

fn transaction(steps: &[Step]) -> String {
    let mut micros = Vec::new();
    for step in steps {
        let before = step.before.as_ref().map_or("nil".into(), |before| {
            let elements: Vec<String> = before.iter().map(u64::to_string).collect();
            format!("[{}]", elements.join(" "))
        });
        micros.push(format!("[:r {} {before}]", step.list));
        micros.extend(step.append.map(|element| format!("[:append {} {element}]", step.list)));
    }
    format!("[{}]", micros.join(" "))
}

fn edn(value: &Value) -> String {
    match value {
        Value::Null => "nil".into(),
        Value::Bool(is) => is.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(string) => text(string),
        Value::Array(items) => format!("[{}]", items.iter().map(edn).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!(":{} {}", name.replace('_', "-"), edn(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

fn text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
