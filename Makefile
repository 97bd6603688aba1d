# SPDX-License-Identifier: LGPL-3.0-or-later
# Every target sets up what it needs: a virtual environment in .venv with this package in it.
#   make quickstart           train a model of water, test it, run dynamics, draw quickstart.png
#   make test                 the tests that run in minutes
# Variables: PYTHON=python3.12 (which Python), TORCH="torch==2.13.0" (what pip is asked for),
# ARGS="..." (passed on to pytest or the script). pip follows your own settings.

VENV ?= .venv
TORCH ?= torch==2.13.0
EXTRAS ?= torch,jax,ase,plot,test,docs
PYTHON ?=
ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.installed
SOURCES := deepmd tests examples benchmarks docs

.PHONY: help install quickstart test test-slow lint format docs bench clean
.DELETE_ON_ERROR:

help:
	@echo "make quickstart | test | test-slow | lint | format | docs | bench | install | clean"

install: $(READY)

quickstart: $(READY)
	@$(BIN)/python examples/quickstart.py $(ARGS)

# Two processes with one thread each: tests are small.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not exhaustive" $(ARGS)

test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/python docs/_ext/support.py

docs: $(READY)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(READY)
	$(BIN)/python benchmarks/train.py $(ARGS)
	$(BIN)/python benchmarks/infer.py $(ARGS)

clean:
	rm -rf docs/_build quickstart quickstart.png build *.egg-info

# The environment. PyTorch comes first and is kept when it is there already, so that a version of
# your own choice (another CUDA, a local wheel) stays.
$(READY): pyproject.toml | $(BIN)/python
	@$(BIN)/python -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null \
	  || { echo "installing $(TORCH)"; $(BIN)/python -m pip install -q $(TORCH); }
	@echo "installing this package with [$(EXTRAS)]"
	@$(BIN)/python -m pip install -q -e ".[$(EXTRAS)]"
	@touch $@

# The first Python from 3.11 to 3.13 that can make an environment (TorchScript ends with 3.14).
$(BIN)/python:
	@found=; \
	for p in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  command -v $$p >/dev/null 2>&1 || continue; \
	  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || continue; \
	  found=$$p; \
	  $$p -c 'import ensurepip, venv' 2>/dev/null || continue; \
	  echo "making $(VENV) with $$($$p --version)"; \
	  exec $$p -m venv $(VENV); \
	done; \
	if [ -n "$$found" ]; then \
	  echo "make: $$found cannot make virtual environments; install the Debian package python3-venv (or $$($$found -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'))" >&2; \
	else \
	  echo "make: no Python from 3.11 to 3.13 found; install the Debian packages python3 and python3-venv, or give PYTHON=/path/to/python" >&2; \
	fi; \
	exit 1
