//! Configuration: the documented defaults are the real ones, and insecure values are refused.

#![allow(clippy::unwrap_used)]

use std::fs;

use hermesh_sidecar::config::{Config, DOCUMENTED, Environment, Error, Handshake, Kind, load};
use tempfile::TempDir;
use toml::{Table, Value};

fn loaded(text: &str, variables: &[(&str, &str)]) -> Result<Config, Error> {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("sidecar.toml");
    fs::write(&file, text).unwrap();
    let environment: Environment =
        variables.iter().map(|&(name, value)| (name.into(), value.into())).collect();
    load(Some(&file), &environment)
}

/// The keys that are out of range, and the error's text.
fn refused(text: &str) -> (Vec<&'static str>, String) {
    match loaded(text, &[]) {
        Err(error @ Error::OutOfRange(_)) => {
            let told = error.to_string();
            let Error::OutOfRange(problems) = error else { unreachable!() };
            (problems.iter().map(|(_, problem)| problem.key).collect(), told)
        }
        Err(error) => panic!("{text}: {error}"),
        Ok(_) => panic!("{text} was accepted"),
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

#[test]
fn the_documented_file_is_the_default() {
    let defaults = Table::try_from(Config::default()).unwrap();
    assert_eq!(DOCUMENTED.parse::<Table>().unwrap(), defaults);

    // With the options that have no default.
    let optional =
        |line: &str| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).map(str::to_owned);
    let all: Vec<String> =
        DOCUMENTED.lines().map(|line| optional(line).unwrap_or(line.into())).collect();
    let all = all.join("\n");
    let config = loaded(&all, &[]).unwrap();
    let (mut documented, mut existing) = (vec![], vec![]);
    keys(&all.parse().unwrap(), "", &mut documented);
    keys(&Table::try_from(&config).unwrap(), "", &mut existing);
    documented.sort();
    existing.sort();
    assert_eq!(documented, existing);
    for key in [
        "identity.workload",
        "identity.address",
        "identity.token",
        "identity.socket",
        "listen.socket",
    ] {
        assert!(documented.contains(&key.to_owned()), "{key}");
    }
}

#[test]
fn no_number_is_without_a_range() {
    let mut existing = vec![];
    let defaults = Table::try_from(Config::default()).unwrap();
    keys(&defaults, "", &mut existing);
    let mut numbers = 0;
    for key in existing {
        let (section, name) = key.split_once('.').unwrap_or(("", &key));
        let value = if section.is_empty() { &defaults[name] } else { &defaults[section][name] };
        if !value.is_integer() && !value.is_float() {
            continue;
        }
        numbers += 1;
        let value = if value.is_float() { "1e12" } else { "1000000000000" };
        let text = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
        assert_eq!(refused(&format!("{text}{name} = {value}")).0, [key.as_str()]);
    }
    assert_eq!(numbers, 4);
}

#[test]
fn an_address_without_authentication_is_a_loopback_one() {
    for option in ["listen.address", "http.service", "health.listen"] {
        let (section, key) = option.split_once('.').unwrap();
        for address in ["0.0.0.0:4222", "[::]:4222", "10.0.0.1:4222", "[::ffff:10.0.0.1]:4222"] {
            let (keys, _) = refused(&format!("[{section}]\n{key} = {address:?}"));
            assert_eq!(keys, [option], "{address}");
        }
        for address in ["127.0.0.1:0", "127.8.0.1:80", "[::1]:9403"] {
            loaded(&format!("[{section}]\n{key} = {address:?}"), &[]).unwrap();
        }
    }
    // This port authenticates callers by their certificates.
    let config = loaded("[http]\nlisten = \"0.0.0.0:9500\"", &[]).unwrap();
    assert_eq!(config.http.listen, Some("0.0.0.0:9500".parse().unwrap()));
}

#[test]
fn the_broker_is_reached_by_tls_and_has_a_name() {
    for servers in [
        "",
        "nats://nats:4222",
        "nats:4222",
        "tls://nats",
        "tls://nats:0",
        "tls://nats:65536",
        "tls://:4222",
        "tls://nats:4222/path",
        "tls://nats:4222,",
        "tls://nats:4222, nats://other:4222",
        "tls://me:hunter2@nats:4222",
    ] {
        let (keys, told) = refused(&format!("[upstream]\nservers = {servers:?}"));
        assert_eq!(keys, ["upstream.servers"], "{servers}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    for identity in ["", "nats", "broker/nats/1", "broker/*", "spiffe://d/broker/nats"] {
        let (keys, _) = refused(&format!("[upstream]\nidentity = {identity:?}"));
        assert_eq!(keys, ["upstream.identity"], "{identity}");
    }
    let variables = [
        ("HERMESH_SIDECAR_UPSTREAM__SERVERS", "tls://nats-0.nats:4222, tls://[::1]:4223"),
        ("HERMESH_SIDECAR_UPSTREAM__HANDSHAKE", "first"),
        // An option of the service.
        ("HERMESH_NATS__URL", "nats://127.0.0.1:4222"),
        ("HERMESH_LOG", "debug"),
    ];
    let upstream = loaded("", &variables).unwrap().upstream;
    assert_eq!(upstream.addresses().collect::<Vec<_>>(), ["nats-0.nats:4222", "[::1]:4223"]);
    assert_eq!(upstream.handshake, Handshake::First);
}

#[test]
fn who_asks_an_issuer_says_which() {
    let missing = refused("[identity]\nkind = \"issuer\"").0;
    assert_eq!(missing, ["identity.workload", "identity.address"]);
    let issuer = "[identity]\nkind = \"issuer\"\nworkload = \"service/evaluation\"\n";
    for address in ["http://issuer:9443", "issuer:9443", "https://issuer", "https://a@issuer:1"] {
        let text = format!("{issuer}address = {address:?}");
        assert_eq!(refused(&text).0, ["identity.address"], "{address}");
    }
    let text = format!("{issuer}address = \"https://issuer:9443\"");
    assert_eq!(loaded(&text, &[]).unwrap().identity.kind, Kind::Issuer);
    let text = "[identity]\nkind = \"workload-api\"\nsocket = \"/run/agent.sock\"";
    assert_eq!(refused(text).0, ["identity.socket"]);
}

#[test]
fn what_is_no_option_is_an_error() {
    for text in
        ["[http]\nallow_remote = true", "[upstream]\ninsecure = true", "secret = \"hunter2\""]
    {
        let error = loaded(text, &[]).unwrap_err().to_string();
        assert!(error.contains("unknown field") && !error.contains("hunter2"), "{error}");
    }
    let error = loaded("", &[("HERMESH_SIDECAR_LISTEN", "127.0.0.1:4222")]).unwrap_err();
    assert!(matches!(error, Error::Variable { .. }), "{error}");
}
