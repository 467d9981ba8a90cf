# The API. Built in two stages from pinned, hash-checked lists: nothing unlisted is downloaded, and build tools
# are not part of the image. Dockerfile.worker has the same build stage, so both images share its layers.
FROM python:3.12.12-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

RUN python -m venv /opt/luma-memory && python -m venv /opt/hatchling
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN /opt/luma-memory/bin/python -m pip install --quiet --require-hashes --no-deps --only-binary :all: \
        -r requirements/runtime.txt \
    && /opt/hatchling/bin/python -m pip install --quiet --require-hashes --no-deps --only-binary :all: \
        -r requirements/build.txt

COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/hatchling/bin/python -m hatchling build -t wheel -d /opt/hatchling/dist \
    && /opt/luma-memory/bin/python -m pip install --quiet --no-deps --no-index /opt/hatchling/dist/*.whl \
    && /opt/luma-memory/bin/python -m compileall -q /opt/luma-memory/lib
# Build the local model's graph now instead of at every first start; the image's user may only read it.
RUN MEMORY_MODEL_CACHE_DIR=/opt/luma-memory/models /opt/luma-memory/bin/luma-memory doctor \
    && chmod -R a+rX /opt/luma-memory


FROM python:3.12.12-slim-bookworm

COPY --from=build /opt/luma-memory /opt/luma-memory
ENV PATH=/opt/luma-memory/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MEMORY_MODEL_CACHE_DIR=/opt/luma-memory/models \
    MEMORY_LOG_FORMAT=json \
    MEMORY_HOST=0.0.0.0 \
    MEMORY_PORT=8080

USER 10001:10001
EXPOSE 8080
# Open requests get 10 s to finish: use a stop timeout of 30 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", \
    "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['MEMORY_PORT']), timeout=4); c.request('GET', '/api/v1/memory/health/live'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["luma-memory", "serve"]
