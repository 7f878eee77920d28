# Two commands on a fresh machine: `make demo` and `make test`. Everything else is below.
PYTHON3 ?= python3
PYTHON := .venv/bin/python
STAMP := .venv/.installed
DATA ?=
OUTPUT ?=

.PHONY: help demo test test-slow package lint clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

demo: $(STAMP) ## train, evaluate and predict; DATA=<folder> uses your images, OUTPUT=<folder> says where to
	@$(PYTHON) -m bundle demo --data "$(DATA)" --output "$(OUTPUT)"

test: $(STAMP) ## the tests (minutes)
	@$(PYTHON) -m pytest

test-slow: $(STAMP) ## the long checks that CI leaves out
	@$(PYTHON) -m pytest -m slow

package: $(STAMP) ## the Model Zoo folder and zip of the last commit, in dist/ or OUTPUT=<folder>
	@$(PYTHON) -m bundle package --output "$(or $(OUTPUT),dist)" --overwrite

lint: $(STAMP) ## isort, black and flake8, as the Model Zoo runs them
	@$(PYTHON) -m isort --check bundle scripts tests && $(PYTHON) -m black --check -q bundle scripts tests && $(PYTHON) -m flake8 bundle scripts tests

clean: ## remove the environment (runs and data stay)
	rm -rf .venv

$(STAMP): requirements.txt
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'error: Python 3.11 or later is needed; set PYTHON3=<path>'; exit 1; }
	@echo "Installing into .venv (once, about two minutes)"
	@$(PYTHON3) -m venv .venv
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(STAMP)
