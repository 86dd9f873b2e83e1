# Every target makes its own environment first: .venv, from requirements.lock, with hashes. `make` alone explains the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first interpreter that is new enough; PYTHON=… overrides.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Tiers `make test` runs; one that does not exist yet is left out. DEMO_ARGS, TEST_ARGS, BENCH_ARGS are passed on.
TIERS := $(wildcard $(addprefix tests/,unit property simulation mutants integration charts tidy docs))
SOURCES := $(wildcard runtime/src operator/src)
CODE := $(SOURCES) $(wildcard tests e2e examples benchmarks)
FREEHOLD_SIM_SEEDS ?= 1000
# Most of what tests of the API do is waiting: two processes, a module in one of them, each with a server of its own.
API_PROCESSES := $(if $(ONLY),,-n 2 --dist loadscope)

.PHONY: help venv demo test check sim api api-all e2e e2e-down bench bench-k8s proto chart fmt lock clean

help:  ## explain the targets (the default)
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

# Packages come first, checked by hash; the project itself after, without resolving or fetching anything.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 found: install one, or say make PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

venv: $(STAMP)  ## make .venv from requirements.lock

demo: $(STAMP)  ## write, sort and validate records with a progress bar; the last line is `valid: …`
	@$(BIN)/freehold sort --demo $(DEMO_ARGS)

test: $(STAMP)  ## run every test tier but those that need Kubernetes
	@# Real processes on two busy cores: what fails once gets one more try alone, and is named either way.
	@code=0; $(BIN)/python -m pytest $(TIERS) --durations=15 --durations-min=1 $(TEST_ARGS) || code=$$?; \
	if [ $$code -eq 1 ]; then \
		echo "== the tests named above failed; each is run once more, and what fails twice fails"; \
		$(BIN)/python -m pytest $(TIERS) --last-failed --last-failed-no-failures=none $(TEST_ARGS); \
	else exit $$code; fi

check: $(STAMP)  ## format, lint, types and layers; runs no test
	@failed=""; \
	gate() { echo "== $$*"; "$$@" || failed="$$failed $$(basename "$$1")"; }; \
	gate $(BIN)/ruff format --check .; \
	gate $(BIN)/ruff check .; \
	gate $(BIN)/mypy $(SOURCES) $(wildcard tests/tidy tests/docs); \
	gate $(BIN)/lint-imports --no-logo; \
	test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

sim: $(STAMP)  ## the simulation with more seeds (FREEHOLD_SIM_SEEDS=1000)
	FREEHOLD_SIM_SEEDS=$(FREEHOLD_SIM_SEEDS) $(BIN)/python -m pytest tests/simulation --timeout=7200 $(TEST_ARGS)

api: $(STAMP)  ## run the tests that need a Kubernetes API server, built at first (ONLY=tests/api/test_x.py)
	$(BIN)/python -m pytest $(or $(ONLY),tests/api) $(API_PROCESSES) --durations=10 --durations-min=1 $(TEST_ARGS)

api-all: $(STAMP)  ## the same, with every case of what is sampled otherwise
	$(BIN)/python -m pytest $(or $(ONLY),tests/api) --api-all $(API_PROCESSES) --durations=10 --durations-min=1 $(TEST_ARGS)

e2e: $(STAMP)  ## run the tests on a kind cluster, made at first (ONLY=e2e/test_x.py, E2E_ARGS=--kubeconfig=…)
	$(BIN)/python -m pytest $(or $(ONLY),e2e) --durations=15 --durations-min=1 $(E2E_ARGS) $(TEST_ARGS)

e2e-down:  ## remove the kind cluster; what was built stays cached
	e2e/kind/cluster.sh down

bench: $(STAMP)  ## measure side by side with Ray (in an environment of its own); fails when a bar is missed
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

bench-k8s: $(STAMP)  ## measure the operator on the kind cluster of `make e2e`; fails when a bar is missed
	$(BIN)/python benchmarks/k8s.py $(BENCH_ARGS)

proto: $(STAMP)  ## make the Python code of runtime/proto again
	$(BIN)/python runtime/proto/generate.py

fmt: $(STAMP)  ## format, and fix what lint can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

chart: $(STAMP)  ## carry crds/ on into the chart, FuturesJob's template and docs/kubernetes/reference.md
	$(BIN)/python -m crds.sync

# uv lives in an environment of its own; the markers say what pyproject's [tool.uv] says already, the index stays unnamed.
lock:  ## pin the newest allowed packages into requirements.lock (needs a package index)
	"$(PYTHON)" -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	{ echo "# Made by \`make lock\` from pyproject.toml: base, data, kubernetes, operator, dev and the build backend, for Linux x86_64, CPython >= 3.11."; \
	  .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --extra data --extra kubernetes --extra operator --extra dev $(LOCK_ARGS) pyproject.toml | sed -E 's/ ; .* \\$$/ \\/'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf .venv-lock
	$(MAKE) venv
	$(BIN)/python images/lock.py

clean:  ## remove the environment, caches and build leftovers
	rm -rf $(VENV) .venv-lock .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache build dist
	find runtime tests e2e examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
