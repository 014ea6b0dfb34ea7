//! Loading a configuration from defaults, a file and the environment.
//!
//! A value in the wrong place, or under a wrong name, may be a password, and error messages end up in logs. Errors
//! therefore give names, positions and what was expected, but never a value.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use toml::{Table, Value};

use super::{Problem, Problems};

/// The largest configuration file; a usual one is some kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Environment variables, by name.
pub type Environment = BTreeMap<String, String>;

/// Selects the environment variables that are configuration.
#[derive(Debug, Clone, Copy)]
pub struct Variables {
    /// Prefix of their names. With `HERMESH_`, the variable `HERMESH_NATS__URL` sets `url` in `[nats]`.
    pub prefix: &'static str,
    /// Variables with this prefix that are not configuration. A name that ends in `_` stands for all that begin with
    /// it.
    pub others: &'static [&'static str],
}

impl Variables {
    fn of(self, environment: &Environment) -> impl Iterator<Item = (&String, &String)> {
        let other = move |name: &str| {
            let is =
                |other: &&str| name == *other || (other.ends_with('_') && name.starts_with(*other));
            self.others.iter().any(is)
        };
        environment.iter().filter(move |(name, _)| name.starts_with(self.prefix) && !other(name))
    }
}

/// Why a configuration is rejected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}; expected a readable file of TOML", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not TOML, or has an unknown option or an option of the wrong type.
    #[error("{}: {place}{why}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The line and, if known, the option, each followed by a colon; may be empty.
        place: String,
        /// What was expected.
        why: String,
    },
    /// An environment variable names no option, or its value has the wrong type.
    #[error("environment variable {name}: {why}")]
    Variable {
        /// The variable.
        name: String,
        /// What was expected.
        why: String,
    },
    /// Values are out of range.
    #[error("{}", list(.0))]
    OutOfRange(Vec<(Origin, Problem)>),
    /// The defaults cannot be written as TOML.
    #[error("the defaults cannot be written as TOML: {0}; this is a defect")]
    Unwritable(#[from] toml::ser::Error),
}

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The built-in default.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(file) => file.display().fmt(f),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

