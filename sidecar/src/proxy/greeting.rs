//! Rewrites INFO and CONNECT before the other side sees them.

use serde_json::{Map, Value, json};

/// Fields of INFO that are removed: the client talks to this sidecar only.
const OURS: [&str; 12] = [
    "auth_required",
    "client_ip",
    "cluster",
    "connect_urls",
    "host",
    "nonce",
    "port",
    "tls_available",
    "tls_required",
    "tls_verify",
    "ws_connect_urls",
    "xkey",
];

/// Fields of CONNECT that are forwarded. The client's user, password and tokens are not.
const THEIRS: [&str; 6] = ["echo", "lang", "name", "no_responders", "protocol", "version"];

/// The INFO for the client, and the maximum message size that the server accepts.
pub(super) fn info(info: &[u8], largest: usize, room: usize) -> Option<(Vec<u8>, usize)> {
    let Ok(Value::Object(mut info)) = serde_json::from_slice(info) else {
        return None;
    };
    let headers = info.get("headers").and_then(Value::as_bool).unwrap_or_default();
    let server = info.get("max_payload").and_then(Value::as_u64)?;
    let server = usize::try_from(server).ok()?;
    let max_payload = server.min(largest + room).checked_sub(room)?;
    if !headers {
        return None;
    }
    info.retain(|key, _| !OURS.contains(&key.as_str()));
    info.insert("max_payload".into(), json!(max_payload));
    info.insert("host".into(), json!("127.0.0.1"));
    info.insert("port".into(), json!(0));
    Some((Value::Object(info).to_string().into_bytes(), max_payload))
}

/// The client's CONNECT.
pub(super) struct Connect {
    /// The CONNECT for the server.
    pub(super) json: Vec<u8>,
    /// Whether the client asked for `+OK`.
    pub(super) verbose: bool,
}

/// Reads a client's CONNECT.
pub(super) fn connect(connect: &[u8]) -> Option<Connect> {
    let Ok(Value::Object(client)) = serde_json::from_slice(connect) else {
        return None;
    };
    let verbose = client.get("verbose").and_then(Value::as_bool).unwrap_or_default();
    let mut ours = Map::new();
    for key in THEIRS {
        if let Some(value) = client.get(key) {
            ours.insert(key.into(), value.clone());
        }
    }
    for (key, value) in
        [("verbose", false), ("pedantic", false), ("tls_required", true), ("headers", true)]
    {
        ours.insert(key.into(), json!(value));
    }
    Some(Connect { json: Value::Object(ours).to_string().into_bytes(), verbose })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_hears_of_nobody_else() {
        let server = json!({
            "server_id": "x", "version": "2.9.10", "headers": true, "max_payload": 1_048_576,
            "tls_required": true, "auth_required": true, "nonce": "abc", "jetstream": true,
            "connect_urls": ["10.0.0.1:4222"], "host": "10.0.0.1", "port": 4222,
        });
        let (shown, max_payload) =
            info(server.to_string().as_bytes(), 8 << 20, 4096).expect("is one");
        assert_eq!(max_payload, 1_048_576 - 4096);
        let shown: Value = serde_json::from_slice(&shown).expect("JSON");
        let expected = json!({
            "server_id": "x", "version": "2.9.10", "headers": true, "jetstream": true,
            "max_payload": max_payload, "host": "127.0.0.1", "port": 0,
        });
        assert_eq!(shown, expected);
        let (_, max_payload) = info(server.to_string().as_bytes(), 1000, 4096).expect("is one");
        assert_eq!(max_payload, 1000);
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"headers":false,"max_payload":1000000}"#,
            r#"{"headers":true,"max_payload":1}"#,
        ] {
            assert!(info(bad.as_bytes(), 1000, 4096).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_server_hears_no_password() {
        let client = json!({
            "verbose": true, "name": "x", "user": "me", "pass": "secret", "auth_token": "t",
            "jwt": "j", "sig": "s", "nkey": "n", "no_responders": true, "tls_required": false,
        });
        let connect = connect(client.to_string().as_bytes()).expect("is one");
        assert!(connect.verbose);
        let sent: Value = serde_json::from_slice(&connect.json).expect("JSON");
        let expected = json!({
            "verbose": false, "pedantic": false, "tls_required": true, "headers": true, "name": "x",
            "no_responders": true,
        });
        assert_eq!(sent, expected);
    }
}
