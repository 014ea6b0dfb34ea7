//! Configuration: the documented defaults are the real ones, and errors name the option.

#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

use hermesh_programs::{
    Aggregation, Evaluation, KeyManagement, Preprocessing, Program,
    config::{Config, Environment, Error, Origin, Problem, load},
};
use tempfile::TempDir;
use toml::{Table, Value};

/// The defaults of a program, in their written form.
fn written<P: Program>() -> Table {
    Table::try_from(loaded::<P>(None, &[]).unwrap()).unwrap()
}

fn loaded<P: Program>(
    text: Option<&str>,
    variables: &[(&str, &str)],
) -> Result<Config<P::Options>, Error> {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("program.toml");
    let environment: Environment =
        variables.iter().map(|&(name, value)| (name.into(), value.into())).collect();
    let file = text.map(|text| {
        fs::write(&file, text).unwrap();
        file
    });
    hermesh_programs::load::<P>(file.as_deref(), &environment)
}

fn refused(text: &str) -> String {
    match loaded::<Evaluation>(Some(text), &[]) {
        Ok(_) => panic!("{text} was accepted"),
        Err(error) => error.to_string(),
    }
}

fn out_of_range<P: Program>(
    text: Option<&str>,
    variables: &[(&str, &str)],
) -> Vec<(Origin, Problem)> {
    match loaded::<P>(text, variables) {
        Err(Error::OutOfRange(problems)) => problems,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{text:?} {variables:?} was accepted"),
    }
}

fn keys(table: &Table, prefix: &str, into: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::Table(table) => keys(table, &format!("{prefix}{key}."), into),
            _ => into.push(format!("{prefix}{key}")),
        }
    }
}

/// The documented file, and the same with its commented-out options.
fn documented<P: Program>() -> (Table, Table) {
    let optional =
        |line: &str| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).map(str::to_owned);
    let all: Vec<String> =
        P::DOCUMENTED.lines().map(|line| optional(line).unwrap_or(line.into())).collect();
    let all = all.join("\n");
    (P::DOCUMENTED.parse().unwrap(), all.parse().unwrap_or_else(|error| panic!("{error}\n{all}")))
}

fn the_documented_file_is_the_default<P: Program>(machine: &[&str]) {
    let mut defaults = written::<P>();
    // Defaults that depend on the machine cannot be in the file.
    let service = defaults["service"].as_table_mut().unwrap();
    for key in machine {
        service.remove(*key).unwrap();
    }
    let (file, all) = documented::<P>();
    assert_eq!(file, defaults, "{}", P::NAME);

    let (mut documented, mut existing) = (vec![], vec![]);
    keys(&all, "", &mut documented);
    let everything = toml::to_string(&all).unwrap();
    let config = loaded::<P>(Some(&everything), &[]).unwrap();
    keys(&Table::try_from(&config).unwrap(), "", &mut existing);
    documented.sort();
    existing.sort();
    assert_eq!(documented, existing, "{}", P::NAME);
    for key in ["nats.name", "nats.inbox", "otlp.endpoint"] {
        assert!(documented.contains(&key.to_owned()), "{}: {key}", P::NAME);
    }
    for key in machine {
        assert!(documented.contains(&format!("service.{key}")), "{}: {key}", P::NAME);
    }
}

#[test]
fn the_documented_files_are_the_defaults() {
    the_documented_file_is_the_default::<KeyManagement>(&[]);
    the_documented_file_is_the_default::<Preprocessing>(&[]);
    the_documented_file_is_the_default::<Evaluation>(&["threads", "in_flight"]);
    the_documented_file_is_the_default::<Aggregation>(&[]);
}

/// Every number must have a range; without one, any value would be accepted.
fn every_number_has_a_range<P: Program>() {
    let defaults = written::<P>();
    for (key, value) in defaults["service"].as_table().unwrap() {
        let range = P::RANGES.iter().find(|range| range.key == format!("service.{key}"));
        assert_eq!(value.is_integer() || value.is_float(), range.is_some(), "{} {key}", P::NAME);
        let Some(range) = range else { continue };
        let beyond = if value.is_float() {
            Value::Float(range.max * 2.0)
        } else {
            Value::Integer(range.max as i64 + 1)
        };
        let problems = out_of_range::<P>(Some(&format!("[service]\n{key} = {beyond}")), &[]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].1.key, range.key);
    }
    let existing = |key: &str| defaults["service"].get(key.strip_prefix("service.")?);
    assert!(P::RANGES.iter().all(|range| existing(range.key).is_some()), "{}", P::NAME);
}

#[test]
fn no_number_is_without_a_range() {
    every_number_has_a_range::<KeyManagement>();
    every_number_has_a_range::<Preprocessing>();
    every_number_has_a_range::<Evaluation>();
    every_number_has_a_range::<Aggregation>();
}

