# `make demo` and `make test` need nothing but Python 3.11 or 3.12 and the system's libGL, libglib and libxcb: the environment is made on
# the first call, and again when pyproject.toml has changed.

PYTHON ?= python3
READY := .venv/.ready

.PHONY: demo test lint clean

demo: $(READY)
	.venv/bin/ntf demo

test: $(READY)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile -m "not slow"

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# CPU torch where a local wheel or the platform gives it, CUDA torch on a GPU machine: the same command, the same pins.
$(READY): pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv demo runs store report.html
