# make demo    a small zoo, merged and measured, from nothing
# make test    the tests, from nothing
# Each does its own set-up in .venv, once; PYTHON=… chooses another interpreter.

PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
OLDEST := .venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-oldest/constraints.txt
# by file, because the tests of a file share what is slow to set up: zoos, servers, repositories
PYTEST := python -m pytest -n auto --maxprocesses 4 --dist loadfile

.PHONY: demo test test-oldest lint wheel-check docs bench clean

demo: .venv/base
	$(BIN)/fmn demo demo
	$(BIN)/fmn flow run params.yaml

test: .venv/test
	$(BIN)/$(PYTEST)

lint: .venv/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# sdist and wheel, and what the wheel does where nothing but it and what it requires is installed
wheel-check:
	PYTHON=$(PYTHON) .ci/wheel

# the documentation as a site, in site/; a dead link or an unknown page fails
docs: .venv/test
	$(BIN)/sphinx-build -E -W --keep-going -q -d build/doctrees docs site

# the oldest transformers that fmn promises to work with, and the core alone
test-oldest: .venv-oldest/test
	.venv-oldest/bin/$(PYTEST) tests/architectures tests/fisher tests/merging tests/evaluation

bench: .venv/bench
	$(BIN)/python benchmarks/fisher.py
	$(BIN)/python benchmarks/merge.py
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/orchestration.py

clean:
	rm -rf .venv .venv-oldest demo site

# torch first: asked for by itself, at its pinned version, it is a CPU build where there is one
.venv/base: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found; install Python 3.11 or newer, or say make PYTHON=python3"; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "installing fmn into .venv (once)"
	$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) -e '.[all]'
	@touch $@

.venv/test: .venv/base
	$(PIP) -e '.[test,docs]'
	$(PIP) --no-deps curvlinops-for-pytorch backpack-for-pytorch einconv einops linear-operator unfoldNd
	@touch $@

.venv/lint: .venv/test
	$(PIP) -e '.[lint]'
	@touch $@

.venv/bench: .venv/base
	$(PIP) -e '.[bench]'
	@touch $@

.venv-oldest/test: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-oldest
	grep -vE '^(transformers|tokenizers|huggingface-hub|datasets|fsspec)==' constraints.txt > .venv-oldest/constraints.txt
	$(OLDEST) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(OLDEST) transformers==4.50.0 -e '.[test-core]'
	@touch $@
