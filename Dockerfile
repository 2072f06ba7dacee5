# Images of callbus: targets edge, asr, llm, tts, and cli (the command line: keys, provision, models).
#   docker build --target asr --build-arg ENGINES=vosk -t callbus/asr .
# They share every layer up to the engines. What changes seldom stands first; the code is the last layer.
# Nothing here needs a Dockerfile frontend from a registry, nor an engine newer than Docker 20.10 with BuildKit.

# Engines beside the embedded ones, names as in docs/engines.md, separated by blanks.
ARG ENGINES=""
# The engine of the target llm. llama_cpp is compiled, once, which takes minutes.
ARG LLM_ENGINE=scripted
# What llama.cpp computes on: cpu, or cuda.
ARG ACCELERATOR=cpu

# --- base: Python, a user without rights, the folders that volumes are mounted on ----------------------------------
FROM python:3.11-slim-bookworm AS base
RUN groupadd --gid 10001 callbus \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/callbus --shell /usr/sbin/nologin callbus \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/callbus /var/lib/callbus/models /var/lib/callbus/data \
    /var/lib/callbus/nats /keys /keys/nats /keys/edge /keys/asr /keys/llm /keys/tts /keys/ops /keys/inspect \
    /keys/system /keys/postgres
# The library of Python comes without bytecode: a read-only container would compile it anew at each start and probe.
RUN python -m compileall -q -x 'site-packages|/test|idlelib|lib2to3|ensurepip|pydoc_data|tkinter|turtledemo' \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
ENV PATH=/opt/callbus/bin:/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/callbus \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/callbus

# --- tools: uv and setuptools, for the stages that install; in no image --------------------------------------------
FROM base AS tools
ENV HOME=/root
COPY ops/requirements/bootstrap.txt /tmp/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/tools && /opt/tools/bin/pip install --quiet --require-hashes -r /tmp/bootstrap.txt

# --- requirements: what each image installs, from pyproject.toml and the lock list ---------------------------------
FROM tools AS requirements
COPY pyproject.toml /build/
COPY ops/docker/pinned.py ops/docker/install /build/ops/docker/
COPY ops/requirements/engines.txt /build/ops/requirements/
WORKDIR /build/ops
RUN mkdir /requirements && cp docker/install /requirements/ && cp requirements/engines.txt /requirements/lock.txt \
 && python docker/pinned.py core > /requirements/core.txt \
 && python docker/pinned.py files > /requirements/files.txt \
 && sed -n '/^llama-cpp-python==/,/^    # via/p' requirements/engines.txt > /requirements/llama.txt

# A name that is no engine of the stage ends the build here, with the names that are.
FROM requirements AS asr-requirements
ARG ENGINES
# hadolint ignore=SC2086
RUN python docker/pinned.py --stage asr $ENGINES -- pocketsphinx silero > /requirements/asr.txt

FROM requirements AS llm-requirements
ARG ENGINES
ARG LLM_ENGINE
# hadolint ignore=SC2086
RUN python docker/pinned.py --stage llm $LLM_ENGINE $ENGINES -- > /requirements/llm.txt

FROM requirements AS tts-requirements
ARG ENGINES
# hadolint ignore=SC2086
RUN python docker/pinned.py --stage tts $ENGINES -- espeak > /requirements/tts.txt

# --- core: the packages of every process, with hashes --------------------------------------------------------------
FROM tools AS core
RUN --mount=type=bind,from=requirements,source=/requirements,target=/requirements \
    --mount=type=cache,target=/root/.cache/uv \
    python -m venv --without-pip /opt/venv && /requirements/install /requirements/core.txt --compile-bytecode

# --- runtime: base with these packages -----------------------------------------------------------------------------
FROM base AS runtime
COPY --from=core /opt/venv /opt/venv
WORKDIR /var/lib/callbus

# --- llama.cpp: a wheel of its own, so that a change of code never compiles it again -------------------------------
# Of these two only the one that ACCELERATOR names is built, and for any other engine it stays empty. (The engine names no
# stage: a mistake in it would be looked for in a registry.)
FROM tools AS llama-cpu
ARG LLM_ENGINE
# hadolint ignore=DL3008
RUN mkdir /wheels /libraries \
 && if [ "$LLM_ENGINE" = llama_cpp ]; then \
        apt-get update && apt-get install -y --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*; \
    fi
# Any x86-64 processor with AVX2 and FMA, not only that of the machine that builds.
ARG LLAMA_CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF"
# The library of the compiler's threads lacks in slim images.
RUN --mount=type=bind,from=llm-requirements,source=/requirements/llama.txt,target=/llama.txt \
    --mount=type=cache,target=/root/.cache/pip \
    if [ "$LLM_ENGINE" = llama_cpp ]; then \
        CMAKE_ARGS="$LLAMA_CMAKE_ARGS" CMAKE_BUILD_PARALLEL_LEVEL="$(nproc)" \
        /opt/tools/bin/pip wheel --no-deps --require-hashes --wheel-dir /wheels -r /llama.txt \
     && cp "/usr/lib/$(uname -m)-linux-gnu/libgomp.so.1" /libraries/; \
    fi

