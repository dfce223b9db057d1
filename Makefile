# `make demo` and `make test` set themselves up; every other target does too.

PORT ?= 8501
RUNS ?= runs
RECIPE ?= forge
ARGS ?=

# A `python3.11` may be on PATH and yet not start (a version manager's stand-in), so it is tried.
PYTHON ?= $(shell python3.11 -c pass 2>/dev/null && echo python3.11 || echo python3)
VENV := .venv/bin/python

.PHONY: help demo train test test-fast test-recipes notebook lint setup clean FORCE

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

demo: .venv/.runtime ## the web app on shipped runs, with a training that arrives live (PORT=8501 RUNS=runs)
	@exec $(VENV) -m webapp --train quick --port $(PORT) --runs "$(RUNS)"

train: .venv/.runtime ## one training, or its continuation (RECIPE=forge RUNS=runs ARGS="--workers 2")
	@exec $(VENV) -m trainer $(RECIPE) --runs "$(RUNS)" $(ARGS)

test: .venv/.dev ## every test but those of test-recipes; without Chromium or Graphviz some are skipped
	@$(VENV) -m tools.programs chromium dot
	@$(VENV) -m pytest -n 2 --dist worksteal

test-recipes: .venv/.dev ## every recipe at its full size: 200 steps, a resume, the CLI, every page (takes long)
	@$(VENV) -m pytest -m recipes

test-fast: .venv/.dev ## the tests that need neither Ray, workers, S3 nor a browser
	@$(VENV) -m tools.programs dot
	@$(VENV) -m pytest -m "not slow" -n 2

notebook: .venv/.dev ## run notebooks/tour.ipynb and keep what it shows
	@$(VENV) -m tools.programs chromium
	@$(VENV) -m notebooks.execute

lint: .venv/.dev ## style, format and types
	$(VENV) -m ruff check
	$(VENV) -m ruff format --check
	$(VENV) -m mypy models trainer webapp benchmarks tools

setup: .venv/.dev ## all that the other targets would install; asks before apt-get runs as root (YES=1: does not ask)
	@$(VENV) -m tools.programs chromium dot

clean: ## remove what can be made again; runs stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp is touched last, so an installation that was interrupted is done again and not believed.
.venv/.dev: requirements-dev.txt .venv/.runtime
	@echo "Installing what tests and lint need into .venv (under a minute) ..."
	@$(VENV) -m pip install -qq --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	@touch $@

.venv/.runtime: requirements.txt .venv/.made
	@echo "Installing PyTorch, Ray and Streamlit into .venv (about two minutes, once) ..."
	@$(VENV) -m pip install -qq --disable-pip-version-check -r requirements.txt
	@touch $@

# Made anew where its interpreter no longer starts, as after an upgrade of the system's Python.
.venv/.made: $(if $(shell $(VENV) -c pass 2>/dev/null && echo starts),,FORCE)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { \
	  echo 'DigitForge needs Python 3.11 to 3.14, which "$(PYTHON)" is not; name one, as in: make PYTHON=python3.12' >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo '"$(PYTHON)" has no venv module; on Debian or Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv
	@touch $@
