# Labels on a CPU, amd64 or arm64. docs/tasks/containers.md tells how to use it, and what was tried.
#
#   docker build --tag action-streamer .
#   docker run --rm --read-only --tmpfs /tmp action-streamer run pattern://swipe --headless
FROM debian:bookworm-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY pyproject.toml setup.py README.md LICENSE ./
COPY requirements/image.txt requirements/
COPY engines engines
COPY streamer streamer
RUN python3 -m venv --without-pip /opt/streamer \
    && pip --python /opt/streamer/bin/python install --no-cache-dir --no-deps --require-hashes --requirement requirements/image.txt \
    && pip --python /opt/streamer/bin/python install --no-cache-dir --no-deps .

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/streamer /opt/streamer
ENV PATH=/opt/streamer/bin:/usr/bin:/bin \
    STREAMER_METRICS=127.0.0.1:9464
# any other user will do, too: nothing belongs to this one
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
ENTRYPOINT ["streamer"]
CMD ["check"]
