# Two commands on a fresh machine: `make demo` and `make test`. Everything else is below.
PYTHON3 ?= python3
PYTHON := .venv/bin/python
STAMP := .venv/.installed
DATA ?=
OUTPUT ?=
# MONAI Label has an environment of its own
LABEL_VENV ?= .venv-label
LABEL_PYTHON := $(LABEL_VENV)/bin/python
LABEL_STAMP := $(LABEL_VENV)/.installed
# one process for each core, up to four; a file's tests stay together, for what they share
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile
STUDIES ?=
PORT ?= 8000
NAME ?=
CONFIG ?=
SETTINGS ?=

.PHONY: help demo benchmark-quick test test-slow bench stream weights package test-tracking lint label label-loop label-env test-label clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 18

demo: $(STAMP) ## train, evaluate and predict; DATA=<folder> uses your images, OUTPUT=<folder> says where to, ARGS="--num-classes 3 ..."
	@$(PYTHON) -m bundle demo --data "$(DATA)" --output "$(OUTPUT)" $(ARGS)

benchmark-quick: $(STAMP) ## the rules side by side on the embedded set; OUTPUT=<folder>, WORKERS=<runs at a time>
	@$(PYTHON) -m bundle benchmark bundle/suites/quick.yaml --output "$(or $(OUTPUT),output/benchmark-quick)" --workers $(or $(WORKERS),2)

test: $(STAMP) ## the tests (minutes)
	@$(PYTHON) -m pytest $(PARALLEL)

test-slow: $(STAMP) ## the long checks that CI leaves out
	@$(PYTHON) -m pytest -m slow

weights: $(STAMP) ## train, test and share models/model.pt: DATA=<folder> NAME=<of the data> CONFIG=<overlays> SETTINGS=<key=value ...>
	@$(PYTHON) -m bundle weights --data "$(DATA)" --name "$(NAME)" --config $(CONFIG) --settings $(SETTINGS) --output "$(or $(OUTPUT),output/weights)"

bench: $(STAMP) ## latency, throughput, memory and training speed on this machine (minutes; leave it alone meanwhile)
	@$(PYTHON) -m bundle bench --output "$(or $(OUTPUT),output/bench)"

stream: $(STAMP) ## draw masks into a video: DATA=<video or folder of frames> OUTPUT=<new video or folder>
	@$(PYTHON) -m bundle stream --input "$(DATA)" --output "$(OUTPUT)"

package: $(STAMP) ## the Model Zoo folder and zip of the last commit, in dist/ or OUTPUT=<folder>
	@$(PYTHON) -m bundle package --output "$(or $(OUTPUT),dist)" --overwrite

test-tracking: $(STAMP) ## the tests of --tracking mlflow; installs mlflow beside the rest
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check mlflow==3.17.2
	@$(PYTHON) -m pytest tests/test_tracking.py

lint: $(STAMP) ## isort, black and flake8, as the Model Zoo runs them
	@$(PYTHON) -m isort --check bundle scripts tests && $(PYTHON) -m black --check -q bundle scripts tests && $(PYTHON) -m flake8 bundle scripts tests

label: $(LABEL_STAMP) ## a MONAI Label server on STUDIES=<folder>, offline; PORT=8000, ARGS="--set image_size=128 ..."
	@$(LABEL_PYTHON) -m bundle label --studies "$(STUDIES)" --port "$(PORT)" $(ARGS)

label-loop: $(LABEL_STAMP) ## a clinician replayed against such a server: DATA=<folder> OUTPUT=<folder> ARGS="..."
	@$(LABEL_PYTHON) -m bundle label-loop --data "$(DATA)" --output "$(OUTPUT)" $(ARGS)

label-env: $(LABEL_STAMP) ## the environment of MONAI Label alone (8 GB, four minutes)

test-label: $(LABEL_STAMP) ## the tests of the MONAI Label server (minutes)
	@$(LABEL_PYTHON) -m pytest tests/label $(PARALLEL)

clean: ## remove the environments (runs and data stay)
	rm -rf .venv "$(LABEL_VENV)"

$(STAMP): requirements.txt
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'error: Python 3.11 or later is needed; set PYTHON3=<path>'; exit 1; }
	@echo "Installing into .venv (once, about two minutes)"
	@$(PYTHON3) -m venv .venv
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(STAMP)

$(LABEL_STAMP): bundle/label/requirements.txt
	@$(PYTHON3) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo 'error: MONAI Label needs Python 3.11 or 3.12; set PYTHON3=<path>'; exit 1; }
	@echo "Installing MONAI Label into $(LABEL_VENV) (once, about four minutes)"
	@$(PYTHON3) -m venv "$(LABEL_VENV)"
	@$(LABEL_PYTHON) -m pip install --quiet --disable-pip-version-check $$(grep -E '^(setuptools|numpy|torch|torchvision)==' $<)
	@SAM2_BUILD_CUDA=0 $(LABEL_PYTHON) -m pip install --quiet --disable-pip-version-check --no-build-isolation -r $<
	@touch $(LABEL_STAMP)
