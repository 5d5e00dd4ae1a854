# Two commands: `make repro` regenerates every result, `make test` runs the tests. Both install what they need first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
LOCK = requirements/$(shell $(PYTHON) -c 'import sys; print("py%d%d" % sys.version_info[:2])').lock

.PHONY: repro test check rehearse
repro: $(VENV)/.installed
	PATH="$(BIN):$$PATH" dvc repro

test: $(VENV)/.installed
	$(BIN)/python -m pytest

# All of the paper profile on small stand-ins for the official files; see paper/README.md.
rehearse: $(VENV)/.installed
	$(BIN)/python -m pipelines.assets
	$(BIN)/python -m pipelines.rehearsal

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml $(wildcard requirements/*.lock)
	@test -f "$(LOCK)" || { echo "error: Python 3.10, 3.11 or 3.12 is needed, and $(PYTHON) is another: say PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement $(LOCK)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
