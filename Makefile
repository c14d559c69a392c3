# Everything here sets up .venv by itself; `make help` says what there is.

PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
  if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then command -v $$name; break; fi; done)
BIN := .venv/bin
READY := .venv/ready
# three at once, two of them for the tests that start processes; then, alone, those that compare times
PYTEST = $(BIN)/pytest $(3) -n 3 --dist loadgroup -m "$(1)" $(2) && $(BIN)/pytest $(3) -m quiet $(2)

.PHONY: help demo test screenshots check format clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## Show the whole thing on this machine, with its own Postgres
	@$(BIN)/dispatcher demo

test: $(READY) ## Run the tests, on the embedded Postgres and on an installed one
	@$(call PYTEST,not quiet,--postgres=embedded,tests)
	@if PYTHONPATH=tests $(BIN)/python -m support.postgres; then \
	  $(call PYTEST,not quiet and not browser,--postgres=system,tests/integration tests/system); fi

screenshots: $(READY) ## Take pictures of the console's pages into docs/screenshots
	@PYTHONPATH=tests $(BIN)/python -m support.screenshots docs/screenshots

check: $(READY) ## Run all that CI runs: ruff, mypy, import-linter, the tests
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(MAKE) --no-print-directory test

format: $(READY) ## Let ruff write the code as it wants it
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

clean: ## Remove what the above made
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(READY): pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
	  echo "dispatcher needs Python 3.11 or newer, and found none. Install it, or run: make PYTHON=/path/to/python3" >&2; \
	  exit 1; fi
	@echo "Setting up .venv with $(PYTHON): about a minute, once" >&2
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
