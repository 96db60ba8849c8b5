# Everything a contributor runs. `make help` lists the targets; CONTRIBUTING.md says more.
PYTHON ?= python3
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 600
SOAK_CLASSES ?= gthread,gevent,asgi
# What is served by `make serve`, and where.
APP ?= demo:app
BIND ?= 127.0.0.1:8000

VENV := .venv
BIN := $(VENV)/bin
TOOLS := $(VENV)/.tools
BUILT := $(VENV)/.built
# Cargo and maturin must agree on the interpreter, or each would rebuild what the other built.
export PYO3_PYTHON := $(abspath $(BIN)/python)
RUST := Cargo.toml Cargo.lock $(shell find crates -name '*.rs' -o -name Cargo.toml)

.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(BUILT)  ## make .venv and build everything into it, with all extras

serve: build  ## serve examples/demo.py on http://127.0.0.1:8000 (or APP=hello:app, BIND=...)
	cd examples && exec ../$(BIN)/remuda -b $(BIND) $(APP)

test: build  ## run every test: Rust, the model of the channel, Python
	cargo test --quiet --workspace
	@$(MAKE) --no-print-directory loom
	$(BIN)/python -m pytest -n auto

lint: build need-lint  ## rustfmt, clippy, ruff, mypy, import contracts
	cargo fmt --all --check
	cd fuzz && cargo fmt --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(TOOLS) need-lint  ## format all sources
	cargo fmt --all
	cd fuzz && cargo fmt
	$(BIN)/ruff check --quiet --fix-only
	$(BIN)/ruff format --quiet

fuzz: need need-fuzz  ## run each fuzz target for FUZZ_SECONDS (60)
	FUZZ_SECONDS=$(FUZZ_SECONDS) fuzz/run

loom: need  ## try every interleaving of the channel's protocol
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --quiet --release -p remuda-channel --lib model

soak: build  ## load servers for SOAK_SECONDS (600) while they are reloaded and killed
	PYTHONPATH=tests $(BIN)/python -m soak --seconds $(SOAK_SECONDS) --classes $(SOAK_CLASSES)

wheel: $(TOOLS)  ## one wheel for each Python from 3.10 on that is installed, into dist/
	@interpreters=$$(.ci/pythons) && echo "wheels for:" $$interpreters && \
	env -u PYO3_PYTHON $(BIN)/maturin build --quiet --release --out dist --interpreter $$interpreters
	@ls dist/*.whl

clean:  ## remove everything that was built
	rm -rf $(VENV) target fuzz/target dist python/remuda/*.so .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

need:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { echo "remuda needs Python 3.10 or newer as '$(PYTHON)': apt-get install python3 python3-venv, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "remuda needs Python's venv module: apt-get install python3-venv"; exit 1; }
	@command -v cargo >/dev/null || { echo "remuda needs a Rust toolchain, 1.88 or newer: see https://rustup.rs"; exit 1; }
	@cargo --version | awk '{ split($$2, version, "."); exit version[1] == 1 && version[2] < 88 }' || { echo "remuda needs Rust 1.88 or newer, this is $$(cargo --version): rustup update stable"; exit 1; }
	@command -v cc >/dev/null || { echo "remuda needs a C compiler to link with: apt-get install gcc libc6-dev"; exit 1; }

need-lint: need
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || { echo "make lint needs rustfmt and clippy: rustup component add rustfmt clippy"; exit 1; }

need-fuzz:
	@command -v c++ >/dev/null || { echo "make fuzz needs a C++ compiler, libFuzzer is written in it: apt-get install g++"; exit 1; }

$(TOOLS): pyproject.toml | need
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing what building, checking and testing needs into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade "pip>=25.1" "maturin>=1.8,<2"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group lint --group test
	@touch $@

# Python sources need no building: the package is installed as it lies here.
$(BUILT): $(TOOLS) $(RUST)
	@echo "building the extension module"
	@PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1 VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --quiet --extras all
	@touch $@

include bench/bench.mk

.PHONY: help build serve test lint fmt fuzz loom soak wheel clean need need-lint need-fuzz
