# One image for the Prefect worker and every Ray node, so that the same code runs everywhere.
FROM python:3.11-slim

RUN apt-get update && apt-get install -y --no-install-recommends git make curl && rm -rf /var/lib/apt/lists/*
WORKDIR /winnow
COPY pyproject.toml setup.py winnow.py constraints.txt README.md ./
COPY dedup dedup
COPY filters filters
COPY pipelines pipelines
COPY training training
COPY flows flows
RUN pip install --no-cache-dir -c constraints.txt -e . \
 && python -m pipelines.compile \
 && python -m training.compile
COPY prefect.yaml ./

ENV DO_NOT_TRACK=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    RAY_USAGE_STATS_ENABLED=0 \
    POLARS_MAX_THREADS=1 \
    OMP_NUM_THREADS=1 \
    NUMBA_NUM_THREADS=1 \
    WINNOW_ROOT=/data
VOLUME /data