fn list(problems: &[(Origin, Problem)]) -> String {
    let line = |(origin, Problem { key, expected, got }): &(Origin, Problem)| {
        format!("{origin}: {key}: expected {expected}, got {got}")
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Loads a configuration: `defaults`, overridden by the file, overridden by the environment. Then `check` receives the
/// configuration and its TOML form, and reports problems. Options that may be absent from the file also need a serde
/// default; its value does not matter.
///
/// # Errors
/// The first error in the file or a variable, or all problems that `check` reports.
pub fn load<C: Serialize + DeserializeOwned>(
    defaults: &C,
    file: Option<&Path>,
    environment: &Environment,
    variables: Variables,
    check: impl FnOnce(&C, &Table) -> Problems,
) -> Result<C, Error> {
    let mut table = Table::try_from(defaults)?;
    let mut given = Table::new();
    if let Some(file) = file {
        given = read::<C>(file)?;
        merge(&mut table, given.clone());
    }
    let mut config = deserialize(table.clone(), file)?;
    for (name, value) in variables.of(environment) {
        config = set(&mut table, variables.prefix, name, value)?;
    }
    let problems = check(&config, &table).into_vec();
    if problems.is_empty() {
        return Ok(config);
    }
    let origin = |problem: Problem| {
        (origin(problem.key, file, &given, variables.prefix, environment), problem)
    };
    Err(Error::OutOfRange(problems.into_iter().map(origin).collect()))
}

fn read<C: DeserializeOwned>(file: &Path) -> Result<Table, Error> {
    use io::Read as _;
    let unreadable = |source| Error::Unreadable { file: file.to_owned(), source };
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    opened.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    let error = |error: &toml::de::Error, named: bool, why: String| {
        let place = place(&text, error.span(), named);
        Error::File { file: file.to_owned(), place, why }
    };
    // The parser's own messages about syntax never quote the file.
    let table = toml::from_str::<Table>(&text);
    let table = table.map_err(|wrong| error(&wrong, false, wrong.message().to_owned()))?;
    // Parsed again from the text, so that errors know their line.
    toml::from_str::<C>(&text).map_err(|wrong| error(&wrong, true, expected(wrong.message())))?;
    Ok(table)
}

/// The position as `line 3: in_flight: `. With `named`, it includes the option set on that line.
fn place(text: &str, span: Option<std::ops::Range<usize>>, named: bool) -> String {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else {
        return String::new();
    };
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    let name = line.split_once('=').map_or("", |(name, _)| name.trim());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let place = format!("line {}: ", number + 1);
    match named && !name.is_empty() && name.bytes().all(plain) {
        true => format!("{place}{name}: "),
        false => place,
    }
}

/// The part of a message that says what was expected. The part before it may quote the value, unless it is about a
/// name.
fn expected(message: &str) -> String {
    if message.starts_with("unknown field ") {
        return message.to_owned();
    }
    // An error of the standard library, passed on by serde.
    if message.starts_with("invalid socket address") {
        return "expected a socket address, such as 127.0.0.1:9403".to_owned();
    }
    match message.rsplit_once("expected ") {
        Some((_, what)) => {
            format!("expected {}", what.split_once(", got ").map_or(what, |(what, _)| what))
        }
        None => "expected another value".to_owned(),
    }
}

fn deserialize<C: DeserializeOwned>(table: Table, file: Option<&Path>) -> Result<C, Error> {
    table.try_into().map_err(|wrong: toml::de::Error| Error::File {
        file: file.unwrap_or(Path::new("defaults")).to_owned(),
        place: String::new(),
        why: expected(wrong.message()),
    })
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

/// Sets the option that a variable names. The type of the option decides whether the value is text or a number: `4222`
/// may be either.
fn set<C: DeserializeOwned>(
    table: &mut Table,
    prefix: &str,
    name: &str,
    text: &str,
) -> Result<C, Error> {
    let error = |why: String| Error::Variable { name: name.into(), why };
    let key = name[prefix.len()..].to_lowercase();
    let candidates = literal(text).into_iter().chain([Value::String(text.into())]);
    let mut first = None;
    for value in candidates {
        let mut changed = table.clone();
        match key.split_once("__") {
            None => drop(changed.insert(key.clone(), value)),
            Some((section, key)) => {
                let section = changed.entry(section).or_insert_with(|| Table::new().into());
                let section = section.as_table_mut().ok_or_else(|| {
                    error(format!("expected {prefix}SECTION__KEY; this names no section"))
                })?;
                section.insert(key.into(), value);
            }
        }
        match changed.clone().try_into() {
            Ok(config) => {
                *table = changed;
                return Ok(config);
            }
            Err(why) => drop(first.get_or_insert(why)),
        }
    }
    Err(error(first.map(|why| expected(why.message())).unwrap_or_default()))
}

/// The text as a number or a boolean, if it is one.
fn literal(text: &str) -> Option<Value> {
    let number = || text.parse().ok().map(Value::Integer);
    let real = || text.parse().ok().map(Value::Float);
    let truth = || text.parse().ok().map(Value::Boolean);
    number().or_else(real).or_else(truth)
}

fn origin(
    key: &str,
    file: Option<&Path>,
    given: &Table,
    prefix: &str,
    environment: &Environment,
) -> Origin {
    let variable = format!("{prefix}{}", key.replace('.', "__").to_uppercase());
    if environment.contains_key(&variable) {
        return Origin::Variable(variable);
    }
    let in_file = match key.split_once('.') {
        Some((section, key)) => given.get(section).is_some_and(|table| table.get(key).is_some()),
        None => given.contains_key(key),
    };
    match file {
        Some(file) if in_file => Origin::File(file.to_owned()),
        _ => Origin::Default,
    }
}
