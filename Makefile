# Every target sets up what it needs: a fresh clone needs only Python 3.11, pip, make and gcc.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test browser lint docs bench load torture rules manifests image clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(STAMP)  ## An agent that is killed, resumed, interrupted, rewound and forked
	$(BIN)/python -m langcairn.demo

test: $(STAMP)  ## The whole suite, on two processes
	$(BIN)/python -m pytest -n 2

browser: $(STAMP)  ## The viewer in a real Chromium: an installed one, or Debian's unpacked in .venv
	$(BIN)/python -m tests.browser.chromium
	$(BIN)/python -m pytest tests/browser

lint: $(STAMP)  ## Style, docstrings and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## Speed and size beside the official savers
	$(BIN)/python -m benchmarks

load: $(STAMP)  ## The reference service under load, on several savers; PostgreSQL restarted meanwhile
	$(BIN)/python -m benchmarks.service_load --rounds 3
	$(BIN)/python -m benchmarks.service_load --savers langcairn --seconds 120 --restarts 2 \
		--json benchmarks/results/service-restarts.json

torture: $(STAMP)  ## 200 kills a store, in processes that put, prune and read at once, and of servers
	$(BIN)/python -m tests.torture --kills 200

docs: $(STAMP)  ## The documentation as a site, in site/; broken links fail
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

rules: $(STAMP)  ## Alert rules and dashboard: promtool's checks, and what a real Prometheus finds for them
	.ci/promtool .promtool
	$(BIN)/python -m pytest tests/prometheus

manifests:  ## Dockerfile, compose file and what kustomize builds, against linter and schemas
	.ci/manifests .manifests

image: $(STAMP)  ## deploy/Dockerfile built and run as the compose file says; root, on Debian
	.ci/image .image
	$(BIN)/python -m pytest -s tests/image

clean:
	rm -rf $(VENV) .promtool .manifests .image .pytest_cache .mypy_cache .ruff_cache .hypothesis
