//! Accepts connections up to a limit, and ends each of them.

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::pin, time::Duration};

use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Body, Limits};

/// The maximum number of headers of a request.
const MAX_HEADERS: usize = 64;
/// The maximum size of a request's head, in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// How long to wait after a failed accept, for example when file descriptors have run out.
const BREATH: Duration = Duration::from_millis(100);

/// Accepts connections, at most a given number at a time, until `stop` holds; then waits for the open ones.
pub(super) async fn accept<F>(
    listener: TcpListener,
    connections: usize,
    mut stop: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = ended(&mut stop) => break,
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept(), if tasks.len() < connections => match accepted {
                Ok((stream, from)) => drop(tasks.spawn(serve(stream, from))),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    sleep(BREATH).await;
                }
            },
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// Serves the requests of one connection until the client closes it, its time is over or `stop` holds.
/// `cut` ends it at once, even in the middle of a request.
pub(super) async fn serve<F>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: impl Fn(Request<Incoming>) -> F,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
    cut: impl Future<Output = ()>,
) where
    F: Future<Output = Response<Body>>,
{
    let service = service_fn(|request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(2 * MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let (mut connection, mut cut) = (pin!(connection), pin!(cut));
    tokio::select! {
        biased;
        () = &mut cut => return,
        // Ignored: errors of a client's connection concern that client only.
        _ = &mut connection => return,
        () = ended(&mut stop) => {}
        () = sleep(limits.life) => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        () = &mut cut => {}
        _ = timeout(limits.drain, connection) => {}
    }
}

async fn ended(stop: &mut watch::Receiver<bool>) {
    // A closed channel counts as a stop: its sender is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}
