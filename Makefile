# Everything a contributor runs. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

need:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { echo "remuda needs Python 3.10 or newer as '$(PYTHON)': install it (Debian: apt-get install python3 python3-venv) or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "remuda needs Python's venv module: apt-get install python3-venv"; exit 1; }
	@command -v cargo >/dev/null || { echo "remuda needs a Rust toolchain (1.88 or newer): https://rustup.rs or apt-get install rustup"; exit 1; }

$(STAMP): pyproject.toml | need
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade "pip>=25.1" "maturin>=1.8,<2"
	$(BIN)/python -m pip install -q --group lint --group test
	@touch $@

build: $(STAMP)  ## make .venv and build everything into it, with all extras
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --quiet --extras all

.PHONY: help need build
