# docker build -t tiercel . && docker run --rm -p 8000:8000 -v ~/.cache/huggingface:/home/tiercel/.cache/huggingface tiercel \
#   --model Qwen/Qwen3-0.6B --max-model-len 8k
# The arguments are those of `vllm serve`, as for the image vllm/vllm-openai. docs/packaging.md has notes on memory and rights.

FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
      ca-certificates curl g++ make cmake ninja-build python3 libboost-dev libssl-dev libcurl4-openssl-dev \
      nlohmann-json3-dev libfmt-dev libspdlog-dev libexpected-dev libyaml-cpp-dev
RUN curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal
ENV PATH=/root/.cargo/bin:$PATH
WORKDIR /source
COPY . .
RUN make package-build && scripts/image_root.sh build/package/tiercel /image && \
    scripts/licenses.py --texts >/image/LICENSES && scripts/sbom.py build/package/tiercel >/image/sbom.cdx.json

FROM scratch
COPY --from=build /image/ /
COPY --from=build --chown=65532:65532 /image/home/ /home/
USER 65532:65532
ENV HOME=/home/tiercel PATH=/usr/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /home/tiercel
EXPOSE 8000
# Leave --port and map it (-p 80:8000): this asks 8000. A model may take long to be fetched and loaded.
HEALTHCHECK --interval=15s --timeout=10s --start-period=30m CMD ["tiercel", "health"]
ENTRYPOINT ["tiercel", "serve"]
