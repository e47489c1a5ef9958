# make repro: set up and run everything · make test: set up and test · make help: the rest
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := main
# Stages are run as `python -m stages.<name>`: this environment's Python, whatever is active outside.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup repro test test-slow lint report review gate preset bench lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

repro: $(VENV)/.installed ## set up, run what is out of date in the pipeline, show the result
	@python -m tools.check
	@dvc repro
	@python -m tools.summary

test: $(VENV)/.installed-dev ## set up and run the tests
	@python -m pytest -m "not slow"

test-slow: $(VENV)/.installed-dev ## the tests that run whole DVC experiments
	@python -m pytest -m slow

lint: $(VENV)/.installed-dev ## style, formatting and types
	@ruff check .
	@ruff format --check .
	@mypy

report: $(VENV)/.installed ## run the pipeline as far as the report and say where it is
	@dvc repro report
	@echo "report/index.html"

review: $(VENV)/.installed ## pairs of duplicates side by side, to decide on: report/review.html
	@python -m tools.review --flags

gate: $(VENV)/.installed ## BASE=main: is anything worse than there?
	@python -m tools.gate --base "$(BASE)"

preset: $(VENV)/.installed ## NAME=photos SOURCE=folder, archive or URL: put a preset in place as params.yaml
	@python -m tools.preset "$(NAME)" "$(SOURCE)" "$(FORCE)"

bench: $(VENV)/.installed-dev ## measure the stages on the pictures that params.yaml names
	@python -m benchmarks.stages

setup: $(VENV)/.installed-dev ## only set up

lock: $(VENV)/bin/python ## write requirements.lock anew from what the two requirements files name
	@sed '/^-[cr] /d' requirements.txt requirements-dev.txt > $(VENV)/named.txt
	$(PYTHON) -m venv --clear $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --upgrade setuptools -r $(VENV)/named.txt
	$(VENV)/lock/bin/python -m pip freeze --all --exclude pip > requirements.lock

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11 to 3.13 is needed, $(PYTHON) is %d.%d; name another: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): some minutes, about 3 GB. Only the first time."

$(VENV)/.installed: requirements.txt requirements.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
