PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help demo test lint typecheck clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml
	@echo 'Installing into .venv, once: some minutes, and about 6 GB where PyTorch comes with CUDA'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install -qq --editable '.[dev]'
	@touch $@

demo: $(READY)  ## Train, test and report on generated clips: no audio needed
	$(BIN)/genreclf train experiment=demo
	$(BIN)/genreclf report

test: $(READY)  ## Run the tests
	$(BIN)/python -m pytest

lint: $(READY)  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(READY)  ## Check types
	$(BIN)/pyright

clean:  ## Delete .venv, caches and build files; outputs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
