# Every verb makes .venv first, with all that work on the project needs.
PYTHON ?= python3
BIN := .venv/bin
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: install quickstart test quick lint docs bench package oldest

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: install
	$(BIN)/limbeck quickstart

# A process of one thread a core; at most four, as each takes 1.4 GB.
test quick: export OMP_NUM_THREADS = 1
test: install
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

# All tests but those that take more than 3 seconds each.
quick: install
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal -m "not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff check src --preview --select DOC102,DOC403 # no description of what is not there
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site of these pages, in build/site; every warning is an error.
docs: install
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/site

bench: install
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/step_ratio.py
	$(BIN)/python benchmarks/precision.py
	$(BIN)/python benchmarks/taps.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/costs.py
	$(BIN)/python benchmarks/mgd.py
	$(BIN)/python benchmarks/head.py
	$(BIN)/python benchmarks/fgfi.py
	$(BIN)/python benchmarks/host_waits.py
	$(BIN)/python benchmarks/evaluators.py

# What is uploaded to PyPI, and the wheel on its own: installed in a new environment, and run there.
package: install
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	.ci/installed dist/*.whl

# Tests from every room with the oldest versions of dependencies, in an environment of its own. QueryKD needs transformers.
OLDEST := $(addprefix tests/commands/test_, completion.py fit.py new.py predict.py recipe_schema.py) \
	tests/data/test_transforms.py tests/export/test_writing.py tests/methods/test_every_method.py tests/metrics \
	tests/models/test_precision.py tests/models/test_student.py tests/report tests/training/test_module.py
oldest: export OMP_NUM_THREADS = 1
oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal \
		-m "not slow" -k "not QueryKD" $(OLDEST)

.venv-oldest/installed: pyproject.toml constraints-oldest.txt
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[onnx,video]' \
		faster-coco-eval hatchling hypothesis jsonschema pytest pytest-benchmark pytest-xdist
	touch $@
