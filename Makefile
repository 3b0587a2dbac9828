# make test   everything that CI runs: lint, types, import floors, docs, tests
# make core   the compiled core, in place (test and bench make it, too)
# make brokers   the tests of brokers, over every kind, or as BROKERS=sentinel,cluster says
# make demo   the chat: http://127.0.0.1:8000
# make autobahn   the Autobahn test suite against both ends of the WebSocket protocol (a quarter of an hour)
# make bench  the benchmarks (needs gcc; with libssl-dev also over TLS, with node and libev-dev also peers)
# make fuzz   every parser for a minute, or as FUZZ="--seconds 600 --only http" says
#
# Each target makes what it needs in .venv; nothing but Python 3.11+ and make has to be there. Where a C
# compiler and Python's headers are, too, the core is compiled.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# More than processors: they wait for most of the time.
PYTEST_WORKERS ?= 5

# Worker processes would compile every module anew at each start.
unexport PYTHONDONTWRITEBYTECODE

# The pip that is there installs into the environment; a further one in it takes longer than all the rest of making it.
BASE = $(shell sed -n 's/^executable = //p' $(VENV)/pyvenv.cfg)
PIP = $(if $(shell test -x $(BIN)/pip && echo yes),$(BIN)/pip,$(BASE) -m pip --python $(BIN)/python)
PIP_INSTALL = $(PIP) install -q --disable-pip-version-check --only-binary :all:

# One installation is quicker than two: for anything but the server itself it takes the tests' requirements along.
# The core is not built on the way: `core` does it beside the checks, and the demo does without. .run holds what was taken. Most of them are imported in part, so they are compiled as they are imported.
EXTRAS := $(if $(filter-out demo bench fuzz clean,$(or $(MAKECMDGOALS),test)),[test])

.PHONY: test checks core lint types imports docs tests brokers autobahn demo bench fuzz clean

# The checks run side by side, the tests alone: they start servers and keep deadlines.
test: $(VENV)/.test
	@$(MAKE) --no-print-directory --output-sync=target -j2 checks
	@$(MAKE) --no-print-directory tests

checks: core types docs lint imports

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed (set PYTHON=...)"; exit 1; }
	@$(PYTHON) -m pip --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" --version >/dev/null 2>&1 && $(PYTHON) -m venv --without-pip $(VENV) 2>/dev/null || \
	  $(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); \
	  echo "This Python has no venv; installing Debian's python3-venv"; \
	  apt-get update -q && apt-get install -q -y python3-venv && $(PYTHON) -m venv $(VENV); }

$(VENV)/.run: setup.cfg pyproject.toml | $(BIN)/python
	GWORKER_PURE=1 $(PIP_INSTALL) $(if $(EXTRAS),--no-compile) --editable '.$(EXTRAS)'
	@echo '$(EXTRAS)' >$@

$(VENV)/.test: $(VENV)/.run
	@grep -q test $< || { set -x; GWORKER_PURE=1 $(PIP_INSTALL) --no-compile --editable '.[test]'; }
	@touch $@

# The peers have an environment of their own. One that does not install here is left out of the rows.
PEERS := benchmarks/environment
PEERS_PIP = $(if $(shell test -x $(BIN)/pip && echo yes),$(BIN)/pip,$(BASE) -m pip) --python $(PEERS)/bin/python

$(VENV)/.bench: $(VENV)/.run benchmarks/requirements.txt
	$(PIP_INSTALL) trustme 'redis >=8.1'
	$(BIN)/python -m venv --without-pip $(PEERS)
	@sed 's/ *#.*//; /^$$/d' benchmarks/requirements.txt | while read -r package; do \
	  $(PEERS_PIP) install -q --disable-pip-version-check "$$package" || echo "$$package does not install here; it is left out"; done
	@npm install --silent --prefix $(PEERS) ws || echo "npm does not install ws here; it is left out"
	@touch $@

COMPILER = import os, shutil, sysconfig as s; \
  print(os.path.exists(s.get_path("include") + "/Python.h") and shutil.which((os.environ.get("CC") or s.get_config_var("CC")).split()[0]) or "")

core: $(VENV)/.run
	@if [ -z "$$($(BIN)/python -c '$(COMPILER)')" ]; then \
	  echo "No C compiler, or no Python.h: the compiled core is not built, and only the one in Python is tested"; \
	else \
	  $(BIN)/python -c 'import Cython, setuptools' 2>/dev/null || $(PIP_INSTALL) 'Cython >=3.1' 'setuptools >=77'; \
	  GWORKER_REQUIRE_CORE=1 $(BIN)/python setup.py -q build_ext --inplace; \
	fi

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

imports: $(VENV)/.test
	$(BIN)/lint-imports --no-cache --no-verbose 2>/dev/null || $(BIN)/lint-imports --no-cache

# The core in Python has the types of what is documented.
docs: $(VENV)/.test
	GWORKER_PURE=1 $(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

# What runs with the compiled core and again with the one in Python.
WITH_BOTH_CORES := $(addprefix tests/,core http protocols connection handover $(patsubst %,integration/test_%.py,\
  buffers connections handover http_long http_ws serving websocket))

tests: $(VENV)/.test core
	$(BIN)/python -m compileall -q gworker
	@$(BIN)/python -c 'from gevent import monkey; monkey.patch_all(); import gworker.process.worker_process'  # the rest that children import
	$(BIN)/pytest -n $(PYTEST_WORKERS) --durations=25
	@if $(BIN)/gworker --version | grep -q compiled; then set -x; \
	  GWORKER_PURE=1 $(BIN)/pytest -n $(PYTEST_WORKERS) $(WITH_BOTH_CORES); fi

brokers: $(VENV)/.test core
	$(BIN)/pytest -n $(PYTEST_WORKERS) tests/broker --brokers $(or $(BROKERS),all)

$(VENV)/.autobahn: $(VENV)/.test
	$(PIP_INSTALL) 'kosoku ==0.1.0'
	@touch $@

autobahn: $(VENV)/.autobahn
	$(BIN)/python tests/conformance/autobahn.py $(or $(AUTOBAHN),all)

demo: $(VENV)/.run
	@echo "The chat will be at http://127.0.0.1:8000 (Ctrl-C stops it)"
	$(BIN)/gworker examples/chat.py

bench: $(VENV)/.bench core
	$(BIN)/python benchmarks/run.py $(BENCH)

fuzz: $(VENV)/.run
	$(PIP_INSTALL) 'atheris >=3'
	$(BIN)/python tests/fuzz/fuzz.py $(FUZZ)

clean:
	rm -rf $(VENV) docs/_build build gworker/core/*.c gworker/core/*.so *.egg-info .mypy_cache .ruff_cache .pytest_cache benchmarks/bin $(PEERS)
