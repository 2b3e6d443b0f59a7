//! Traces and logs for a collector of the OpenTelemetry protocol (OTLP over HTTP, protobuf), where
//! `CONCLAVE_OTLP_ENDPOINT` names one. Where it does not, no span is ever made.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{LogExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

/// The target of spans: they are for collectors only.
pub(super) const SPANS: &str = "conclave::trace";
/// How long a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is exported.
#[derive(Default)]
pub(super) struct Telemetry {
    providers: Option<(SdkTracerProvider, SdkLoggerProvider)>,
}

impl Telemetry {
    /// Exports to the collector at `endpoint`, as in `http://127.0.0.1:4318`.
    ///
    /// # Errors
    /// What is wrong with the endpoint.
    pub(super) fn to(endpoint: &str) -> Result<Self, String> {
        let base = endpoint.trim_end_matches('/');
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(format!("CONCLAVE_OTLP_ENDPOINT={endpoint}: write it as http://HOST:4318"));
        }
        let failed = |why: &dyn std::fmt::Display| format!("CONCLAVE_OTLP_ENDPOINT={endpoint}: {why}");
        let client = Client(
            ureq::Agent::config_builder()
                .timeout_global(Some(PATIENCE))
                .http_status_as_error(false)
                .build()
                .into(),
        );
        let resource = Resource::builder()
            .with_service_name("conclave")
            .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let spans = SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{base}/v1/traces"))
            .build()
            .map_err(|why| failed(&why))?;
        let logs = LogExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{base}/v1/logs"))
            .build()
            .map_err(|why| failed(&why))?;
        let tracer =
            SdkTracerProvider::builder().with_resource(resource.clone()).with_batch_exporter(spans).build();
        let logger = SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(logs).build();
        Ok(Self { providers: Some((tracer, logger)) })
    }

    /// The layers that feed the exporters: spans, and the log's events as `logged` lets them through.
    pub(super) fn layer<S>(&self, logged: Targets) -> Option<Box<dyn Layer<S> + Send + Sync>>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let (tracer, logger) = self.providers.as_ref()?;
        let spans = tracing_opentelemetry::layer()
            .with_tracer(tracer.tracer("conclave"))
            .with_filter(Targets::new().with_target(SPANS, LevelFilter::TRACE));
        let logs = OpenTelemetryTracingBridge::new(logger).with_filter(logged);
        Some(spans.and_then(logs).boxed())
    }

    /// Exports what is left, and ends.
    pub(super) fn end(&mut self) {
        if let Some((tracer, logger)) = self.providers.take() {
            // A collector that is gone must not keep the server from ending.
            let _ = tracer.shutdown_with_timeout(Duration::from_secs(2));
            let _ = logger.shutdown_with_timeout(Duration::from_secs(2));
        }
    }
}

/// A blocking HTTP client: the exporters call it on threads of their own.
#[derive(Clone)]
struct Client(ureq::Agent);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let answer = self.0.run(Request::from_parts(parts, body.to_vec()))?;
        let (parts, mut body) = answer.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}