#[test]
fn the_file_goes_before_the_defaults_and_the_environment_before_the_file() {
    let text = "drain_seconds = 7\n[service]\nin_flight = 3\nmailbox = 5";
    let variables = [
        ("HERMESH_SERVICE__IN_FLIGHT", "4"),
        ("HERMESH_DRAIN_SECONDS", "2.5"),
        ("HERMESH_HTTP__ALLOW_REMOTE", "true"),
        ("HERMESH_OTLP__ENDPOINT", "http://127.0.0.1:4318"),
        // A string, although it looks like a number.
        ("HERMESH_NATS__NAME", "0042"),
        ("HERMESH_LOG", "debug"),
        ("HERMESH_PASSPHRASE", "not ours"),
        ("HERMES", "not ours"),
        ("PATH", "/bin"),
    ];
    let config = loaded::<Evaluation>(Some(text), &variables).unwrap();
    assert_eq!((config.service.in_flight, config.service.mailbox), (4, 5));
    assert_eq!(config.service.max_key_bytes, 256 << 20);
    assert_eq!(config.drain.as_secs_f64(), 2.5);
    assert!(config.http.allow_remote);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9403");
    assert_eq!(config.otlp.endpoint.as_deref(), Some("http://127.0.0.1:4318"));
    assert_eq!(config.nats.name.as_deref(), Some("0042"));
}

#[test]
fn an_error_in_the_file_says_where_and_what_was_expected() {
    for (text, expected) in [
        ("[service]\nin_fligt = 3", ["program.toml", "line 2", "in_fligt", "in_flight"]),
        ("[htp]\nlisten = \"127.0.0.1:1\"", ["program.toml", "line 1", "htp", "http"]),
        ("[service]\n\nin_flight = \"3\"", ["program.toml", "line 3", "in_flight", "usize"]),
        ("[service]\nin_flight = 2.7", ["program.toml", "line 2", "in_flight", "usize"]),
        ("[service]\nin_flight = -1", ["program.toml", "line 2", "in_flight", "usize"]),
        ("[log]\nlevel = \"loud\"", ["program.toml", "line 2", "level", "warn"]),
        ("drain_seconds = nan", ["program.toml", "line 1", "drain_seconds", "number of seconds"]),
        ("drain_seconds = -1", ["program.toml", "line 1", "drain_seconds", "number of seconds"]),
        ("[http]\nlisten = \"here\"", ["program.toml", "line 2", "listen", "socket address"]),
        ("[service\n", ["program.toml", "line 1", "table", "]"]),
    ] {
        let error = refused(text);
        for part in expected {
            assert!(error.contains(part), "{part:?} is not in\n{error}");
        }
    }
    let missing = PathBuf::from("/no/such/file.toml");
    let error = hermesh_programs::load::<Evaluation>(Some(&missing), &Environment::new());
    assert!(matches!(error, Err(Error::Unreadable { file, .. }) if file == missing));
}

/// A password in a wrong place, or under the name of no option, is not printed.
#[test]
fn values_that_are_not_understood_are_not_told() {
    const SECRET: &str = "hunter2, expected `pearls`";
    for (text, name) in [
        ("[nats]\npassword = \"…\"", "password"),
        ("[service]\nin_flight = \"…\"", "in_flight"),
        ("[service]\nin_flight = [\"…\"]", "in_flight"),
        ("[service]\nin_flight = { \"…\" = 1 }", "in_flight"),
        ("[log]\nlevel = \"…\"", "level"),
        ("[http]\nlisten = \"…\"", "listen"),
        ("drain_seconds = \"…\"", "drain_seconds"),
        ("password = \"\"\"\n…\"\"\"", "password"),
        ("[nats]\npassword = …", "line 2"),
        ("[nats]\npassword = \"…", "line 2"),
        ("nats = \"…\"", "nats"),
    ] {
        let text = text.replace('…', SECRET);
        let Err(error) = loaded::<Evaluation>(Some(&text), &[]) else {
            panic!("{text} was accepted");
        };
        let told = format!("{error} {error:?}");
        assert!(told.contains(name), "{text}: {told}");
        assert!(!told.contains("hunter2") && !told.contains("pearls"), "{text}: {told}");
    }
    for name in [
        "HERMESH_NATS__PASSWORD",
        "HERMESH_PASSWORD",
        "HERMESH_NATS",
        "HERMESH_LOG__LEVEL",
        "HERMESH_HTTP__LISTEN",
        "HERMESH_SERVICE__IN_FLIGHT",
        "HERMESH_DRAIN_SECONDS",
        "HERMESH_DRAIN_SECONDS__X",
    ] {
        let Err(error) = loaded::<Evaluation>(None, &[(name, SECRET)]) else {
            panic!("{name} was accepted");
        };
        let told = format!("{error} {error:?}");
        assert!(told.contains(name), "{name}: {told}");
        assert!(!told.contains("hunter2") && !told.contains("pearls"), "{name}: {told}");
    }
    let listed = format!("[service]\ntenants = {{ acme = \"{SECRET}\" }}");
    let Err(error) = loaded::<KeyManagement>(Some(&listed), &[]) else {
        panic!("{listed} was accepted");
    };
    let told = error.to_string();
    assert!(told.contains("ed25519") && !told.contains("hunter2"), "{told}");
}

