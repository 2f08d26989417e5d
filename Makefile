# Every target prepares what it needs in .venv; nothing has to be installed by hand but a C compiler and Python.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install --quiet --disable-pip-version-check

CORE    := $(sort $(shell find csrc -name "*.cdef" -o -name "*.[ch]"))
BUILD   := build_ffi.py setup.py pyproject.toml
C_FILES  = $(sort $(shell find csrc -name "*.[ch]") $(wildcard tests/native/c/*.[ch] tests/native/fuzz/*.[ch] bench/*.[ch]))
PY_FILES = build_ffi.py setup.py pysandpool $(sort $(wildcard bench/*.py examples/*.py tools/*.py))

# Stamps: tools = the build's own requirements; installed = the package, editable, with the extras that the target
# needs; built = the compiled parts follow their sources; strict = the same, with warnings as errors.
TOOLS     := $(VENV)/.stamp-tools
INSTALLED := $(VENV)/.stamp-installed
LINTERS   := $(VENV)/.stamp-linters
GCOVR     := $(VENV)/.stamp-gcovr
MKDOCS    := $(VENV)/.stamp-mkdocs
BUILT     := $(VENV)/.stamp-built
STRICT    := $(VENV)/.stamp-strict

ZIG = $(dir $(shell $(PY) -c 'import ziglang; print(ziglang.__file__)'))
REBUILD = $(PY) setup.py -q build_ext --inplace $(1) build_zygote --inplace

.PHONY: help demo test test-all test-c coverage fuzz lint format bench docs soak clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: $(BUILT) ## judge a folder of good and hostile submissions, then time the pool
	$(PY) examples/judge.py
	$(PY) -m pysandpool bench

test test-all test-c: export SANDPOOL_WERROR = 1
test: $(STRICT) ## all tests, C and Python, of a build with warnings as errors
	$(PY) -m pytest $(PYTEST_ARGS)

test-all: test coverage ## the same, coverage, a larger model, then those that need another kernel, in a virtual machine (Debian; fetches qemu and a kernel)
	SANDPOOL_MODEL_THREADS=4 SANDPOOL_MODEL_EXAMPLES=2000 $(PY) -m pytest tests/native/test_model.py tests/contract/test_pool_model.py
	$(PY) tests/vm/run.py

test-c: $(STRICT) ## the C tests only: each compiler, plain and under the sanitizers
	$(PY) -m pytest tests/native/test_c.py $(PYTEST_ARGS)

coverage: $(BUILT) $(GCOVR) ## what of the C code no test runs; fails when tests/native/coverage/allowed.txt gives no reason
	$(PY) tests/native/coverage/run.py $(COVERAGE_ARGS)

fuzz: $(STRICT) ## the readers of what comes over the walls under libFuzzer, for an hour (FUZZ_ARGS="--seconds 600 job")
	$(PY) tests/native/fuzz/run.py $(FUZZ_ARGS)

lint: $(BUILT) $(LINTERS) ## ruff, mypy, clang-format, clang-tidy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy $(PY_FILES)
	$(VENV)/bin/clang-format --dry-run -Werror $(C_FILES)
	@# Its warnings are errors, so that the exit status tells; what it says of its progress goes to stderr.
	printf '%s\n' $(filter-out %_darwin.c,$(filter %.c,$(C_FILES))) | xargs -P "$$(getconf _NPROCESSORS_ONLN)" -n 4 \
	    sh -c '$(VENV)/bin/clang-tidy --quiet "$$@" -- -std=c11 -D_GNU_SOURCE -Icsrc -Itests/native/c -Itests/native/fuzz 2>/dev/null' tidy
	@# What is for macOS is read with the headers that zig brings; tests/repo/test_mac_build.py compiles it.
	$(VENV)/bin/clang-tidy --quiet $(filter %_darwin.c,$(C_FILES)) -- -target aarch64-apple-macos11 -std=c11 -Icsrc \
	    -nostdinc $(foreach d,include libc/include/any-darwin-any,-isystem $(ZIG)lib/$(d)) 2>/dev/null

format: $(LINTERS) ## rewrite the sources as `lint` wants them
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(VENV)/bin/clang-format -i $(C_FILES)

bench: $(BUILT) ## the table of budgets, with a verdict for each row
	$(PY) bench/table.py $(BENCH_ARGS)

docs: $(BUILT) $(MKDOCS) ## the documentation as a site in site/; a warning fails the build
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

soak: $(BUILT) ## a random mix of everything, looked at each second: SECONDS=600 SEED=1
	$(PY) tests/faults/soak.py --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

clean: ## remove all that was built, .venv too
	rm -rf $(VENV) build dist site *.egg-info pysandpool/_bin pysandpool/*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(TOOLS): setup.py
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: apt-get install python3 python3-venv | dnf install python3 | apk add python3 (or: make PYTHON=...)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || { echo "Python 3.9 or newer is needed: make PYTHON=..."; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "venv is missing: apt-get install python3-venv"; exit 1; }
	$(PIP) --upgrade 'pip>=23' 'setuptools>=77' 'cffi>=1.16'
	@$(PY) setup.py -q check_toolchain
	@touch $@

$(INSTALLED): $(BUILD) $(TOOLS)
	$(PIP) --no-build-isolation --editable '.[bench,test]'
	@touch $@ $(BUILT) $(if $(SANDPOOL_WERROR),$(STRICT))

$(LINTERS): pyproject.toml $(TOOLS)
	$(PIP) --no-build-isolation --editable '.[lint]'
	@touch $@

$(GCOVR): pyproject.toml $(TOOLS)
	$(PIP) --no-build-isolation --editable '.[coverage]'
	@touch $@

$(MKDOCS): pyproject.toml $(TOOLS)
	$(PIP) --no-build-isolation --editable '.[docs]'
	@touch $@

# Skipped when the installation has just built these sources.
$(BUILT): $(CORE) $(INSTALLED)
	@if [ ! -e $@ ] || [ -n "$$(find $^ -newer $@)" ]; then rm -f $(STRICT); $(call REBUILD); fi
	@touch $@

$(STRICT): $(CORE) $(INSTALLED)
	@if [ ! -e $@ ] || [ -n "$$(find $^ -newer $@)" ]; then $(call REBUILD,--force); fi
	@touch $(BUILT) $@
