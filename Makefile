# `make help` lists the targets. Everything lands in .venv, .jars and build, all of which git ignores.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.PHONY: help setup lock test test-fast test-yarn check format demo bench soak clean requirements

# Each of the many processes of a stack and of the tests would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
JARS := .jars

# The first interpreter that can make the environment (datasketches has no wheel for 3.14 yet);
# `make PYTHON=/path/to/python setup` chooses another.
ENOUGH := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.ready $(JARS)/.ready ## Create .venv and .jars: pinned Python packages and JVM artefacts

test-fast: setup ## Set up, then run the tests that need no server and no JVM, in a minute
	@$(BIN)/python -m pytest -n 2 -m 'not server and not yarn' $(ARGS)

test: setup ## Set up, then run the whole test suite against real components, by two workers
	@$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

test-yarn: setup $(JARS)/yarn/.ready ## Set up, then run both layers on a YARN cluster on loopback, and kill the stream there
	@$(BIN)/python -m pytest -m yarn metrics_platform_tests/yarn $(ARGS)

check: setup ## Set up, then lint, check formatting, types and the order of imports
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright
	@$(BIN)/lint-imports

format: setup ## Set up, then format the code and sort its imports
	@$(BIN)/ruff check --select I --fix
	@$(BIN)/ruff format

demo: setup ## Set up, then run the whole platform until Ctrl-C
	@exec $(BIN)/metrics-platform up $(ARGS)

bench: setup ## Set up, then measure, and write build/bench.json
	@$(BIN)/python -m metrics_platform_tests.benchmarks $(ARGS)

soak: setup ## Set up, then simulate random weeks: SEEDS=n of them, from the seed FIRST=s on
	@$(BIN)/python -m metrics_platform_tests.simulation --seeds $(or $(SEEDS),10) --first-seed $(or $(FIRST),1) $(ARGS)

lock: ## Resolve pyproject.toml again into requirements.lock (needs uv)
	@uv pip compile -q pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links -o requirements.lock

clean: ## Remove what the set-up, tests and linters made; the data of a stack stays
	@rm -rf $(VENV) $(JARS) build *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each thing that the set-up cannot bring by itself, named in one line.
requirements:
	@test -n "$(PYTHON)" || { echo "python 3.11, 3.12 or 3.13 with its venv module is missing; install" \
		"it (Debian, Ubuntu: apt install python3-venv) or say make PYTHON=/path/to/python" >&2; exit 1; }
	@v=$$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' || true); [ "$${v:-0}" -ge 17 ] || \
		{ echo "java 17 or newer is missing (found: $${v:-none}); install a JDK or JRE (Debian, Ubuntu:" \
		"apt install openjdk-17-jre-headless) and have java on the PATH" >&2; exit 1; }
	@command -v mvn >/dev/null || { echo "mvn is missing; install Apache Maven (Debian, Ubuntu:" \
		"apt install maven) and have mvn on the PATH" >&2; exit 1; }

# The build backend goes first, from the same lock, so that nothing unpinned is fetched to build a package.
$(VENV)/.ready: requirements.lock pyproject.toml | requirements
	@echo "Installing Python packages into $(VENV)"
	@$(BIN)/python -c '$(ENOUGH)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@mkdir -p build && sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > build/backend.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r build/backend.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps --use-pep517 \
		--no-build-isolation -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The artefacts of a profile of pom.xml.
copy-jars = mvn -q -B -f pom.xml -P$(1) dependency:copy-dependencies -DincludeScope=runtime \
	-DoutputDirectory="$(CURDIR)/$(JARS)/$(1)" 2>&1 | sed $$'s/\e\\[[0-9;]*m//g'

$(JARS)/.ready: pom.xml | requirements
	@echo "Copying JVM artefacts into $(JARS)"
	@rm -rf $(JARS)
	@for profile in spark kafka; do $(call copy-jars,$$profile); done
	@touch $@

# For `make test-yarn` alone.
$(JARS)/yarn/.ready: $(JARS)/.ready
	@echo "Copying Hadoop's JVM artefacts into $(JARS)/yarn"
	@rm -rf $(JARS)/yarn
	@$(call copy-jars,yarn)
	@touch $@
