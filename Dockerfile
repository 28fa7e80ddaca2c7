# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS builder
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
# The caches outlive a build: a change of ours compiles our crate only. A cache mount is no layer, so the binary is
# copied out of it in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin affluent \
    && cp target/release/affluent /usr/local/bin/affluent \
    && strip /usr/local/bin/affluent

FROM debian:bookworm-slim
# librdkafka is linked into the binary, OpenSSL is not; the certificates are for brokers and object stores with TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/*
# A fixed id, so that a volume's owner is known to whoever mounts it.
RUN useradd --system --uid 10001 --home-dir /var/lib/affluent --create-home affluent \
    && mkdir /var/lib/affluent/lake \
    && chown affluent: /var/lib/affluent/lake
COPY --from=builder /usr/local/bin/affluent /usr/local/bin/affluent
USER 10001
# A configuration is found here as affluent.toml, and the default lake is ./lake.
WORKDIR /var/lib/affluent
VOLUME /var/lib/affluent/lake
EXPOSE 8080
ENTRYPOINT ["affluent"]
CMD ["run"]
