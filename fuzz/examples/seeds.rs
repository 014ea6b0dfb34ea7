//! Writes the fixed root, the certificates and messages under it, and the seeds: `cargo run --release --example seeds`,
//! in this directory. The root's key is not kept, so each run creates new ones.

use std::{fs, path::Path};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use hermesh_fuzz::{DOMAIN, Message};
use hermesh_mesh::{
    UnixMillis,
    identity::SpiffeId,
    issuer::{Authority, Grant, Uses},
    policy::Policy,
    seal::{HeaderBlock, SEAL, seal},
};

const YEAR: u64 = 365 * 24 * 3_600_000;
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn main() {
    let until = UnixMillis(NOW.0 + 50 * YEAR);
    let from = UnixMillis(NOW.0 - YEAR);
    let authority = Authority::create(DOMAIN, from, until).expect("creates");
    let id = SpiffeId::new(DOMAIN, "service/evaluation").expect("a name");
    let grant = Grant { id, hosts: vec!["localhost".into()], uses: Uses::Workload, from, until };
    let credentials = authority.credentials(&grant).expect("issues");
    let der = credentials.chain().certificates()[0].to_vec();
    let leaf = pem(&der);
    write("fixed/root.pem", authority.certificate());
    write("fixed/leaf.pem", &leaf);
    write("seeds/certificate/leaf.pem", &leaf);
    write("seeds/certificate/leaf.der", &der);
    write("seeds/certificate/chain.pem", format!("{leaf}{}", authority.certificate()));

    let messages: [&[u8]; 3] = [
        b"hermesh.partial.acme.1\0\0NATS/1.0\r\nce-id: x\r\nHermesh-Job: 07\r\n\r\n\0body",
        b"hermesh.keys.facts\0_INBOX.service.evaluation.7\0NATS/1.0\r\n\r\n\0",
        b"hermesh.status.acme.1\0\0NATS/1.0\r\nNats-Msg-Id: 1\r\na:\r\n\r\n\0\0",
    ];
    let messages = messages.map(|message| Message::split(message).expect("a message"));
    for (name, together) in [("alone", &messages[..1]), ("with-others", &messages[1..])] {
        let blocks = together.iter().map(|message| HeaderBlock::parse(message.headers));
        let blocks: Vec<_> = blocks.collect::<Result<_, _>>().expect("headers");
        let contents = together.iter().zip(&blocks).map(|(message, block)| message.content(block));
        let values = seal(&credentials, &contents.collect::<Vec<_>>(), NOW).expect("seals");
        let line = format!("{SEAL}: {}\r\n\r\n", values[0]);
        let lines = together[0].headers.strip_suffix(b"\r\n").expect("an end");
        let headers = [lines, line.as_bytes()].concat();
        let sealed = together[0].with_headers(&headers).join();
        write(&format!("fixed/sealed-{name}"), &sealed);
        write(&format!("seeds/seal/sealed-{name}"), &sealed);
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&values[0]).expect("base64");
        write(&format!("seeds/seal/seal-{name}"), bytes);
    }
    write("seeds/seal/unsealed", messages[0].join());

    let policy = Policy::default_text().replace("tenants = []", "tenants = [\"acme\"]");
    for (name, what) in [
        ("publish", "hermesh.job.acme"),
        ("read", "hermesh.answer.acme.07"),
        ("api", "$JS.API.STREAM.MSG.GET.hermesh-answers"),
        ("inbox", "_INBOX.tenant.acme.1"),
    ] {
        write(&format!("seeds/policy/{name}"), format!("{policy}\0{what}"));
    }

    for (name, id) in [
        ("service", "spiffe://hermesh.local/service/key-management"),
        ("tenant", "spiffe://a_b.example/tenant/acme-1"),
        ("long", "spiffe://hermesh.local/service/evaluation/1"),
        ("url", "spiffe://me@Hermesh.local:1/service/evaluation?x#y"),
    ] {
        write(&format!("seeds/spiffe_id/{name}"), id);
    }
    // The first byte determines how the rest is split.
    for (name, bytes) in [
        (
            "client",
            "aCONNECT {\"headers\":true}\r\nPING\r\nPUB a.b 3\r\nabc\r\nSUB a.*.> q 1\r\n\
             HPUB a c 18 21\r\nNATS/1.0\r\na: b\r\n\r\nabc\r\nUNSUB 1 2\r\nPONG\r\n",
        ),
        (
            "server",
            "bINFO {} \r\nPING\r\nMSG a.b 1 3\r\nabc\r\n+OK\r\n-ERR 'Stale'\r\nPONG\r\n\
             HMSG a 1 c 22 22\r\nNATS/1.0 503\r\na: b\r\n\r\n\r\n",
        ),
        ("lax", "cpub\ta  007 \r\nPING\r\n\0\r\nPUB a\rb 12\nx\r\nPING\n"),
        ("hostile", "dMSG a\r 1 b 1\r\nx\r\nMSG a.* 1 c 1\r\nx\r\nHMSG a 1 3 4\r\nabcx\r\n"),
    ] {
        write(&format!("seeds/nats_protocol/{name}"), bytes);
    }
}

fn write(path: &str, bytes: impl AsRef<[u8]>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("creates");
    fs::write(path, bytes).expect("writes");
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    let lines: String = lines.collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}