# With CUDA. We have not tried it: none of our machines has both a container engine and a GPU. The wheel holds no
# Python extension module, so it does not matter that this Python is another one.
FROM nvidia/cuda:12.6.3-devel-ubuntu22.04 AS llama-cuda
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ make python3-pip \
 && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=llm-requirements,source=/requirements/llama.txt,target=/llama.txt \
    mkdir /wheels /libraries \
 && CMAKE_ARGS="-DGGML_CUDA=ON -DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF" CMAKE_BUILD_PARALLEL_LEVEL="$(nproc)" \
    pip3 wheel --no-cache-dir --no-deps --require-hashes --wheel-dir /wheels -r /llama.txt \
 && cp -a /usr/local/cuda/lib64/libcudart.so.* /usr/local/cuda/lib64/libcublas.so.* \
    /usr/local/cuda/lib64/libcublasLt.so.* "/usr/lib/$(uname -m)-linux-gnu/libgomp.so.1" /libraries/

# hadolint ignore=DL3006
FROM llama-${ACCELERATOR} AS compiled

# --- the engines of each stage -------------------------------------------------------------------------------------
FROM runtime AS asr-engines
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=bind,from=asr-requirements,source=/requirements,target=/requirements \
    --mount=type=cache,target=/root/.cache/uv \
    /requirements/install /requirements/asr.txt --compile-bytecode \
 && /requirements/install /requirements/files.txt --no-deps

FROM runtime AS llm-engines
ARG LLM_ENGINE
ARG ACCELERATOR
ENV LD_LIBRARY_PATH=/opt/libraries
COPY --from=compiled /libraries /opt/libraries
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=bind,from=llm-requirements,source=/requirements,target=/requirements \
    --mount=type=bind,from=compiled,source=/wheels,target=/wheels \
    --mount=type=cache,target=/root/.cache/uv \
    /requirements/install /requirements/llm.txt --compile-bytecode \
 && find /wheels -name '*.whl' -exec /opt/tools/bin/uv pip install --quiet --cache-dir /root/.cache/uv --link-mode copy \
    --python /opt/venv/bin/python --compile-bytecode --no-deps {} + \
 && if [ "$LLM_ENGINE $ACCELERATOR" = "llama_cpp cpu" ]; then python -c "import llama_cpp"; fi

FROM runtime AS tts-engines
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    --mount=type=bind,from=tts-requirements,source=/requirements,target=/requirements \
    --mount=type=cache,target=/root/.cache/uv \
    /requirements/install /requirements/tts.txt --compile-bytecode

# --- code: callbus itself, without its needs -----------------------------------------------------------------------
FROM tools AS code
COPY . /src
WORKDIR /src
RUN /opt/tools/bin/uv pip install --quiet --python /opt/tools/bin/python --no-deps --no-build-isolation \
    --target /opt/callbus --compile-bytecode . \
 && sed -i '1s|.*|#!/opt/venv/bin/python|' /opt/callbus/bin/callbus

# --- the images ----------------------------------------------------------------------------------------------------
FROM runtime AS cli
COPY --from=code /opt/callbus /opt/callbus
ENV CALLBUS_IMAGE=cli
USER 10001:10001
ENTRYPOINT ["callbus"]
CMD ["--help"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="callbus" \
      org.opencontainers.image.description="A phone line for AI agents on NATS JetStream" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

FROM runtime AS edge
COPY --from=code /opt/callbus /opt/callbus
ENV CALLBUS_IMAGE=edge
USER 10001:10001
EXPOSE 5060/udp 5060/tcp
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["callbus", "health", "edge"]
ENTRYPOINT ["python", "-m", "edge"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="callbus edge" \
      org.opencontainers.image.description="SIP and RTP of callbus" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

FROM asr-engines AS asr
COPY --from=code /opt/callbus /opt/callbus
ENV CALLBUS_IMAGE=asr
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["callbus", "health", "asr"]
ENTRYPOINT ["python", "-m", "services.asr"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="callbus asr" \
      org.opencontainers.image.description="Speech to text of callbus" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

FROM llm-engines AS llm
COPY --from=code /opt/callbus /opt/callbus
ENV CALLBUS_IMAGE=llm
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["callbus", "health", "llm"]
ENTRYPOINT ["python", "-m", "services.llm"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="callbus llm" \
      org.opencontainers.image.description="The conversation of callbus" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# eSpeak NG in this image is GPL-3.0-or-later, see docs/licences.md.
FROM tts-engines AS tts
COPY --from=code /opt/callbus /opt/callbus
ENV CALLBUS_IMAGE=tts
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["callbus", "health", "tts"]
ENTRYPOINT ["python", "-m", "services.tts"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="callbus tts" \
      org.opencontainers.image.description="Text to speech of callbus" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-3.0-or-later" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
