# Lading's commands. `make` alone lists them. They need Python 3.11 or newer, and make; with uv on
# PATH the environment is there in seconds, without it pip makes it.

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
# Tests wait for processes and servers as often as they compute: one more than there are cores.
TESTERS ?= $(shell expr 1 + $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))

# What Python has compiled is kept, whatever the outside wants: a platform is a dozen processes, and
# compiling is half of what it takes to start one.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help dev test test-docker chaos bench check fmt audit lock upgrade clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# No shell in between: make hands SIGTERM to the supervisor itself.
dev: $(VENV)/dev.installed ## Run all of Lading on this machine, until Ctrl-C
	@$(BIN)/python -m dev

test: $(VENV)/test.installed ## Run all tests that need no Docker, on servers of their own
	@$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder -m "not docker" $(ARGS)

test-docker: $(VENV)/test.installed ## Run the tests that need Docker and its images
	@$(BIN)/python -m pytest -m docker $(ARGS)

chaos: $(VENV)/test.installed ## Kill, freeze and wipe under load: is anything lost or wrong?
	@$(BIN)/python -m chaos $(ARGS)

bench: $(VENV)/test.installed ## Measure beside peers: rates, latency, CPU for each job
	@$(BIN)/python -m bench $(ARGS)

check: $(VENV)/test.installed ## Check format, lint, types, imports, locks and migrations
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m dev.lock --check
	$(BIN)/python -m dev.check_migrations

fmt: $(VENV)/test.installed ## Format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

audit: $(VENV)/dev.installed ## Recount a whole database: that of LADING_DATABASE_URL, or of `make dev`
	@$(BIN)/python -m jobs.audit $(ARGS)

lock: $(VENV)/test.installed ## Compile requirements/*.lock from pyproject.toml; versions stay
	$(BIN)/python -m dev.lock

upgrade: $(VENV)/test.installed ## Compile them with the newest versions
	$(BIN)/python -m dev.lock --upgrade

clean: ## Remove the environment and the caches; the data in .lading stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist

# What a lock holds is installed once, and again when the lock has changed. The test lock holds all
# of the dev lock in the same versions (`make check` sees to that), so either order is right.
$(VENV)/dev.installed: requirements/dev.lock | $(BIN)/python
	@$(call install,dev)
	@touch $@

$(VENV)/test.installed: requirements/test.lock | $(BIN)/python
	@$(call install,test)
	@touch $@ $(VENV)/dev.installed

# --no-deps: a lock is complete, so there is nothing to resolve. --no-compile: most modules are
# never imported, and those that are compile themselves once.
define install
echo "Installing requirements/$(1).lock …"; \
if [ -n "$(UV)" ]; then \
	"$(UV)" pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements/$(1).lock; \
else \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade >/dev/null; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps \
		--require-hashes -r requirements/$(1).lock; \
fi
endef

$(BIN)/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if [ -n "$(UV)" ]; then exec "$(UV)" venv --quiet --python "$$python" $(VENV); fi; \
		"$$python" -m venv $(VENV) && exit; \
		rm -rf $(VENV); exit 1; \
	done; \
	echo "Lading needs Python 3.11 or newer: install it, or name it: make dev PYTHON=/path/to/python3"; \
	exit 1
