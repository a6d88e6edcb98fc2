# Two stages: build with the pinned toolchain, run on a slim base with the two binaries.
ARG BUILD_BASE=rust:1.95.0-bookworm
ARG RUN_BASE=debian:bookworm-slim

FROM ${BUILD_BASE} AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked -p quorate-server -p quorate-cli

FROM ${RUN_BASE}
RUN useradd --system --home-dir /var/lib/quorate quorate \
 && install -d -o quorate -g quorate /var/lib/quorate
COPY --from=build /source/target/release/quorated /source/target/release/quorate /usr/local/bin/
USER quorate
VOLUME /var/lib/quorate
EXPOSE 7400 7401 7480
ENTRYPOINT ["quorated"]
CMD ["serve"]
