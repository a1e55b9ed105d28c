.PHONY: help test demo lint types migrations messages docs screenshots clean

VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= -n auto
CATALOGS := $(wildcard lti_provider/locale/*/LC_MESSAGES/django.po)

# A Python that can make a virtual environment for us.
SUITABLE := import ensurepip, sqlite3, sys, venv; sys.exit(sys.version_info < (3, 11))
# The newest one found: $PYTHON if set, on PATH, or kept by pyenv outside of PATH.
define FIND_PYTHON
find_python() { \
  for python in "$$PYTHON" \
    python3.14 "$$HOME"/.pyenv/versions/3.14.*/bin/python3.14 \
    python3.13 "$$HOME"/.pyenv/versions/3.13.*/bin/python3.13 \
    python3.12 "$$HOME"/.pyenv/versions/3.12.*/bin/python3.12 \
    python3.11 "$$HOME"/.pyenv/versions/3.11.*/bin/python3.11 \
    python3 python; do \
    if "$$python" -c '$(SUITABLE)' 2>/dev/null; then command -v "$$python"; return; fi; \
  done; \
  echo 'No Python 3.11 or newer with venv was found. Install one (on Debian and Ubuntu:' >&2; \
  echo 'python3 and python3-venv), or name one: make PYTHON=/path/to/python3 ...' >&2; \
  return 1; \
}
endef

export PYTHON

help:
	@echo 'make test        every test that needs no server (SQLite; a browser if there is one)'
	@echo 'make demo        a demo LMS and a tool, to click through'
	@echo 'make lint        ruff: rules and format'
	@echo 'make types       mypy'
	@echo 'make migrations  fails if a model change lacks its migration'
	@echo 'make messages    brings the translations up to date with the code (needs GNU gettext)'
	@echo 'make docs        the documentation, in build/site'
	@echo 'make screenshots the pictures of the documentation, anew (needs Chromium)'
	@echo 'make clean       removes what the others made'

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(PYTEST_ARGS)

demo:
	@$(FIND_PYTHON); python=$$(find_python) && exec "$$python" example_project/demo.py

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed
	$(BIN)/mypy

migrations: $(VENV)/.installed
	$(BIN)/python -m django makemigrations lti_provider --check --dry-run --settings tests.settings

# Guesses are marked as fuzzy, and nobody sees them until a person has confirmed them.
messages: $(VENV)/.installed
	cd lti_provider && $(CURDIR)/$(BIN)/python -m django makemessages --all --no-location --no-obsolete
	sed -i.bak -E '/^"(POT-Creation-Date|Report-Msgid-Bugs-To):/d' $(CATALOGS)
	rm $(CATALOGS:=.bak)

docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --quiet --group docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

screenshots: $(VENV)/.installed
	$(BIN)/python docs/screenshots.py

clean:
	rm -rf $(VENV) .tox .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installing compiles the translations.
$(VENV)/.installed: pyproject.toml hatch_build.py $(CATALOGS)
	@$(FIND_PYTHON); \
	if ! $(BIN)/python -c '$(SUITABLE)' 2>/dev/null; then \
	  python=$$(find_python) && \
	  echo "Making $(VENV) with $$python" && \
	  "$$python" -m venv --clear $(VENV); \
	fi
	@echo 'Installing what the tests need into $(VENV)'
	@$(BIN)/python -m pip install --quiet --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --quiet --editable . --group dev
	@touch $@
