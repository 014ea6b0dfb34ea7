//! Logs to standard error, and traces to a collector.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use hermesh_mesh::wire::TraceParent;
use opentelemetry::{propagation::TextMapPropagator as _, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Span, Subscriber, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::Targets, layer::SubscriberExt as _, registry,
};

use crate::config::{Format, Log, Otlp};

/// Sets the log filter, overriding the configured level.
pub const VARIABLE: &str = "HERMESH_LOG";
/// How long the collector may take to accept a batch; a batch that it does not accept is dropped.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of the collector's response, which is short.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// Why logs or traces cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The filter is invalid.
    #[error(
        "{VARIABLE}={text:?}: {source}; expected a filter such as info or hermesh_mesh=debug,info"
    )]
    Filter {
        /// The given filter.
        text: String,
        /// The reason.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The exporter could not be made.
    #[error("the exporter of traces could not be made: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// Flushes the traces at the end.
#[derive(Debug)]
#[must_use]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Sends the traces that have not been sent. Blocks for a short time.
    pub fn flush(self) {
        if let Some(Err(error)) = self.0.map(|traces| traces.shutdown_with_timeout(EXPORT_TIMEOUT))
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// The subscriber that logs and traces for the program `command`. `filter` overrides the configured level.
///
/// # Errors
/// The filter, or the collector's address, is invalid.
pub fn subscriber(
    command: &'static str,
    log: &Log,
    otlp: &Otlp,
    filter: Option<&str>,
) -> Result<(impl Subscriber + Send + Sync + use<>, Traces), Error> {
    let filter = match filter {
        Some(text) => EnvFilter::try_new(text)
            .map_err(|source| Error::Filter { text: text.to_owned(), source })?,
        None => EnvFilter::default()
            .add_directive(LevelFilter::from_level(log.level.into()).into())
            // Hide the start-up messages of these libraries.
            .add_directive(quiet("actix_server", log))
            .add_directive(quiet("opentelemetry", log)),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match log.format {
        Format::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let traces =
        otlp.endpoint.as_deref().map(|endpoint| exporter(command, endpoint)).transpose()?;
    let spans = traces.as_ref().map(|traces| {
        // Only our own spans: an exporter that traced itself would never end.
        let ours = Targets::new().with_target("hermesh", LevelFilter::INFO);
        tracing_opentelemetry::layer().with_tracer(traces.tracer("hermesh")).with_filter(ours)
    });
    let subscriber = registry().with(lines.with_filter(filter)).with(spans);
    Ok((subscriber, Traces(traces)))
}

/// Makes a span a child of the remote span that a message names; see
/// [`hermesh_mesh::telemetry::set_span_linker`].
pub fn link(span: &Span, trace: &TraceParent) {
    let carrier = HashMap::from([("traceparent".to_owned(), trace.to_string())]);
    let parent = TraceContextPropagator::new().extract(&carrier);
    // Ignored: without a collector, spans have no remote parents.
    let _ = span.set_parent(parent);
}

fn quiet(target: &str, log: &Log) -> tracing_subscriber::filter::Directive {
    let level = tracing::Level::from(log.level).min(tracing::Level::WARN);
    // Both parts are well-formed; otherwise the general level would apply.
    format!("{target}={level}").parse().unwrap_or_else(|_| LevelFilter::WARN.into())
}

fn exporter(command: &'static str, endpoint: &str) -> Result<SdkTracerProvider, Error> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector::new())
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    let resource = Resource::builder().with_service_name(command).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// The HTTP client for the collector. It may block, because the exporter has its own thread.
#[derive(Debug)]
struct Collector(ureq::Agent);

impl Collector {
    fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(EXPORT_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build();
        Self(config.into())
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let response = self.0.run(Request::from_parts(head, body.as_ref()))?;
        let (head, mut body) = response.into_parts();
        let body = body.with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }
}
