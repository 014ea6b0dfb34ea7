//! The command line and the program.

use super::*;

fn call(arguments: &[&str]) -> Result<String, Error> {
    let arguments = ["hermesh-issuer"].iter().chain(arguments);
    let cli = Cli::try_parse_from(arguments).expect("parses");
    let mut out = Vec::new();
    run(cli, &mut out)?;
    Ok(String::from_utf8(out).expect("text"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[test]
fn init_makes_a_root_once() {
    let place = TempDir::new().expect("a directory");
    let directory = place.path().join("issuer");
    let init = ["init", "--domain", DOMAIN, "--directory", text(&directory)];
    call(&init).expect("makes a root");
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("root-key.pem")), 0o600);
    let before = fs::read(directory.join("root-key.pem")).expect("reads");
    let again = call(&init);
    assert!(matches!(again, Err(Error::Directory(DirectoryError::Exists(_)))), "{again:?}");
    assert_eq!(fs::read(directory.join("root-key.pem")).expect("reads"), before);
    let bad = call(&["init", "--domain", "Not One", "--directory", text(place.path())]);
    assert!(matches!(bad, Err(Error::Directory(DirectoryError::Domain(_)))), "{bad:?}");
}

#[test]
fn certificates_are_issued_without_a_server() {
    let place = TempDir::new().expect("a directory");
    let (directory, out) = (place.path().join("issuer"), place.path().join("nats"));
    call(&["init", "--domain", DOMAIN, "--directory", text(&directory)]).expect("makes a root");
    let issue = |identity, hours| {
        let common = ["issue", "--directory", text(&directory), "--out", text(&out)];
        let rest = ["--identity", identity, "--host", "nats.local", "--hours", hours];
        call(&[&common[..], &rest].concat())
    };
    issue("broker/nats", "48").expect("issues");
    assert_eq!(mode(&out.join("key.pem")), 0o600);
    let read = |name| fs::read(out.join(name)).expect("reads");
    let own = Credentials::from_pem(&read("certificate.pem"), &read("key.pem")).expect("reads");
    let trust = Trust::from_pem(DOMAIN, &read("roots.pem")).expect("roots");
    let now = SystemClock.now();
    let peer = trust.verify(own.chain(), Purpose::Server, now).expect("valid");
    assert_eq!(peer.id, id("broker/nats"));
    assert!((47..=48).contains(&(now.until(peer.not_after).as_secs() / 3600)));
    let client = trust.verify(own.chain(), Purpose::Client, now);
    assert_eq!(client, Err(CertificateError::Purpose(Purpose::Client)), "brokers sign nothing");
    issue("service/evaluation", "1").expect("replaces");
    let own = Credentials::from_pem(&read("certificate.pem"), &read("key.pem")).expect("reads");
    assert!(trust.verify(own.chain(), Purpose::Client, now).is_ok());
    let bad = issue("evaluation", "1");
    assert!(matches!(bad, Err(Error::Identity(_))), "{bad:?}");
    let authority = Directory::new(&directory).authority().expect("reads");
    let broker = grant(&authority, id("broker/nats"), Vec::new(), now, HOUR).expect("grants");
    assert_eq!(broker.uses, Uses::ServerOnly);
}

#[test]
fn certificates_are_kept_for_workloads_that_do_not_ask() {
    let place = TempDir::new().expect("a directory");
    let (directory, out) = (place.path().join("issuer"), place.path().join("identities"));
    let keep = |domain, last| {
        let common = ["keep", "--directory", text(&directory), "--out", text(&out)];
        let who = ["--identity", "service/evaluation", "--identity", "broker/nats"];
        call(&[&common[..], &who, &["--domain", domain, last]].concat())
    };
    let read = |name: &str| fs::read(out.join("service/evaluation").join(name)).expect("reads");

    // No file exists yet, and --check creates none.
    let none = keep(DOMAIN, "--check");
    assert!(matches!(none, Err(Error::File { .. })), "{none:?}");
    assert!(!directory.exists());
    keep(DOMAIN, "--once").expect("makes the root too");
    keep(DOMAIN, "--check").expect("all are there");
    let (first, root) = (read("certificate.pem"), read("roots.pem"));
    keep(DOMAIN, "--once").expect("again");
    assert_ne!(read("certificate.pem"), first);
    assert_eq!(read("roots.pem"), root);

    let own = Credentials::from_pem(&read("certificate.pem"), &read("key.pem")).expect("reads");
    let trust = Trust::from_pem(DOMAIN, &root).expect("roots");
    let valid = trust.verify(own.chain(), Purpose::Client, SystemClock.now());
    assert_eq!(valid.expect("valid").id, id("service/evaluation"));
    assert_eq!(mode(&out.join("service/evaluation/key.pem")), 0o600);
    let other = keep("other.local", "--once");
    assert!(matches!(other, Err(Error::Directory(DirectoryError::Other { .. }))), "{other:?}");
    // The key of another workload.
    fs::write(out.join("service/evaluation/key.pem"), {
        fs::read(out.join("broker/nats/key.pem")).expect("reads")
    })
    .expect("writes");
    let spoilt = keep(DOMAIN, "--check");
    assert!(matches!(spoilt, Err(Error::NotKept { .. })), "{spoilt:?}");
}

#[test]
fn the_arguments_have_bounds() {
    let parse = |rest: &[&str]| {
        Cli::try_parse_from([&["hermesh-issuer"], rest].concat()).map_err(|error| error.kind())
    };
    for bad in [
        &["init", "--domain", "d", "--directory", "x", "--years", "31"][..],
        &["token", "--directory", "x", "--identity", "a/b", "--minutes", "0"],
        &["issue", "--directory", "x", "--identity", "a/b", "--out", "y", "--hours", "8761"],
        &["serve", "--directory", "x", "--minutes", "4"],
        &["serve", "--directory", "x", "--minutes", "1441"],
    ] {
        assert_eq!(parse(bad).expect_err("out of range"), clap::error::ErrorKind::ValueValidation);
    }
}

/// The program as a process.
struct Program {
    place: TempDir,
}

impl Program {
    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_hermesh-issuer"));
        command.args(arguments).env_remove("HERMESH_LOG").kill_on_drop(true);
        command
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("issuer")
    }

    async fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.command(arguments).output().await.expect("runs")
    }
}

