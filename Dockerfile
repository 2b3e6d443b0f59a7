# syntax=docker/dockerfile:1
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p conclave && cp target/release/conclave /conclave

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="conclave" \
      org.opencontainers.image.source="https://github.com/conclave-chat/conclave" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /conclave /usr/local/bin/conclave
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/conclave
# The data's place is what the program itself derives from this: /var/lib/conclave.
ENV XDG_DATA_HOME=/var/lib CONCLAVE_BIND=0.0.0.0:4390
USER 10001:10001
VOLUME /var/lib/conclave
EXPOSE 4390
STOPSIGNAL SIGTERM
# bash opens the port by itself; with TLS in the server, that it opens has to do.
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/4390 || exit 1; [ -z \"$CONCLAVE_TLS_CERT\" ] || exit 0; printf 'GET /health HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3; grep -q '200 OK' <&3"]
ENTRYPOINT ["conclave"]
CMD ["serve"]
