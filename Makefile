# Start with `make demo` and `make test`. The first use installs everything into $(VENV).

PYTHON ?= python3
VENV ?= .venv
ROOT ?= winnow-data
SECONDS ?= 60
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help install demo test cluster-test check lint docs bench fuzz clean

help:
	@echo "make demo    build a corpus from generated sources, train a tiny HRM-Text on it, evaluate it (about 4 minutes)"
	@echo "make test    run the tests"
	@echo "make cluster-test  start the services of docker-compose.yml without Docker and break them (Linux, root, PostgreSQL)"
	@echo "make check   run lint, types, import rules and tests, as CI does"
	@echo "make docs    write the documentation as a site to site/"
	@echo "make fuzz    feed damaged inputs to what reads the user's files, SECONDS for each kind (default 60)"
	@echo "make bench   measure the speed of Winnow and its peers, and write docs/benchmarks/"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@echo "compiling kernels ..."
	@$(BIN)/python -m training.compile & $(BIN)/python -m pipelines.compile && wait $$!
	@touch $@

install: $(READY)

demo: $(READY)
	$(BIN)/winnow build pipelines/recipes/demo.yaml --root $(ROOT)
	$(BIN)/winnow train latest --config tiny --root $(ROOT)
	$(BIN)/winnow evaluate latest --root $(ROOT)

test: $(READY)
	$(BIN)/python -m pytest

cluster-test: $(READY)
	$(BIN)/python -m tests.cluster

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python -m tests.benchmarks

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

clean:
	rm -rf $(ROOT) build site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
