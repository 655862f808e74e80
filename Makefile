# make dataset | make test | make lab | make bench     Each installs what it needs into .venv.
# For notebooks: make run-notebooks | make exercises | make test-notebooks | make test-replay | make test-browser | make record
# Before a release: make fresh | make test-full     In a fork: make publish-address URL=https://github.com/me/fork
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NOTEBOOKS := $(BIN)/python tools/notebooks.py
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable
FAILED := { echo "The packages could not be installed: the lines above say why. Mend that (network, disk, Python), then run the same command again." >&2; exit 1; }
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: dataset test test-full test-oldest fresh lint lab bench run-notebooks exercises record
.PHONY: test-notebooks test-replay test-browser publish-address clean

dataset: $(VENV)/.installed
	$(BIN)/python -m course_lib $(ARGS)

test: lint
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --ignore=tests/browser --durations=10 $(ARGS)
	HF_HUB_OFFLINE=1 $(NOTEBOOKS) replay
	HF_HUB_OFFLINE=1 $(NOTEBOOKS) check notebooks/06_dpo.ipynb

# Everything: all lessons on real models, all browser tests.
test-full: test
	HF_HUB_OFFLINE=1 $(NOTEBOOKS) check
	$(MAKE) test-browser

# The tests that need no packaged model, with the oldest versions that the ranges allow; TORCH=2.9.0 takes the oldest torch too.
# Trainers are left out: pip brings a TRL of today to them, which the oldest Transformers does not know.
OLDEST := .venv-oldest
FAST := tests/steps tests/pipeline/test_graph.py tests/pipeline/test_local.py tests/tasks/test_parsing.py
FAST += tests/tasks/test_checks_by_code.py tests/tasks/test_rewrites.py tests/tasks/test_templating.py tests/llms/test_base.py
FAST += tests/llms/test_first_use.py tests/test_distiset.py tests/test_plots.py tests/test_widgets.py
test-oldest:
	$(PYTHON) -m venv $(OLDEST)
	$(PYTHON) tools/oldest.py $(TORCH) > $(OLDEST)/constraints.txt
	@$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/constraints.txt --requirement requirements.txt --editable ".[test]" || $(FAILED)
	HF_HUB_OFFLINE=1 $(OLDEST)/bin/python -m pytest $(FAST) -k "not trainer" $(ARGS)

# Each entrance as on a new machine; nothing is installed for it beforehand.
fresh:
	$(PYTHON) tools/fresh.py $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/codespell README.md docs exercises/README.md exercises/*.py exercises/data course_lib tests tools benchmarks

lab: $(VENV)/.installed
	$(BIN)/jupyter lab --notebook-dir=.

bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/speed.py $(ARGS)

# Lessons and solutions, executed with real models and stored.
run-notebooks: $(VENV)/.installed-test
	$(NOTEBOOKS) run

# exercises/ from solutions/
exercises: $(VENV)/.installed-test
	$(NOTEBOOKS) exercises

# nbval alone: with real models; and without any model, from the recorded results.
test-notebooks: $(VENV)/.installed-test
	HF_HUB_OFFLINE=1 $(NOTEBOOKS) check $(ARGS)

test-replay: $(VENV)/.installed-test
	HF_HUB_OFFLINE=1 $(NOTEBOOKS) replay $(ARGS)

# Runs all notebooks with real models and keeps what the models said, for test-replay.
record: $(VENV)/.installed-test
	$(NOTEBOOKS) record

# JupyterLab in a headless Chromium, which is brought where apt-get may bring it.
test-browser: $(VENV)/.installed-browser
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/browser $(ARGS)

# The repository's address in pyproject.toml, badges, links and set-up cells; needs no .venv.
publish-address:
	@$(PYTHON) tools/address.py '$(URL)'

$(VENV)/.installed: requirements.txt requirements-library.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; this is %d.%d. Try: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	@$(INSTALL) ".[train]" --requirement requirements.txt || $(FAILED)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(INSTALL) ".[test]" || $(FAILED)
	@touch $@

$(VENV)/.installed-browser: $(VENV)/.installed-test
	@$(INSTALL) ".[browser]" || $(FAILED)
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null \
		|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-noto-cjk >/dev/null; } \
		|| { echo "No Chromium was found, and apt-get could not install it. Install chromium or google-chrome, then run again." >&2; exit 1; }
	@touch $@

clean:
	rm -rf $(VENV) $(OLDEST) output build
