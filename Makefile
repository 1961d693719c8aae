# Everything from nothing but Python 3.11+ and make. Each target sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo

.PHONY: demo test test-slow lint format docs clean

demo: .venv/.ready
	rm -rf $(DEMO)
	$(BIN)/gyrus demo --out $(DEMO)

test: .venv/.ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope -m "not slow"

test-slow: .venv/.ready-dev
	$(BIN)/python -m pytest

lint: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.ready-docs
	$(BIN)/zensical build --clean

clean:
	rm -rf .venv build dist site $(DEMO) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# uv installs in seconds; where it cannot be had, pip does the same in a minute or two.
define install
	@$(BIN)/python -m pip install --quiet uv 2>/dev/null \
	  && $(BIN)/uv pip install --python $(BIN)/python --quiet --constraint constraints.txt --editable "$(1)" \
	  || $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable "$(1)"
	@touch $@
endef

.venv/bin/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
	  || { echo "Gyrus needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Setting up .venv (PyTorch is several GB) ..."
	@$(PYTHON) -m venv .venv

.venv/.ready: .venv/bin/python pyproject.toml constraints.txt
	$(call install,.)

.venv/.ready-dev: .venv/bin/python pyproject.toml constraints.txt
	$(call install,.[dev$(comma)huggingface])

.venv/.ready-docs: .venv/bin/python pyproject.toml constraints.txt
	$(call install,.[docs])

comma := ,
