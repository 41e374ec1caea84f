# Stand-ins for the public images of the NATS and the libSQL server, from the binaries that
# scripts/install-test-tools.sh installed: same paths, users and shell tools, as far as deploy/docker-compose.yml uses them.
ARG BASE_IMAGE=alyx-base:bookworm

FROM ${BASE_IMAGE} AS nats
RUN ln -s /bin/busybox /usr/local/bin/wget
COPY nats-server /usr/local/bin/nats-server

FROM ${BASE_IMAGE} AS libsql
RUN groupadd --gid 666 sqld \
    && useradd --uid 666 --gid sqld --create-home --home-dir /var/lib/sqld sqld
COPY sqld /bin/sqld
WORKDIR /var/lib/sqld
