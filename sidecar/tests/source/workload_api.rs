//! A minimal Workload API: gRPC over HTTP/2 on a Unix socket, as much as SPIFFE's client needs.

use std::{convert::Infallible, path::PathBuf, pin::Pin, sync::Arc, task, time::Duration};

use bytes::Bytes;
use futures_util::Stream;
use hermesh_mesh::{
    Clock, SystemClock,
    issuer::{Authority, grant},
};
use hermesh_sidecar::source::{Handle, Source, WorkloadApi};
use hyper::{
    HeaderMap, Request, Response,
    body::{Body, Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tempfile::TempDir;
use tokio::{net::UnixListener, sync::watch, task::JoinSet, time::timeout};

use super::common::{DOMAIN, HOUR, failure, id, next, same};

/// `X509SVIDResponse` and `X509SVID` of SPIFFE's `workload.proto`.
#[derive(Clone, PartialEq, prost::Message)]
struct Svids {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<Svid>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    chain: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
}

/// What the stream sends, or the status with which calls end.
#[derive(Clone)]
enum Push {
    Svids(Svids),
    Refuse(u32),
}

struct Pushes {
    changes: Pin<Box<dyn Stream<Item = Push> + Send>>,
    ended: bool,
}

impl Body for Pushes {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return task::Poll::Ready(None);
        }
        self.changes.as_mut().poll_next(context).map(|push| match push? {
            Push::Svids(svids) => {
                let message = svids.encode_to_vec();
                let mut frame = vec![0];
                frame.extend(u32::try_from(message.len()).expect("fits").to_be_bytes());
                frame.extend(message);
                Some(Ok(Frame::data(frame.into())))
            }
            Push::Refuse(status) => {
                self.ended = true;
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.into());
                Some(Ok(Frame::trailers(trailers)))
            }
        })
    }
}

/// A SPIRE agent for these tests.
struct Agent {
    place: TempDir,
    push: watch::Sender<Push>,
    _task: JoinSet<()>,
}

impl Agent {
    fn start(first: Push) -> Self {
        let place = TempDir::new().expect("a directory");
        let listener = UnixListener::bind(place.path().join("agent.sock")).expect("listens");
        let push = watch::Sender::new(first);
        let mut task = JoinSet::new();
        let pushes = push.clone();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let pushes = pushes.clone();
                let service = service_fn(move |request| {
                    let response = answer(&request, &pushes);
                    async move { Ok::<_, Infallible>(response) }
                });
                let serving = http2::Builder::new(TokioExecutor::new());
                connections.spawn(serving.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { place, push, _task: task }
    }

    fn socket(&self) -> PathBuf {
        self.place.path().join("agent.sock")
    }

    fn source(&self) -> Source {
        Source::WorkloadApi(WorkloadApi { socket: format!("unix:{}", self.socket().display()) })
    }

    async fn run(&self) -> Handle {
        let start = self.source().start(Arc::new(SystemClock));
        timeout(Duration::from_secs(20), start).await.expect("starts")
    }
}

fn answer(request: &Request<Incoming>, pushes: &watch::Sender<Push>) -> Response<Pushes> {
    assert_eq!(request.uri().path(), "/SpiffeWorkloadAPI/FetchX509SVID");
    assert_eq!(request.headers()["workload.spiffe.io"], "true");
    let mut receiver = pushes.subscribe();
    receiver.mark_changed();
    let changes = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.changed().await.ok()?;
        let push = receiver.borrow_and_update().clone();
        Some((push, receiver))
    });
    let mut response = Response::new(Pushes { changes: Box::pin(changes), ended: false });
    response.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
    response
}

fn authority() -> Authority {
    let now = SystemClock.now();
    Authority::create(DOMAIN, now, now.plus(48 * HOUR)).expect("creates")
}

fn svid(root: &Authority, workload: &str, lifetime: Duration) -> Push {
    let grant = grant(root, id(workload), Vec::new(), SystemClock.now(), lifetime);
    let (key, chain) = root.key_and_chain(&grant.expect("grants")).expect("issues");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let bundle = CertificateDer::from_pem_slice(root.certificate().as_bytes()).expect("a root");
    Push::Svids(Svids {
        svids: vec![Svid {
            spiffe_id: id(workload).to_string(),
            chain: chain.certificates()[0].to_vec(),
            key: key.secret_der().to_vec(),
            bundle: bundle.to_vec(),
        }],
    })
}

#[tokio::test]
async fn what_the_workload_api_pushes_is_taken() {
    let root = authority();
    let agent = Agent::start(svid(&root, "service/evaluation", HOUR));
    let handle = agent.run().await;
    let first = handle.current();
    assert_eq!(*first.id(), id("service/evaluation"));
    agent.push.send_replace(svid(&root, "service/evaluation", 2 * HOUR));
    let second = next(&handle, &first).await;
    assert!(second.expires() > first.expires());
    assert_eq!(handle.health().taken, 2);
}

#[tokio::test]
async fn what_does_not_count_is_not_taken() {
    let root = authority();
    let agent = Agent::start(svid(&root, "service/evaluation", HOUR));
    let handle = agent.run().await;
    let first = handle.current();
    agent.push.send_replace(svid(&root, "service/aggregation", HOUR));
    let error = failure(&handle).await;
    assert!(error.contains("expected spiffe://hermesh.local/service/evaluation"), "{error}");
    let mut forged = svid(&root, "service/evaluation", 2 * HOUR);
    if let (Push::Svids(forged), Push::Svids(other)) =
        (&mut forged, svid(&authority(), "service/evaluation", HOUR))
    {
        forged.svids[0].bundle.clone_from(&other.svids[0].bundle);
    }
    agent.push.send_replace(forged);
    let error = failure(&handle).await;
    assert!(error.contains("no root of the trust bundle"), "{error}");
    assert!(same(&handle.current(), &first));
}

#[tokio::test]
async fn a_workload_api_that_refuses_or_goes_away_is_asked_again() {
    const PERMISSION_DENIED: u32 = 7;
    let root = authority();
    let agent = Agent::start(Push::Refuse(PERMISSION_DENIED));
    let start = agent.source().start(Arc::new(SystemClock));
    let mut start = std::pin::pin!(start);
    timeout(Duration::from_millis(300), &mut start).await.expect_err("it refuses");
    agent.push.send_replace(svid(&root, "service/evaluation", HOUR));
    let handle = timeout(Duration::from_secs(20), start).await.expect("starts");
    let first = handle.current();
    agent.push.send_replace(Push::Refuse(PERMISSION_DENIED));
    let error = failure(&handle).await;
    assert!(error.contains("agent.sock"), "{error}");
    assert!(same(&handle.current(), &first));
    agent.push.send_replace(svid(&root, "service/evaluation", 2 * HOUR));
    assert!(next(&handle, &first).await.expires() > first.expires());
}
