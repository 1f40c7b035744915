# The same commands for people and for CI. `make` alone lists them.

SHELL := bash
.DEFAULT_GOAL := help

BIN := .venv/bin
SOURCES := chat_server loadtest tests

# How hypothesis picks its examples; see tests/conftest.py.
export HYPOTHESIS_PROFILE ?= ci

# Compiled modules are kept: each of the workers of pytest-xdist would compile all tests anew. The tests
# that judge time come first, for they run alone and compile everything for the others.
unexport PYTHONDONTWRITEBYTECODE

# An environment is kept unless another interpreter is named: `make PYTHON=python3.13 …`.
version = $(shell $(1) -c 'import sys; print(sys.version[:4])' 2>/dev/null)
recent = $(shell $(1) -c 'import sys; print("yes" if sys.version_info >= (3, 11) else "")' 2>/dev/null)
ifneq ($(PYTHON),)
ifneq ($(call version,$(PYTHON)),$(call version,$(BIN)/python))
ANEW := anew
endif
else ifneq ($(call version,$(BIN)/python),)
PYTHON := $(BIN)/python
else
# The first that is new enough; if none is, scripts/venv.sh says what is wrong with python3.
PYTHON := $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(if $(call recent,$(name)),$(name))) python3)
endif

.PHONY: help run test test-all format check bench chaos clean anew

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: .venv/run.stamp ## start a server on http://127.0.0.1:8000 with the memory broker
	@$(BIN)/python -m chat_server serve

test: .venv/test.stamp ## install what the tests need, and run all of them
	@scripts/test-programs.sh
	$(BIN)/python -m pytest -m "timing and not extra"
	$(BIN)/python -m pytest -n 6 --dist worksteal -m "not timing and not extra" --ignore tests/web
	$(BIN)/python -m pytest -n 4 --dist loadfile -m "not timing and not extra" tests/web

test-all: test ## run the tests, and those that take long or install what others wrote
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,api,deploy,proxies,servers,stores,peers]'
	$(BIN)/python -m pytest --timeout 400 -m "timing and extra"
	$(BIN)/python -m pytest --timeout 400 -n 2 --dist worksteal -m "extra and not timing"

format: .venv/test.stamp ## format the code
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

check: .venv/test.stamp ## check format, lint, types and architecture
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/architecture

bench: .venv/run.stamp ## measure the budgets of docs/performance.md; under five minutes on two cores
	@$(BIN)/python -m loadtest bench

chaos: .venv/run.stamp ## ten minutes of faults at random while people talk; fails if anything is lost
	@$(BIN)/python -m tests.chaos

clean: ## remove the environment and everything generated
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +

.venv/run.stamp: pyproject.toml constraints.txt $(ANEW)
	@scripts/venv.sh $(PYTHON)
	@touch $@

.venv/test.stamp: pyproject.toml constraints.txt $(ANEW)
	@scripts/venv.sh $(PYTHON) test
	@touch .venv/run.stamp $@
