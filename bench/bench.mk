# `make bench`: the comparisons of docs/performance.md. Included by the Makefile.
BENCH_VENV := .bench-venv
BENCH_ARGS ?= all

$(BENCH_VENV)/.%: bench/%.txt | need
	@test -x $(BENCH_VENV)/$*/bin/python || $(PYTHON) -m venv $(BENCH_VENV)/$*
	$(BENCH_VENV)/$*/bin/python -m pip install -q --upgrade -r $<
	@touch $@

bench: build $(BENCH_VENV)/.peers $(BENCH_VENV)/.gunicorn25  ## compare with the peers; prints Markdown (~20 minutes)
	@$(PYTHON) -m bench $(BENCH_ARGS)

.PHONY: bench
