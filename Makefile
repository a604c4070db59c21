# Zhiwen 知问. `make demo` shows it, `make test` runs everything that CI runs, `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
# The CPU build where the index offers one. A GPU user: make demo TORCH='torch==2.13.0 --index-url <your CUDA index>'
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
DATA_DIR ?= demo-data
PEERS := .venv-peers
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo up test test-peers check types unit format venv transformers dev-venv constraints bench-gateway bench-ingest bench-query eval train-embedder engines docs clean

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Zhiwen needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.embedded: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[embedded]'
	touch $@

# torch goes first and by itself, so that nothing pulls a build for a GPU that is not there.
$(VENV)/.torch: | $(VENV)/bin/python
	$(PIP) install --quiet $(TORCH)
	touch $@

$(VENV)/.dev: $(VENV)/.embedded $(VENV)/.torch
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

venv: $(VENV)/.embedded ## Install what Zhiwen needs into .venv
transformers: $(VENV)/.embedded $(VENV)/.torch ## Install what sentence-transformers models need, too
	$(PIP) install --quiet --constraint constraints.txt --editable '.[embedded,transformers]'
dev-venv: $(VENV)/.dev ## Install what its developers need, too

demo: $(VENV)/.embedded ## Ask the example documents three questions: make demo [ARGS='your/folder']
	$(BIN)/python -m zhiwen.cli.demo --data-dir $(DATA_DIR) $(ARGS)

up: $(VENV)/.embedded ## Run Zhiwen on this machine until Ctrl-C
	$(BIN)/zhiwen up $(ARGS)

format: $(VENV)/.dev ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(VENV)/.dev ## Format, lint, types, import rules, unit tests: under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(MAKE) --no-print-directory -j2 -Otarget types unit

types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	$(PYTEST) tests/unit -q

test: check ## Everything that CI runs
	$(PYTEST) tests/contract tests/integration tests/faults tests/e2e $(ARGS)

# Real model servers, each with the versions it wants, in a virtual environment of its own; torch first, as above.
FASTCHAT := 'fschat==0.2.36' 'transformers==4.48.3' 'pydantic<2' 'fastapi<0.119' 'accelerate<1.5' 'numpy<2.3'
$(PEERS)/fastchat/.installed:
	$(PYTHON) -m venv $(PEERS)/fastchat
	$(PEERS)/fastchat/bin/python -m pip --disable-pip-version-check install --quiet $(TORCH)
	$(PEERS)/fastchat/bin/python -m pip --disable-pip-version-check install --quiet $(FASTCHAT) sentencepiece shortuuid tiktoken
	touch $@

$(PEERS)/transformers/.installed:
	$(PYTHON) -m venv $(PEERS)/transformers
	$(PEERS)/transformers/bin/python -m pip --disable-pip-version-check install --quiet $(TORCH)
	$(PEERS)/transformers/bin/python -m pip --disable-pip-version-check install --quiet 'transformers[serving]>=5.20' accelerate
	touch $@

test-peers: $(VENV)/.dev $(PEERS)/fastchat/.installed $(PEERS)/transformers/.installed ## The gateway in front of FastChat and transformers serve
	$(PYTEST) tests/peers $(ARGS)

bench-gateway: $(VENV)/.dev ## What the gateway costs a request and a streamed chunk
	$(BIN)/python -m bench.gateway $(ARGS)

bench-ingest: $(VENV)/.dev ## What the whole ingest costs beside the bare encoder
	$(BIN)/python -m bench.ingest $(ARGS)

bench-query: $(VENV)/.dev ## What a search costs at 10,000 chunks
	$(BIN)/python -m bench.query $(ARGS)

eval: $(VENV)/.dev ## Hold search and answers to their floors on the question sets in ../shared/data: make eval [ARGS='--readme']
	$(BIN)/python -m bench.evaluate $(ARGS)

train-embedder: $(VENV)/.dev ## Train the built-in embedding table again, from the pairs in ../shared/data/train
	$(BIN)/python -m training.train_embedder --data ../shared/data/train --out services/common/data/embedder

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(VENV)/.docs ## Build the documentation site into build/site; a dead link fails
	$(BIN)/python docs/build.py

engines: $(VENV)/.dev ## Install the other Milvus engines that the store is tested against
	$(BIN)/python -m tests.servers.milvus

constraints: $(VENV)/.dev ## Write down the exact versions installed now
	$(PIP) freeze --exclude-editable | grep -vE '^(pip|setuptools|wheel)==' | sed 's/+cpu$$//' > constraints.txt

clean: ## Remove the virtual environment and the demo's data
	rm -rf $(VENV) $(DATA_DIR)
