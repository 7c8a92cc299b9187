# What a person does with this project; the same commands run in CI.
#   make run    the real logs in data/ through the default pipeline
#   make test   every check and every test
#   make bench  speed and memory, side by side with other tools

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
LOGS = $(filter-out data/boot.log,$(wildcard data/*.log data/*.jsonl data/*.logfmt))

.PHONY: run test lint bench clean help

help:
	@grep '^#   ' Makefile | sed 's/^#   //'

run: $(VENV)/.run
	$(BIN)/etl run $(LOGS)

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) data/runs .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.bench: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[bench]'
	@touch $@ $(VENV)/.run