#[test]
fn a_variable_that_names_nothing_or_means_nothing_is_an_error() {
    for (name, value, expected) in [
        ("HERMESH_SERVICE__IN_FLIGT", "4", "in_flight"),
        ("HERMESH_SERVICE_IN_FLIGHT", "4", "service"),
        ("HERMESH_SERVICES__IN_FLIGHT", "4", "service"),
        ("HERMESH_SERVICE__IN_FLIGHT", "many", "usize"),
        ("HERMESH_SERVICE__IN_FLIGHT", "2.5", "usize"),
        ("HERMESH_SERVICE__IN_FLIGHT", "-4", "usize"),
        ("HERMESH_SERVICE__IN_FLIGHT", "", "usize"),
        ("HERMESH_SERVICE", "4", "Options"),
        ("HERMESH_DRAIN_SECONDS__X", "4", "no section"),
        ("HERMESH_", "4", "service"),
        ("HERMESH___", "4", "service"),
        ("HERMESH_LOGS", "debug", "log"),
    ] {
        match loaded::<Evaluation>(None, &[(name, value)]) {
            Err(Error::Variable { name: told, why, .. }) => {
                assert_eq!(told, name);
                assert!(why.contains(expected), "{name}={value}: {why}");
            }
            other => panic!("{name}={value}: {:?}", other.map(drop)),
        }
    }
}

#[test]
fn all_that_is_out_of_range_is_told_with_where_it_comes_from() {
    let text = "drain_seconds = 90000\n[service]\nin_flight = 0\nthreads = 3";
    let problems = out_of_range::<Evaluation>(
        Some(text),
        &[("HERMESH_SERVICE__THREADS", "0"), ("HERMESH_SERVICE__HEARTBEAT_SECONDS", "0")],
    );
    let origin =
        |key| problems.iter().find(|(_, problem)| problem.key == key).map(|(origin, _)| origin);
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(matches!(origin("drain_seconds"), Some(Origin::File(_))));
    assert!(matches!(origin("service.in_flight"), Some(Origin::File(_))));
    let variable = Origin::Variable("HERMESH_SERVICE__THREADS".into());
    assert_eq!(origin("service.threads"), Some(&variable));
    let error = Error::OutOfRange(problems).to_string();
    let expected = "program.toml: service.in_flight: expected 1 to 4096 shards, got 0";
    assert!(error.contains(expected), "{error}");
}

fn the_one_problem(text: &str) -> Problem {
    let mut problems = out_of_range::<Evaluation>(Some(text), &[]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0).1
}

#[test]
fn what_others_could_reach_has_to_be_allowed() {
    for listen in ["0.0.0.0:9403", "[::]:9403", "10.0.0.1:1"] {
        let text = format!("[http]\nlisten = {listen:?}");
        let problem = the_one_problem(&text);
        assert_eq!((problem.key, problem.got.as_str()), ("http.listen", listen));
        loaded::<Evaluation>(Some(&format!("{text}\nallow_remote = true")), &[]).unwrap();
    }
    for listen in ["127.0.0.1:0", "127.8.0.1:80", "[::1]:9403"] {
        loaded::<Evaluation>(Some(&format!("[http]\nlisten = {listen:?}")), &[]).unwrap();
    }
}

#[test]
fn addresses_have_a_known_scheme_and_no_password() {
    for url in ["http://127.0.0.1:4222", "127.0.0.1:4222", "nats://", "nats://a b", ""] {
        assert_eq!(the_one_problem(&format!("[nats]\nurl = {url:?}")).key, "nats.url", "{url}");
    }
    let problem = the_one_problem("[nats]\nurl = \"nats://me:secret@127.0.0.1:4222\"");
    assert!(!problem.got.contains("secret"), "{problem:?}");
    let problem = the_one_problem("[otlp]\nendpoint = \"https://127.0.0.1:4318\"");
    assert_eq!(problem.key, "otlp.endpoint");
    loaded::<Evaluation>(Some("[nats]\nurl = \"nats://a:1, nats://b:2\""), &[]).unwrap();
}

#[test]
fn answers_go_to_inboxes_only() {
    for inbox in ["_INBOX", "_INBOX.>", "hermesh.job.acme", "", "_INBOX.a b"] {
        let problem = the_one_problem(&format!("[nats]\ninbox = {inbox:?}"));
        assert_eq!((problem.key, &*problem.got), ("nats.inbox", inbox));
    }
    let config =
        loaded::<Evaluation>(Some("[nats]\ninbox = \"_INBOX.service.other\""), &[]).unwrap();
    assert_eq!(config.nats.inbox.as_deref(), Some("_INBOX.service.other"));
}

#[test]
fn only_aggregation_signs() {
    assert_eq!(the_one_problem("identity = \"key\"").key, "identity");
    let config = loaded::<Aggregation>(Some("identity = \"key\""), &[]).unwrap();
    assert_eq!(config.identity, Some("key".into()));
    // The library's own defaults have no identity.
    let none = load(&Config::default(), None, &Environment::new(), Aggregation::RANGES, true);
    let none: Result<Config<<Aggregation as Program>::Options>, _> = none;
    assert!(matches!(none, Err(Error::OutOfRange(problems)) if problems[0].1.key == "identity"));
}
