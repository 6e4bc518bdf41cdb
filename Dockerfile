# Two images. `gateway`: gateway, page and embedded engine, without PyTorch. `engine`: the engine host on
# LMDeploy's image, and what conversion needs. Built by `docker compose build`; docs/deploy.md says what may be set.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG LMDEPLOY_IMAGE=openmmlab/lmdeploy:v0.18.0-cu12.8

# The project itself as a wheel, made by locked tools.
FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /build
COPY requirements/build.txt requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /tools && /tools/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY assistants assistants
COPY convert convert
COPY serve serve
COPY hanlin hanlin
RUN /tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --no-index --wheel-dir /wheel .

FROM ${PYTHON_IMAGE} AS gateway-environment
COPY requirements/run.txt /build/
# No pip in the result; byte code is made here, for nothing can be written where it runs.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/hanlin \
    && python3 -m pip --python /opt/hanlin/bin/python install --no-cache-dir --no-deps --require-hashes -r /build/run.txt
COPY deploy/lay_out.py /build/
RUN /opt/hanlin/bin/python /build/lay_out.py /opt/hanlin

FROM ${PYTHON_IMAGE} AS gateway
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="hanlin gateway" \
      org.opencontainers.image.description="Serve your fine-tuned models as named assistants behind one OpenAI-compatible endpoint: gateway, page and embedded CPU engine." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/hanlin-serve/hanlin" \
      org.opencontainers.image.documentation="https://github.com/hanlin-serve/hanlin/blob/main/docs/deploy.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# llama.cpp's threads; not pinned, since a rebuild is to bring Debian's corrections.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=gateway-environment /opt/hanlin /opt/hanlin
# A layer of its own: what changes from day to day is a twentieth of it all.
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    python3 -m pip --python /opt/hanlin/bin/python install --no-cache-dir --no-deps --no-index /wheel/*.whl
COPY --chmod=755 deploy/healthy.py /usr/local/bin/healthy
COPY --chmod=755 deploy/secrets.sh /usr/local/bin/house-secrets
# Folders are made here so that new volumes on them belong to who runs.
RUN groupadd --gid 10001 hanlin && useradd --uid 10001 --gid hanlin --no-create-home --home-dir /tmp hanlin \
    && install -d -o hanlin -g hanlin -m 755 /hanlin/workspaces /hanlin/models /hanlin/logs \
    && install -d -o hanlin -g hanlin -m 700 /hanlin/secrets/clients /hanlin/secrets/engines /hanlin/secrets/page \
    && install -d /hanlin/assistants
ENV PATH=/opt/hanlin/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HOME=/hanlin/models/huggingface \
    MODELSCOPE_CACHE=/hanlin/models/modelscope \
    HANLIN_ASSISTANTS=/opt/hanlin/assistants \
    HANLIN_WORKSPACES=/hanlin/workspaces \
    HANLIN_LOGS=/hanlin/logs \
    HANLIN_HOST=0.0.0.0
WORKDIR /hanlin
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["healthy", "8000/health"]
ENTRYPOINT ["hanlin"]
CMD ["gateway"]

# The same locked packages, made with the Python of LMDeploy's image. Its own packages are left as they are: theirs is
# the engine's process, ours the host's and the conversion's, which only borrow PyTorch and look there last.
FROM ${LMDEPLOY_IMAGE} AS engine-environment
COPY requirements/run.txt /build/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/py3/bin/python -m venv --without-pip /opt/hanlin \
    && /opt/py3/bin/python -m pip --python /opt/hanlin/bin/python install --no-cache-dir --no-deps --require-hashes -r /build/run.txt
COPY deploy/lay_out.py /build/
RUN /opt/hanlin/bin/python /build/lay_out.py /opt/hanlin --borrow /opt/py3

FROM ${LMDEPLOY_IMAGE} AS engine
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG LMDEPLOY_IMAGE
LABEL org.opencontainers.image.title="hanlin engine" \
      org.opencontainers.image.description="Serve your fine-tuned models as named assistants behind one OpenAI-compatible endpoint: TurboMind engines and conversion." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/hanlin-serve/hanlin" \
      org.opencontainers.image.documentation="https://github.com/hanlin-serve/hanlin/blob/main/docs/deploy.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${LMDEPLOY_IMAGE}"
COPY --from=engine-environment /opt/hanlin /opt/hanlin
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    /opt/py3/bin/python -m pip --python /opt/hanlin/bin/python install --no-cache-dir --no-deps --no-index /wheel/*.whl
COPY --chmod=755 deploy/healthy.py /usr/local/bin/healthy
RUN groupadd --gid 10001 hanlin && useradd --uid 10001 --gid hanlin --no-create-home --home-dir /tmp hanlin \
    && install -d -o hanlin -g hanlin -m 755 /hanlin/workspaces /hanlin/models /hanlin/logs \
    && install -d -o hanlin -g hanlin -m 700 /hanlin/secrets/engines \
    && install -d /hanlin/assistants
ENV PATH=/opt/hanlin/bin:/opt/py3/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HOME=/hanlin/models/huggingface \
    MODELSCOPE_CACHE=/hanlin/models/modelscope \
    HANLIN_ASSISTANTS=/opt/hanlin/assistants \
    HANLIN_WORKSPACES=/hanlin/workspaces \
    HANLIN_LOGS=/hanlin/logs \
    HANLIN_HOST=0.0.0.0 \
    HANLIN_ENGINE=turbomind \
    HANLIN_LMDEPLOY_PYTHON=/opt/py3/bin/python
WORKDIR /hanlin
USER 10001:10001
EXPOSE 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["healthy", "8001/health"]
ENTRYPOINT ["hanlin"]
CMD ["engines"]
