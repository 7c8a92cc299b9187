# What a person does with this project; the same commands run in CI.
#   make run    the real logs in data/ through the default pipeline
#   make test   every check and every test
#   make chaos  faults by chance and for longer: servers, disks, killed processes, simulated seeds
#   make lab    the control room in JupyterLab
#   make app    the control room as a web page
#   make docs   the documentation as a site, in site/
#   make bench  speed and memory, side by side with other tools; the stores, side by side

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
comma := ,
LOGS = $(filter-out data/boot.log,$(wildcard data/*.log data/*.jsonl data/*.logfmt))

# Without bytecode on the disk each process compiles etl again, which takes longer than all it does.
unexport PYTHONDONTWRITEBYTECODE

# $(call install,EXTRAS): install etl with extras, name each package that is fetched, and keep all
# that pip says in a file, of which the end is shown if it fails.
define install
	@echo "Installing etl$(1) and what it needs into $(VENV):"
	@($(PIP) -e '.$(1)' 2>&1 || touch $(VENV)/.failed) | tee $(VENV)/install.log | sed -n \
		-e 's/^Collecting \([^ <>=!~;(]*\).*/  fetching \1/p' \
		-e 's/^  Downloading .*(\([0-9.]* [MG]B\))$$/    \1/p' \
		-e 's/^Installing collected packages.*/  installing them/p'
	@if [ -e $(VENV)/.failed ]; then rm $(VENV)/.failed; tail -n 20 $(VENV)/install.log; exit 1; fi
	@$(BIN)/python -m compileall -q etl
endef

.PHONY: run test chaos lab app docs bench clean help

help:
	@grep '^#   ' Makefile | sed 's/^#   //'

run: $(VENV)/.run
	$(BIN)/etl run $(LOGS)

test: $(VENV)/.test $(VENV)/.chromium $(VENV)/.servers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

chaos: $(VENV)/.test $(VENV)/.servers
	ETL_CHAOS_ROUNDS=20 $(BIN)/pytest -v tests/acceptance/test_postgres_faults.py
	ETL_CHAOS_ROUNDS=20 $(BIN)/pytest -v tests/acceptance/test_server.py -k whatever
	ETL_CHAOS_ROUNDS=1 $(BIN)/pytest -v tests/acceptance/test_disk_faults.py tests/acceptance/test_kill.py \
		tests/acceptance/test_guides.py
	ETL_CHAOS_ROUNDS=500 $(BIN)/pytest -n 2 tests/acceptance/test_chaos.py
	ETL_CHAOS_MINUTES=10 $(BIN)/pytest -n 2 --dist loadfile tests/simulation tests/fuzz

lab: $(VENV)/.notebook
	$(BIN)/etl lab

app: $(VENV)/.notebook
	$(BIN)/etl app

docs: $(VENV)/.docs
	$(BIN)/python tools/reference.py
	$(BIN)/zensical build --strict --clean
	@echo 'open site/index.html; or, with search: $(BIN)/python -m http.server -d site'

bench: $(VENV)/.bench $(VENV)/.servers
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) site .cache data/runs .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(call install)
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(call install,[dask$(comma)databases$(comma)delta$(comma)docs$(comma)http$(comma)kafka$(comma)lake$(comma)notebook$(comma)otlp$(comma)postgres$(comma)query$(comma)remote$(comma)server$(comma)test])
	@touch $@ $(VENV)/.run $(VENV)/.notebook $(VENV)/.docs

# A browser: one that is there, else Debian's package, else Playwright's own.
$(VENV)/.chromium: $(VENV)/.test
	command -v chromium >/dev/null || (apt-get update && apt-get install -y chromium) \
		|| $(BIN)/playwright install --with-deps chromium
	@touch $@

# PostgreSQL and PgBouncer, for servers that tests and benchmarks start, a syslog daemon that
# sends, and what makes a systemd journal; Debian keeps them off the path.
$(VENV)/.servers: $(VENV)/bin/python
	PATH="$$PATH:/usr/sbin:$$(echo /usr/lib/postgresql/*/bin | tr ' ' :)"; \
	(command -v initdb && command -v pgbouncer) >/dev/null \
		|| (apt-get update && apt-get install -y postgresql pgbouncer) \
		|| echo "PostgreSQL or PgBouncer cannot be installed here: what needs them is skipped"
	PATH="$$PATH:/usr/sbin"; (command -v rsyslogd || command -v syslog-ng) >/dev/null \
		|| (apt-get update && apt-get install -y rsyslog) \
		|| echo "rsyslog cannot be installed here: a test of etl listen fails without it"
	PATH="$$PATH:/usr/lib/systemd:/lib/systemd"; command -v systemd-journal-remote >/dev/null \
		|| (apt-get update && apt-get install -y systemd-journal-remote) \
		|| echo "systemd-journal-remote cannot be installed here: tests of journals are skipped"
	@touch $@

$(VENV)/.notebook: $(VENV)/bin/python pyproject.toml constraints.txt
	$(call install,[notebook])
	@touch $@ $(VENV)/.run

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(call install,[docs$(comma)server])
	@touch $@ $(VENV)/.run

$(VENV)/.bench: $(VENV)/bin/python pyproject.toml constraints.txt
	$(call install,[bench$(comma)postgres$(comma)server])
	@touch $@ $(VENV)/.run