#[tokio::test]
async fn the_program_says_how_it_ended() {
    let program = Program { place: TempDir::new().expect("a directory") };
    let directory = program.directory();
    let missing = program.run(&["serve", "--directory", text(&directory)]).await;
    assert_eq!(missing.status.code(), Some(1));
    let told = String::from_utf8(missing.stderr).expect("text");
    assert!(told.starts_with("error: ") && told.contains("root.pem"), "{told}");
    assert_eq!(program.run(&["serve"]).await.status.code(), Some(2));
    let init = ["init", "--domain", DOMAIN, "--directory", text(&directory)];
    assert_eq!(program.run(&init).await.status.code(), Some(0));
    let token = ["token", "--directory", text(&directory), "--identity", "Not/One"];
    assert_eq!(program.run(&token).await.status.code(), Some(2));
}

#[tokio::test]
async fn the_program_issues_and_logs_no_secret() {
    let program = Program { place: TempDir::new().expect("a directory") };
    let directory = program.directory();
    let init = ["init", "--domain", DOMAIN, "--directory", text(&directory)];
    assert!(program.run(&init).await.status.success());
    let serve = ["serve", "--listen", "127.0.0.1:0", "--log", "json", "--directory"];
    let mut serve = program.command(&[&serve[..], &[text(&directory)]].concat());
    let mut serve = serve.env("HERMESH_LOG", "trace").stderr(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(serve.stderr.take().expect("piped")).lines();
    let mut log = Vec::new();
    let address = loop {
        let line = lines.next_line().await.expect("reads").expect("it says where");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        log.push(line);
        if value["message"] == "issuing" {
            break value["address"].as_str().expect("text").to_owned();
        }
    };
    // Created while the issuer runs.
    let token = ["token", "--directory", text(&directory), "--identity", "tenant/acme"];
    let token = program.run(&token).await;
    let token = String::from_utf8(token.stdout).expect("text").trim_end().to_owned();
    let roots = fs::read(directory.join("roots.pem")).expect("reads");
    let asked = KeyAndRequest::generate(&id("tenant/acme")).expect("a request");
    let client = Client::new(address, Arc::new(SystemClock));
    let ask = || Ask {
        trust: Trust::from_pem(DOMAIN, &roots).expect("roots"),
        credentials: None,
        csr: asked.request.clone(),
        token: Some(token.parse().expect("a token")),
    };
    client.certificate(ask()).await.expect("issues");
    let again = client.certificate(ask()).await.expect_err("it was used");
    assert!(matches!(again, ClientError::Refused { status: 403, .. }), "{again}");
    let process = serve.id().expect("it runs").to_string();
    let kill = tokio::process::Command::new("kill").args(["-TERM", &process]).status().await;
    assert!(kill.expect("runs").success());
    assert_eq!(serve.wait().await.expect("ends").code(), Some(0));
    while let Some(line) = lines.next_line().await.expect("reads") {
        log.push(line);
    }
    let log = log.join("\n");
    assert!(log.contains("issued a certificate") && log.contains("tenant/acme"), "{log}");
    assert!(log.contains("refused a certificate"), "{log}");
    assert!(!log.contains(&token), "the token is in the log");
}
