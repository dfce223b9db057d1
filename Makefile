# Every target first installs what it needs into .venv.

PORT ?= 8501
RUNS ?= runs
RECIPE ?= forge
ARGS ?=

# A `python3.11` on PATH may be a version manager's stub that does not start, so it is tried first.
PYTHON ?= $(shell python3.11 -c pass 2>/dev/null && echo python3.11 || echo python3)
VENV := .venv/bin/python

.PHONY: help demo train test test-fast test-long test-recipes test-chaos notebook lint setup clean FORCE

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

demo: .venv/.runtime ## serve the app with the shipped runs, and train `quick` live (PORT=8501 RUNS=runs)
	@exec $(VENV) -m webapp --train quick --allow-training --port $(PORT) --runs "$(RUNS)"

train: .venv/.runtime ## train a recipe, or resume its run (RECIPE=forge RUNS=runs ARGS="--workers 2")
	@exec $(VENV) -m trainer $(RECIPE) --runs "$(RUNS)" $(ARGS)

test: .venv/.dev ## run all tests except test-long, -recipes and -chaos; some are skipped without Chromium or Graphviz
	@$(VENV) -m tools.programs chromium dot
	@$(VENV) -m pytest -n 4 --dist worksteal

test-long: .venv/.dev ## repeat some tests with many more cases (minutes)
	@$(VENV) -m tools.programs chromium
	@$(VENV) -m pytest -m long

test-recipes: .venv/.dev ## test every recipe at its full size: 200 steps, a resume, the CLI, every page (slow)
	@$(VENV) -m pytest -m recipes

test-chaos: .venv/.dev ## strike trainings with every kind of fault, one after the other (slow)
	@$(VENV) -m pytest -m chaos

test-fast: .venv/.dev ## run the tests that need no Ray, workers, S3 or browser
	@$(VENV) -m tools.programs dot
	@$(VENV) -m pytest -m "not slow" -n 3

notebook: .venv/.dev ## run notebooks/tour.ipynb and save its outputs
	@$(VENV) -m tools.programs chromium
	@$(VENV) -m notebooks.execute

lint: .venv/.dev ## check style, format and types
	$(VENV) -m ruff check
	$(VENV) -m ruff format --check
	$(VENV) -m mypy -n 2 models trainer webapp benchmarks tools

setup: .venv/.dev ## install what all targets need; asks before apt-get runs as root (YES=1: does not ask)
	@$(VENV) -m tools.programs chromium dot

clean: ## remove .venv and caches; runs stay
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp file is touched last, so an interrupted installation is repeated.
.venv/.dev: requirements-dev.txt requirements-export.txt .venv/.runtime
	@echo "Installing what tests and lint need into .venv (under a minute) ..."
	@$(VENV) -m pip install -qq --disable-pip-version-check -r requirements.txt -r requirements-dev.txt \
	  -r requirements-export.txt
	@touch $@

.venv/.runtime: requirements.txt .venv/.made
	@echo "Installing PyTorch, Ray and Streamlit into .venv (about two minutes, once) ..."
	@$(VENV) -m pip install -qq --disable-pip-version-check -r requirements.txt
	@touch $@

# The environment is rebuilt if its interpreter no longer starts, for example after an upgrade of the system's Python.
.venv/.made: $(if $(shell $(VENV) -c pass 2>/dev/null && echo starts),,FORCE)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { \
	  echo 'DigitForge needs Python 3.11 to 3.14, which "$(PYTHON)" is not; name one, as in: make PYTHON=python3.12' >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo '"$(PYTHON)" has no venv module; on Debian or Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv
	@touch $@
