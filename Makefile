# Every target works on a fresh clone: it makes .venv first if that is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The program alone, without the tools of its developers.
PROGRAM := $(VENV)/.program
# One worker per core, each with one thread: more would slow each other down.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

.PHONY: install demo docs test test-all check chaos format bench clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ $(PROGRAM)

$(PROGRAM): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

demo: $(PROGRAM)
	rm -rf demo
	$(BIN)/heliodor demo --out demo

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

test: $(STAMP)
	$(PYTEST) -m "not slow"

# With the documentation site, and the tests of the app in Chromium if there is one.
test-all: docs
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,browser]'
	$(PYTEST)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m "not slow"

chaos: $(STAMP)
	$(BIN)/python -m benchmarks.reliability.chaos_train --kills 25
	$(BIN)/python -m benchmarks.reliability.chaos_pick --kills 30

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m benchmarks.accuracy.main_job

clean:
	rm -rf $(VENV) demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis
