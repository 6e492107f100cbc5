# make help: what there is to do. Everything prepares itself first: see scripts/prepare.
#
#   make test ARGS="-k store -x"     arguments for pytest, the benchmarks or the demo
#   make demo PYTHON=python3.12      the Python that .venv is made with
#   make test-gpu WHEELS=wheels/cu130-host PYTHON=/opt/torch/bin/python3

.DEFAULT_GOAL := help
.PHONY: help demo test test-full test-gpu docs lint format bench clean prepare

ARGS ?=
PYTHON ?=
export PYTHON

help: ## say what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

prepare: ## make .venv and install what is missing
	@scripts/prepare

demo: prepare ## from a clean machine to a proven offline image, on stacks/cpu
	@.venv/bin/python scripts/demo $(ARGS)

test: prepare ## run all tests, with the real tools
	@.venv/bin/python -m pytest -ra --numprocesses=auto --maxprocesses=4 --no-loadscope-reorder $(ARGS)

test-full: prepare ## build, judge, image and check the stacks that compile CUDA: hours, in your own store
	@.venv/bin/python -m pytest -m slow tests/full $(ARGS)

test-gpu: ## try compiled extensions on this machine's GPU, with its own Python and torch: tests/gpu/README.md
	@$(or $(PYTHON),python3) scripts/test-gpu $(if $(WHEELS),--wheels "$(WHEELS)") $(ARGS)

docs: prepare ## write docs/stacks/*.md, the page of each stack
	@mkdir -p docs/stacks
	@for stack in stacks/*/stack.toml; do \
	  name=$$(basename "$$(dirname "$$stack")"); \
	  .venv/bin/lockbuild describe "stacks/$$name" >docs/stacks/.page && mv docs/stacks/.page "docs/stacks/$$name.md" || exit; \
	done

lint: prepare ## check style, types and layers
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: prepare ## put code into its form
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: prepare ## compare with other tools, a table at the end
	@.venv/bin/python -m bench.run $(ARGS)

clean: ## remove what was made here, but not the store
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage dist stacks/*/context
	rm -f wheels/*/*.whl
	find lockbuild tests bench -name __pycache__ -type d -exec rm -rf {} +
