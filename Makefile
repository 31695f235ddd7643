# make demo    a small zoo, merged and measured, from nothing
# make test    the tests but the slow ones, from nothing
# Each does its own set-up in .venv, once; PYTHON=… chooses another interpreter.

PYTHON ?= python3.11
BIN := .venv/bin
# torch by pip, first and at its pinned version, is a CPU build where there is one; uv, ten times as
# fast, brings the rest, and compiles nothing: of thousands of modules, few are imported
PIP := -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)
INTO := $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt
# by file, because the tests of a file share what they did: a story, a run; in the order of
# tests/conftest.py
PYTEST := python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# how often more make soak kills, races and fails than make test
SOAK ?= 40

# the tests start thousands of processes: what they import is compiled once, and Python's memory is
# in huge pages where Linux has them (on a virtual machine an import takes half the time)
unexport PYTHONDONTWRITEBYTECODE
export PYTHONMALLOC := malloc
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1

.PHONY: demo test test-slow test-oldest soak coverage lint wheel-check docs bench clean

demo: .venv/base
	$(BIN)/fmn demo demo
	$(BIN)/fmn flow run params.yaml

test: .venv/test
	$(BIN)/$(PYTEST) -m 'not slow'

# what takes long and rarely breaks: pages that are followed, pipelines, benchmarks, clusters; it
# waits for servers much of the time, so more than one test a core
test-slow: .venv/test
	$(BIN)/$(PYTEST) -n 4 -m slow $(sort $(shell grep -rl --include='test_*.py' mark.slow tests))

# an hour of kills, races, faults, flips and fuzz; SOAK=10 takes a quarter of it; the last is in
# docs/design.md
soak: .venv/test
	FMN_SOAK=$(SOAK) $(BIN)/$(PYTEST) -m soak --durations 0

# lines and branches that all tests run, processes that they start included
coverage: .venv/coverage
	$(BIN)/python tests/covered.py $(BIN)/$(PYTEST)

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

# the oldest transformers that fmn promises to work with, and the core alone: what meets its models
test-oldest: .venv-oldest/test
	.venv-oldest/bin/$(PYTEST) tests/architectures tests/fisher tests/evaluation tests/layerwise \
	  --deselect tests/merging/test_output.py::test_a_killed_merge_leaves_nothing_that_looks_finished \
	  --deselect tests/merging/test_output.py::test_private_memory_does_not_grow_with_the_tensors \
	  --deselect tests/merging/test_methods.py::test_the_parent_of_the_real_zoo \
	  $(foreach task,rte mnli mrpc qqp qnli,--deselect \
	  'tests/fisher/test_mask.py::test_the_real_zoo_agrees_with_an_independent_implementation[$(task)]') \
	  $(patsubst %,tests/merging/test_%.py,checkpoints_in_the_wild memory methods output plan)

bench: .venv/bench
	$(BIN)/python benchmarks/fisher.py
	$(BIN)/python benchmarks/merge.py
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/orchestration.py

clean:
	rm -rf .venv .venv-oldest demo site

venv = $(PYTHON) -m venv $(1) && $(1)/bin/python $(PIP) $(TORCH) uv

.venv/base: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) not found; install Python 3.11 or newer, or say make PYTHON=python3"; exit 1; }
	@echo "installing fmn into .venv (once)"
	$(call venv,.venv)
	$(INTO) -e '.[all]'
	@touch $@

.venv/test: .venv/base
	$(INTO) -e '.[test,docs]'
	$(INTO) --no-deps curvlinops-for-pytorch backpack-for-pytorch einconv einops linear-operator \
	  unfoldNd
	@touch $@

.venv/coverage: .venv/test
	$(INTO) 'coverage>=7.10'
	@touch $@

.venv/lint: .venv/test
	$(INTO) -e '.[lint]'
	@touch $@

.venv/bench: .venv/base
	$(INTO) -e '.[bench]'
	@touch $@

.venv-oldest/test: pyproject.toml constraints.txt
	$(call venv,.venv-oldest)
	grep -vE '^(transformers|tokenizers|huggingface-hub|datasets|fsspec)==' constraints.txt \
	  > .venv-oldest/constraints.txt
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python \
	  -c .venv-oldest/constraints.txt transformers==4.50.0 -e '.[test-core]'
	@touch $@
