# Everything from nothing but Python 3.11+ and make. Each target sets up what it needs in .venv. `make help` lists them.
PYTHON ?= python3
DEMO ?= demo
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow bench mutants lint format docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/.ready  ## train on built-in phantom data and print where the report is
	rm -rf $(DEMO)
	$(BIN)/gyrus demo --out $(DEMO)

# Tests start many processes; without bytecode each of them, and each run, would compile the package and the tests anew.
test: .venv/.ready-dev  ## run the quick tests
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope -m "not slow"

test-slow: .venv/.ready-dev  ## run all tests
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

bench: .venv/.ready-dev  ## measure speed against other libraries and write benchmarks/results/peers.json (BENCH=--quick: 5 minutes)
	$(BIN)/python benchmarks/peers.py $(BENCH) --out benchmarks/results/peers.json --picture docs/images/speed.png

mutants: .venv/.ready-mutants  ## change the guarded modules in small ways, and list the changes that no test notices (hours)
	$(BIN)/mutmut run $(MUTANTS)
	$(BIN)/mutmut results

lint: .venv/.ready-dev  ## check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.ready-dev  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.ready-docs  ## build the documentation in site/
	$(BIN)/python docs/scripts/reference.py docs/reference
	$(BIN)/python docs/scripts/examples.py docs
	$(BIN)/zensical build --clean --strict

clean:  ## remove everything that these targets made
	rm -rf .venv build dist site mutants $(DEMO) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# uv installs in seconds; where it cannot be had, pip does the same in a minute or two.
define install
	@$(BIN)/python -m pip install --quiet uv 2>/dev/null \
	  && $(BIN)/python -m uv pip install --python $(BIN)/python --quiet --compile-bytecode --constraint constraints.txt --editable "$(1)" \
	  || $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable "$(1)"
	@touch $@
endef

.venv/.created:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
	  || { echo "Gyrus needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Setting up .venv (PyTorch is several GB) ..."
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.ready: .venv/.created pyproject.toml constraints.txt
	$(call install,.)

.venv/.ready-dev: .venv/.created pyproject.toml constraints.txt
	$(call install,.[dev$(comma)huggingface])

.venv/.ready-mutants: .venv/.created pyproject.toml constraints.txt
	$(call install,.[dev$(comma)huggingface$(comma)mutants])

.venv/.ready-docs: .venv/.created pyproject.toml constraints.txt
	$(call install,.[docs$(comma)export$(comma)tuning])

comma := ,
