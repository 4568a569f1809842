# One environment, .venv, made from constraints.txt; every target that needs it makes it first.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
WORKERS ?= 2
THREADS := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint schema world bench clean

# Whatever is tested or shown needs no network after the install, and asking for it is an error, not a wait.
demo test world bench: export HF_HUB_OFFLINE := 1
demo test world bench: export HF_DATASETS_OFFLINE := 1
demo test world bench: export TRANSFORMERS_OFFLINE := 1
demo test world bench: export HF_HUB_DISABLE_TELEMETRY := 1
demo test world bench: export WANDB_MODE := offline
demo test world bench: export TOKENIZERS_PARALLELISM := false

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed, and \`$(PYTHON)\` is not." >&2; \
		  echo "Name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing into .venv: about 5.5 GB, some minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# accelerate gives a process one thread unless it is told otherwise, which would leave a computer without a GPU idle.
demo: $(INSTALLED) ## Teach the built-in pipeline, which paints, to sketch, and measure it; starts afresh: removes runs/demo
	rm -rf runs/demo
	$(BIN)/accelerate launch --config_file accelerate_config.yaml \
		--num_cpu_threads_per_process $(THREADS) train_text_to_image.py --config demo.yaml
	$(BIN)/python -m toolkit.world compare runs/demo
	$(BIN)/python -m eval compare --config demo.yaml --base builtin:tiny-sd2 --tuned runs/demo --output runs/demo/eval \
		--images-base runs/demo/world/before --images-tuned runs/demo/world/after

# One thread per process: the tests fill the cores, and sums of more threads have another order.
test: export OMP_NUM_THREADS := 1
test: $(INSTALLED) ## Run the whole test suite: no network, no GPU needed
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(TESTS)

lint: $(INSTALLED) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

schema: $(INSTALLED) ## Write configs/*.schema.json, from which editors complete and check the configurations
	$(BIN)/python -m toolkit schema

world: $(INSTALLED) ## Train the models of the built-in world; continues where it was stopped
	$(BIN)/python -m toolkit.world build

# What they import is not run by itself.
bench: $(INSTALLED) ## Run every script of benchmarks/
	@set -e; for script in $(filter-out $(addprefix benchmarks/,shapes.py stamped.py throughput_report.py timing.py),$(sort $(wildcard benchmarks/*.py))); do echo "$$script"; $(BIN)/python "$$script"; done

clean: ## Remove caches and build leftovers; runs/ and .venv stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
