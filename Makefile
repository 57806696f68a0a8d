# make setup        .venv with the pinned requirements and this package, editable: `import safeframe` works from any folder;
#                   Python 3.11 to 3.13:  make setup PYTHON=python3.13 VENV=.venv313  (the results were measured on 3.11)
# make run          set up (once) and run the first experiment: laptop preset, one seed, synthetic demand
# make run-eia      the same on real demand:  make run-eia DATA=/path/to/demand.csv.gz
# make test         the fast tests            make test-long   the slow ones         JOBS=1   one after another (default: a core each)
# make test-cluster the engine and a sweep on a Ray started here (installs ray, the extra `cluster`)
# make lint         style, types, import rules, links of the documents
# make docs         fill the result tables of README and docs, build docs/ as a site (site/index.html; no network)
# make figures      every figure, table and claim from the raw results that are committed; runs nothing
# make figure-2     the sweeps behind figure 2 (seeds, n_t, years; resumes), its raw results, then the figures
# make deployment   the sweep of guards in service through a year (resumes), then its tables and figures with those of figure 2
# make decomposition   where thresholds of one year fail in another: the sweep behind the table (resumes), then as above
# make figure-3     the sweeps behind figure 3 (robots, seeds, trainings, n_t, ablations, routes, PointGoal2; resumes), then the figures
# make theory       the theorems as experiments (about five minutes), their tables, figures and claims
# make figure-4     the sweeps behind figure 4 (r_t and n_t; resumes), then the figures; recorded answers too where their paths
#                   are given:  make figure-4 PKU=/path/to/candidates.jsonl.gz DIASAFETY=/path/to/diasafety
# make results      everything that is committed under results/
# make compare      what the paper states beside ours      make compare ARGS=--all     the whole ledger
# make report       one page of everything that is committed: build/report.html (no network)
# make dashboards   a workspace and a report on Weights & Biases for each experiment (needs a key), or as files:
#                   make dashboards ARGS="--offline results/runs/dashboards"
# make test-browser the report in headless Chromium (apt install chromium)
# make mutation     would the tests notice a changed line of the modules that promises rest on? (installs mutmut; hours)
# make reliability  kills, damaged files, full disks, jumping clocks, bad inputs, counted (hours; root mounts disks; with ray: sweeps)
# make bench-sim    the simulator: environment steps a second, against a plain MuJoCo loop
# make bench-llm    language models: candidates a second of generation, scoring, classification
# make bench        all benchmarks            make clean       remove what can be made again (not runs, not .venv)
# the first that runs; a given one is checked
PYTHON ?= $(or $(shell for p in python3.11 python3.12 python3.13; do $$p -c "" 2>/dev/null && echo $$p && break; done),python3.11)
VENV ?= .venv
JOBS ?= auto
PY := $(VENV)/bin/python
TORCH := $(shell grep '^torch==' requirements.txt)
# e.g. TORCH_OPTIONS="--index-url https://download.pytorch.org/whl/cpu" for a build without CUDA
TORCH_OPTIONS ?=
ARGS ?=
# e.g. KEEP=--dirty to keep results of a tree with uncommitted changes
KEEP ?=
READY := $(VENV)/.ready

.PHONY: setup run run-eia test test-long test-cluster lint docs format bench bench-sim bench-llm figures figure-2 deployment decomposition figure-3 figure-4 theory results compare report dashboards test-browser mutation reliability clean

setup: $(READY)
ifneq ($(origin PYTHON),file)
	@test "$$($(PYTHON) -V)" = "$$($(PY) -V)" || { echo "error: $(VENV) is of $$($(PY) -V), $(PYTHON) is $$($(PYTHON) -V): \
	remove $(VENV) or name another folder: make setup PYTHON=$(PYTHON) VENV=.venv2" >&2; exit 1; }
endif

$(PY):
	@$(PYTHON) -c "" 2>/dev/null || { echo "error: $(PYTHON) does not run; name a Python 3.11 to 3.13: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:3]; sys.exit(None if (3, 11) <= v[:2] <= (3, 13) else \
	  "error: Python 3.11 to 3.13 is needed, $(PYTHON) is %d.%d.%d; name another: make setup PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(VENV)

$(READY): requirements.txt requirements-dev.txt pyproject.toml | $(PY)
	$(PY) -m pip install --quiet $(TORCH_OPTIONS) $(TORCH)
	$(PY) -m pip install --quiet -r requirements-dev.txt
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(READY)

run: $(READY)
	$(PY) run.py experiment=production preset=laptop data=synthetic seed=0 $(ARGS)

run-eia: $(READY)
	@test -n "$(DATA)" || { echo "error: say where the file is: make run-eia DATA=/path/to/demand.csv.gz" >&2; exit 2; }
	$(PY) run.py experiment=production preset=laptop data=eia data.path="$(DATA)" seed=0 $(ARGS)

test: $(READY)
	$(PY) -m pytest -m "not long" --numprocesses $(JOBS) --dist worksteal $(ARGS)

test-long: $(READY)
	$(PY) -m pytest -m long --numprocesses $(JOBS) --dist worksteal $(ARGS)

test-cluster: $(READY)
	$(PY) -m pip install --quiet "$$(grep '^ray==' requirements-optional.txt)"
	$(PY) -m pytest tests/experiments/support/engine tests/experiments/support/test_entry.py $(ARGS)

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)
	$(VENV)/bin/lint-imports
	$(PY) scripts/check_links.py

docs: $(READY)
	$(PY) scripts/fill_tables.py
	$(PY) scripts/settings.py
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

format: $(READY)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(READY)
	for script in benchmarks/bench_*.py; do $(PY) $$script $(ARGS) || exit 1; done

bench-sim: $(READY)
	$(PY) benchmarks/bench_sim.py $(ARGS)

bench-llm: $(READY)
	$(PY) benchmarks/bench_llm.py $(ARGS)

figures: $(READY)
	$(PY) scripts/figures.py $(ARGS)
	$(PY) scripts/scale.py

figure-2: $(READY)
	for sweep in figure-2 figure-2-n_t figure-2-orders; do $(PY) run.py -m +sweep=$$sweep $(ARGS) || exit 1; done
	$(PY) scripts/gather.py figure-2 $(KEEP)
	$(PY) scripts/figures.py figure-2 $(KEEP)

deployment: $(READY)
	$(PY) run.py -m +sweep=deployment $(ARGS)
	$(PY) scripts/gather.py figure-2 $(KEEP)
	$(PY) scripts/figures.py figure-2 $(KEEP)

decomposition: $(READY)
	$(PY) run.py -m +sweep=decomposition $(ARGS)
	$(PY) scripts/gather.py figure-2 $(KEEP)
	$(PY) scripts/figures.py figure-2 $(KEEP)

figure-3: $(READY)
	for sweep in figure-3 figure-3-n_t figure-3-ablations figure-3-agents figure-3-agents-car figure-3-agents-routed figure-3-priced figure-3-routed figure-3-goal2; do $(PY) run.py -m +sweep=$$sweep $(ARGS) || exit 1; done
	$(PY) run.py -m +sweep=figure-3-goal2 +ablation=routed agent.baselines=[] $(ARGS)
	$(PY) scripts/gather.py figure-3 $(KEEP)
	$(PY) scripts/figures.py figure-3 $(KEEP)

theory: $(READY)
	$(PY) run.py experiment=theory preset=laptop seed=5 $(ARGS)
	$(PY) scripts/gather.py theory $(KEEP)
	$(PY) scripts/figures.py theory $(KEEP)

figure-4: $(READY)
	for sweep in figure-4 figure-4-ppo_lag figure-4-truth figure-4-capacity figure-4-capacity-ppo_lag figure-4-best; do $(PY) run.py -m +sweep=$$sweep $(ARGS) || exit 1; done
	$(PY) run.py -m +sweep=figure-4 seed=10,11,12,13,14 evaluation.n_t=null $(ARGS)
	if test -n "$(PKU)"; then $(PY) run.py -m +sweep=figure-4-recorded data.path="$(PKU)" \
	  transfer.path=$(if $(DIASAFETY),"$(DIASAFETY)",null) $(ARGS) && \
	  $(PY) run.py -m +sweep=figure-4-best-recorded data.path="$(PKU)" $(ARGS); fi
	if test -n "$(DIASAFETY)"; then $(PY) run.py -m +sweep=figure-4-recorded data.format=diasafety data.path="$(DIASAFETY)" \
	  transfer.format=pku transfer.path=$(if $(PKU),"$(PKU)",null) $(ARGS) && \
	  $(PY) run.py -m +sweep=figure-4-people data.path="$(DIASAFETY)" $(ARGS) && \
	  $(PY) run.py -m +sweep=figure-4-best-recorded data.format=diasafety data.path="$(DIASAFETY)" $(ARGS); fi
	$(PY) scripts/gather.py figure-4 $(KEEP)
	$(PY) scripts/figures.py figure-4 $(KEEP)

results: figure-2 deployment figure-3 figure-4 theory bench
	$(PY) scripts/compare.py

compare: $(READY)
	$(PY) scripts/compare.py $(ARGS)

report: $(READY)
	$(PY) scripts/report.py $(ARGS)

dashboards: $(READY)
	$(PY) scripts/dashboards.py $(ARGS)

test-browser: $(READY)
	$(PY) -m pip install --quiet -r requirements-browser.txt
	$(PY) -m pytest tests/experiments/support/page $(ARGS)

mutation: $(READY)
	$(PY) -m pip install --quiet "$$(grep '^mutmut==' requirements-optional.txt)"
	$(PY) scripts/reliability/mutation.py run $(ARGS)
	$(PY) scripts/reliability/mutation.py table

reliability: $(READY)
	for part in kills engine sweep damage disk clock together inputs; do $(PY) scripts/reliability/campaign.py $$part $(ARGS) || exit 1; done
	$(PY) scripts/reliability/campaign.py table

clean:
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist site *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -type d -prune -exec rm -rf {} +
