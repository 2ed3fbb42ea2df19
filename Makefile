# Everything is installed inside the checkout: .venv (Python), .venv-proto (stub generators),
# .tools (Go programs), tests/interop/node/node_modules. `make clean` removes it all.

# The interpreter that makes the virtual environment: make install PYTHON=python3.13
PYTHON ?= python3
# More for pytest: make test ARGS="-k delete -x"
ARGS ?=
# How many tests run side by side: they wait more than they compute.
JOBS ?= 4

GRPCURL_VERSION := v1.9.4

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
GRPCURL := .tools/grpcurl-$(GRPCURL_VERSION).installed
# The protos that callers rely on: those that `make proto` last made stubs from.
PROMISED := protos/promised.binpb
NODE_DIR := tests/interop/node
NODE_MODULES := $(NODE_DIR)/node_modules/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED) ## Make .venv and install the project with all extras into it

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $(PYTHON) is missing or older than Python 3.11; name another: make PYTHON=python3.13 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) can't make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'
	@touch $@

.PHONY: demo
demo: $(INSTALLED) ## Start a server on a free port and show what it does, through the client
	$(BIN)/python examples/demo.py

.PHONY: serve
serve: $(INSTALLED) ## Run the server in the foreground
	$(BIN)/codecontext serve

.PHONY: test
test: $(INSTALLED) $(GRPCURL) $(NODE_MODULES) ## Install what the tests need, and run them all
	$(BIN)/python scripts/generate_protos.py --prepare-only
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

.PHONY: lint
lint: $(INSTALLED) ## Check style, types and protos; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against $(PROMISED)

.PHONY: format
format: $(INSTALLED) ## Format the sources and the protos, and fix what can be fixed
	$(BIN)/ruff check --fix-only --exit-zero .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

.PHONY: proto
proto: $(INSTALLED) ## Generate the Python stubs from protos/ into client/, if the protos break no caller
	$(BIN)/buf breaking --against $(PROMISED)
	$(BIN)/python scripts/generate_protos.py
	$(BIN)/buf build --as-file-descriptor-set --exclude-source-info --output $(PROMISED)

.PHONY: bench
bench: $(INSTALLED) ## Measure everything beside its floors:  make bench ARGS="--quick --only runs"
	$(BIN)/python benchmarks $(ARGS)

.PHONY: clean
clean: ## Remove all that make installed, built or cached
	rm -rf $(VENV) .venv-proto .tools $(NODE_DIR)/node_modules build dist
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find client service tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# Without Go or Node the tests that need them are skipped; in CI that would hide a hole, so it's an error.
missing = if [ "$$CI" = true ]; then echo "error: $(1) is missing" >&2; exit 1; \
	else echo "note: $(1) is missing; the tests that need it are skipped" >&2; fi

$(GRPCURL):
	@if command -v go >/dev/null; then \
		set -x; GOBIN="$(CURDIR)/.tools/bin" go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION) \
		&& touch $@; \
	else $(call missing,Go); fi

$(NODE_MODULES): $(NODE_DIR)/package.json $(NODE_DIR)/package-lock.json $(NODE_DIR)/.npmrc
	@if command -v npm >/dev/null; then \
		set -x; cd $(NODE_DIR) && npm ci --no-progress && touch node_modules/.installed; \
	else $(call missing,Node); fi
