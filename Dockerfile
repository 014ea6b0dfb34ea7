# The programs of the mesh, an image each:
#
#   docker build --target evaluation --tag hermesh/evaluation .
#
# Targets: key-management, preprocessing, evaluation, aggregation, sidecar, issuer, broker, client. Each holds
# one program, hermesh-probe for health checks, and the C library; no shell, no package manager. They are built
# for the generic instructions of x86-64 or aarch64, whichever the builder is; the cryptography looks for faster
# ones (AVX2, AVX-512, NEON) when it starts.
#
# With a registry out of reach, scripts/base-images makes stand-ins for the base images.

ARG RUST=rust:1.95-slim-trixie
ARG NATS=nats:2.15-alpine

# ---- everything is compiled here

FROM ${RUST} AS build
WORKDIR /source
COPY . .
ENV CARGO_PROFILE_RELEASE_STRIP=symbols
RUN cargo build --release --locked --package hermesh-programs --package hermesh-sidecar --bins \
    && mkdir /programs \
    && find target/release -maxdepth 1 -type f -executable -name 'hermesh-*' -exec cp {} /programs/ \; \
    && rm -rf target

# What the programs load: the C library and its loader, under the paths at which they look for it. They all load
# the same.
RUN mkdir /libraries \
    && ldd /programs/hermesh-evaluation | grep -o '/[^ ]*' | xargs cp --parents --dereference -t /libraries

# Directories that volumes are mounted on: a new volume takes its owner from there.
RUN mkdir -p /owned/identity /owned/trust /owned/data /owned/receipts /owned/tmp \
        /owned/identities/service/key-management /owned/identities/service/preprocessing \
        /owned/identities/service/evaluation /owned/identities/service/aggregation \
        /owned/identities/broker/nats /owned/identities/monitor/prometheus /owned/identities/tenant/acme

# ---- what all images have in common

FROM scratch AS base
COPY --from=build /libraries/ /
COPY --from=build --chown=65532:65532 /owned/ /
COPY --from=build /programs/hermesh-probe /usr/bin/
USER 65532:65532
WORKDIR /tmp

FROM base AS key-management
COPY --from=build /programs/hermesh-key-management /usr/bin/
ENTRYPOINT ["/usr/bin/hermesh-key-management"]

FROM base AS preprocessing
COPY --from=build /programs/hermesh-preprocessing /usr/bin/
ENTRYPOINT ["/usr/bin/hermesh-preprocessing"]

FROM base AS evaluation
COPY --from=build /programs/hermesh-evaluation /usr/bin/
ENTRYPOINT ["/usr/bin/hermesh-evaluation"]

FROM base AS aggregation
COPY --from=build /programs/hermesh-aggregation /usr/bin/
ENTRYPOINT ["/usr/bin/hermesh-aggregation"]

FROM base AS sidecar
COPY --from=build /programs/hermesh-sidecar /usr/bin/
ENTRYPOINT ["/usr/bin/hermesh-sidecar"]

FROM base AS issuer
COPY --from=build /programs/hermesh-issuer /usr/bin/
ENTRYPOINT ["/usr/bin/hermesh-issuer"]

# ---- nats-server as it is published, without the rest of its image and not as root

FROM ${NATS} AS nats

FROM base AS broker
COPY --from=nats /usr/local/bin/nats-server /usr/bin/
ENTRYPOINT ["/usr/bin/nats-server"]

# ---- the command line; last, for nothing else needs it

FROM build AS build-client
RUN cargo build --release --locked --package hermesh-client --bin hermesh \
    && cp target/release/hermesh /programs/ && rm -rf target

FROM base AS client
COPY --from=build-client /programs/hermesh /usr/bin/
ENTRYPOINT ["/usr/bin/hermesh"]
