# Every target prepares what it needs in .venv; nothing has to be installed by hand but a C compiler and Python.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install --quiet --disable-pip-version-check

CORE    := $(sort $(shell find csrc -name "*.cdef" -o -name "*.[ch]"))
BUILD   := build_ffi.py setup.py pyproject.toml
C_FILES  = $(sort $(shell find csrc -name "*.[ch]") $(wildcard tests/native/c/*.[ch] tests/native/fuzz/*.[ch] bench/*.[ch]))
PY_FILES = build_ffi.py setup.py pysandpool pytest_pysandpool.py $(sort $(wildcard bench/*.py examples/*.py tools/*.py))

# Stamps: runner = pytest, which is all that the C tests need; tools = the build's own requirements; installed = the
# package, editable, with the extras that the target needs; built = the compiled parts follow their sources; strict =
# the same, with warnings as errors.
RUNNER    := $(VENV)/.stamp-runner
TOOLS     := $(VENV)/.stamp-tools
INSTALLED := $(VENV)/.stamp-installed
LINTERS   := $(VENV)/.stamp-linters
GCOVR     := $(VENV)/.stamp-gcovr
MKDOCS    := $(VENV)/.stamp-mkdocs
BUILT     := $(VENV)/.stamp-built
STRICT    := $(VENV)/.stamp-strict
# An environment of its own, because these frameworks bring plugins of pytest and hundreds of packages.
CLIENTS   := $(VENV)/clients/.stamp

CORES   := $(shell getconf _NPROCESSORS_ONLN)
# A compiler that keeps its objects by content. Nothing is skipped for its date: --force costs little then.
KEPT_CC  = CC="$(CURDIR)/$(PY) -IS $(CURDIR)/tools/object_cache.py $(if $(filter environment command,$(firstword $(origin CC))),$(CC),gcc)"
REBUILD  = $(KEPT_CC) $(PY) setup.py -q build_ext --inplace --force --parallel 2 build_zygote --inplace
EXTRA    = $(PY) tools/requirements.py $(1) | $(PIP) --requirement /dev/stdin

# Many tests wait more than they compute, so there are more of them at a time than cores.
WORKERS ?= $(shell expr 2 '*' $(CORES))
PYTEST   = $(PY) -m pytest -n $(WORKERS) --dist loadfile
# Of what a sandbox is, without attacks, budgets and the memory limit; see also the marker `slow`.
QUICK    = tests/unit tests/contract tests/execute tests/isolation tests/native/test_c.py

.PHONY: help prepare demo quick test test-all test-c coverage fuzz wheels lint format bench docs soak clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

prepare: $(STRICT) $(LINTERS) $(MKDOCS) $(CLIENTS) ## install and build what lint, docs and test need

demo: $(BUILT) ## judge a folder of good and hostile submissions, then time the pool
	$(PY) examples/judge.py
	$(PY) -m pysandpool bench --allow-degradation

prepare quick test test-all test-c: export SANDPOOL_WERROR = 1
quick: $(STRICT) ## a minute: what a change most likely breaks
	SANDPOOL_TESTS=quick $(PYTEST) -q $(QUICK) $(PYTEST_ARGS)

test: $(STRICT) $(CLIENTS) ## minutes: all tests, C and Python, of a build with warnings as errors
	$(PYTEST) $(PYTEST_ARGS)

test-all: $(STRICT) $(CLIENTS) coverage ## hours: these, both compilers, planted bugs, long runs, coverage; other Pythons; a container; other kernels in a virtual machine
	SANDPOOL_TESTS=extended SANDPOOL_FUZZ_SECONDS=60 SANDPOOL_MODEL_THREADS=4 SANDPOOL_MODEL_EXAMPLES=2000 \
	    $(PYTEST) --timeout 1200 $(PYTEST_ARGS)
	SANDPOOL_TIDY=all $(MAKE) lint
	$(PY) tests/wheels/run.py
	$(PY) tests/container/run.py
	$(PY) tests/vm/run.py

# Without the package: conftest.py of all tests, which imports it, is cut off, and its plugins are named.
test-c: $(RUNNER) ## the C tests only: each compiler, plain and under the sanitizers
	SANDPOOL_TESTS=$(or $(SANDPOOL_TESTS),extended) PYTHONPATH=tests/support \
	    $(PYTEST) -p parallel -p selection --confcutdir=tests/native tests/native/test_c.py $(PYTEST_ARGS)

coverage: $(BUILT) $(GCOVR) ## what of the C code no test runs; fails when tests/native/coverage/allowed.txt gives no reason
	$(PY) tests/native/coverage/run.py $(COVERAGE_ARGS)

fuzz: $(STRICT) ## the code that reads messages of other processes, under libFuzzer, for an hour (FUZZ_ARGS="--seconds 600 job")
	$(PY) tests/native/fuzz/run.py $(FUZZ_ARGS)

wheels: $(TOOLS) ## a wheel of each Python of this machine, and the tests on wheels that another one built (WHEELS_ARGS="--only 3.9")
	$(PY) tests/wheels/run.py $(WHEELS_ARGS)

lint: $(BUILT) $(LINTERS) ## ruff, mypy, clang-format, clang-tidy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy $(PY_FILES)
	$(VENV)/bin/clang-format --dry-run -Werror $(C_FILES)
	$(PY) tools/tidy.py $(VENV)/bin/clang-tidy $(filter %.c,$(C_FILES))

format: $(LINTERS) ## rewrite the sources as `lint` wants them
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(VENV)/bin/clang-format -i $(C_FILES)

bench: $(BUILT) ## the table of budgets, with a verdict for each row
	$(PY) bench/table.py $(BENCH_ARGS)

docs: $(BUILT) $(MKDOCS) ## the documentation as a site in site/; a warning fails the build
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

soak: $(BUILT) ## a random mix of everything, looked at each second: SECONDS=600 SEED=1
	$(PY) tests/faults/soak.py --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

clean: ## remove all that was built, .venv too
	rm -rf $(VENV) build dist site *.egg-info pysandpool/_bin pysandpool/*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: apt-get install python3 python3-venv | dnf install python3 | apk add python3 (or: make PYTHON=...)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || { echo "Python 3.9 or newer is needed: make PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "venv is missing: apt-get install python3-venv"; exit 1; }

$(RUNNER): | $(PY)
	$(PIP) 'pytest>=8' pytest-timeout pytest-xdist
	@touch $@

$(TOOLS): setup.py | $(PY)
	$(PIP) --upgrade 'pip>=23' 'setuptools>=77' 'cffi>=1.16'
	@$(PY) setup.py -q check_toolchain
	@touch $@

$(INSTALLED): $(BUILD) $(TOOLS)
	$(call EXTRA,bench test)
	$(KEPT_CC) $(PIP) --no-build-isolation --no-deps --editable .
	@touch $@ $(RUNNER) $(BUILT) $(if $(SANDPOOL_WERROR),$(STRICT))

$(LINTERS): pyproject.toml $(TOOLS)
	$(call EXTRA,lint)
	@touch $@

$(GCOVR): pyproject.toml $(TOOLS)
	$(call EXTRA,coverage)
	@touch $@

$(CLIENTS): tests/clients/requirements.txt | $(PY)
	$(PY) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(MKDOCS): pyproject.toml $(TOOLS)
	$(call EXTRA,docs)
	@touch $@

# Skipped when the installation has just built these sources.
$(BUILT): $(CORE) $(INSTALLED)
	@if [ ! -e $@ ] || [ -n "$$(find $^ -newer $@)" ]; then rm -f $(STRICT); $(REBUILD); fi
	@touch $@

$(STRICT): $(CORE) $(INSTALLED)
	@if [ ! -e $@ ] || [ -n "$$(find $^ -newer $@)" ]; then $(REBUILD); fi
	@touch $(BUILT) $@
