# One image for the Prefect worker and every Ray node, so that the same code runs everywhere.
# The first stage installs and compiles; the second takes the result and runs as a user without rights.
FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3 AS build

WORKDIR /winnow
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY pyproject.toml setup.py winnow.py constraints.txt README.md ./
COPY dedup dedup
COPY filters filters
COPY pipelines pipelines
COPY training training
COPY flows flows
RUN pip install --no-cache-dir -c constraints.txt -e '.[s3]' \
 && python -m pipelines.compile \
 && python -m training.compile
COPY prefect.yaml ./

FROM python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3

RUN useradd --create-home --uid 10001 winnow \
 && mkdir /data \
 && chown winnow /data
COPY --from=build /opt/venv /opt/venv
COPY --from=build --chown=winnow /winnow /winnow

ENV PATH=/opt/venv/bin:$PATH \
    DO_NOT_TRACK=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    RAY_USAGE_STATS_ENABLED=0 \
    POLARS_MAX_THREADS=1 \
    OMP_NUM_THREADS=1 \
    NUMBA_NUM_THREADS=1 \
    WINNOW_ROOT=/data
WORKDIR /winnow
USER winnow
VOLUME /data
