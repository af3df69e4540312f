# `make help` says what there is. Everything happens in $(VENV); nothing is installed elsewhere.
# For GNU make 3.81 (macOS) and newer, and a POSIX shell.

SHELL = /bin/sh
VENV = .venv
PYTHON = python3.11 python3.12 python3.13 python3
PIP_ARGS = -c constraints.txt
WORKERS = 2
EXTRAS = tf,sim,viz,eval,docs,live,records,hub,active
NEWEST_PYTHON = python3.13
DEMO_MEDIA = media/demo
DEMO_RUN = runs/demo

# What the newest releases may break: media files, checkpoints, training, bundled models, the README.
QUICK = tests/test_platforms.py tests/streams/test_as_shown.py tests/streams/test_video.py \
  tests/streams/test_sound.py tests/streams/test_frame_rate.py tests/training/test_checkpoints.py \
  tests/training/test_real_model.py tests/zoo/test_bundled.py \
  "tests/test_docs.py::test_python_blocks_run[README.md]"
# A release that announces a change is no failure.
ANNOUNCED = -W default::DeprecationWarning -W default::PendingDeprecationWarning -W default::FutureWarning
DEV = $(if $(EXTRAS),dev$(COMMA)$(EXTRAS),dev)
COMMA = ,
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)

.PHONY: help demo test lint types docs check quick newest parity bench clean

help: ## Say what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile
	@echo "Settings: PYTHON=/path/to/python (3.11 or newer), VENV=$(VENV), WORKERS=$(WORKERS),"
	@echo "EXTRAS=$(EXTRAS) (tests of others are skipped)"

$(VENV)/.made:
	@if test -x $(BIN)/python; then \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	else \
	  found=$$(sh .ci/find-python $(PYTHON)) || { \
	    echo "Install one with its venv module, or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
	    exit 1; }; \
	  echo "Making the environment $(VENV) with $$found"; \
	  $$found -m venv $(VENV); \
	fi
	@touch $@

$(VENV)/.core: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing perceiver_stream into $(VENV) (a minute or two, the first time)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing perceiver_stream and its test tools into $(VENV) (a minute or two, the first time)"
	@$(PIP) -e ".[$(DEV)]"
	@touch $(VENV)/.core $@

demo: $(VENV)/.core ## Learn online from real video with sound on this machine, and write a report
	@if $(BIN)/python -m perceiver_stream media --output $(DEMO_MEDIA); then \
	  config="--config=online:tiny --config.stream.path=$(DEMO_MEDIA)"; run=$(DEMO_RUN); \
	else \
	  config="--config=synthetic:tiny"; run=$(DEMO_RUN)_synthetic; \
	  echo; echo "*** NO REAL VIDEO: the clips could not be fetched (the reason is above). ***"; \
	  echo "*** This demo runs on a synthetic stream instead.                        ***"; echo; \
	fi; \
	$(BIN)/python -m perceiver_stream train $$config --config.run_dir=$$run && \
	if test -f $$run/report.html; then echo "Report: $$run/report.html (to start afresh: rm -r $$run)"; fi

test: lint types docs check newest ## Run all that CI runs

lint: $(VENV)/.dev ## Check format and style (to repair: ruff format; ruff check --fix)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev ## Check the types of the package
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.dev ## Build the documentation as a site in build/docs; any warning is an error
	JAX_PLATFORMS=cpu $(BIN)/python -m sphinx -b html --fail-on-warning --keep-going --quiet -d build/doctrees docs build/docs
	@echo "Documentation: build/docs/index.html"

check: $(VENV)/.dev ## Run every test: unit, doctests, README, colabs, wheel
	PERCEIVER_STREAM_REQUIRED_EXTRAS=$(EXTRAS) $(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal \
	  -rs --durations=10 --doctest-modules tests perceiver_stream

quick: $(VENV)/.dev ## Run those tests that new releases of other packages may break
	@echo "Releases:" $$($(BIN)/python -m pip freeze --exclude-editable)
	$(BIN)/python -m pytest -n $(WORKERS) --dist=worksteal -rs --durations=5 $(ANNOUNCED) $(QUICK)

newest: ## Check types and run the quick tests with the newest Python and releases (of tools the pinned)
	@if sh .ci/find-python $(NEWEST_PYTHON) >/dev/null 2>&1; then \
	  $(MAKE) types quick VENV=.venv-newest PYTHON=$(NEWEST_PYTHON) EXTRAS= \
	    PIP_ARGS="--upgrade --upgrade-strategy=eager $$(grep '^pyright==' constraints.txt)"; \
	else \
	  echo; echo "*** SKIPPED: no $(NEWEST_PYTHON) here, so nothing ran with the newest releases. ***"; echo; \
	fi

parity: $(VENV)/.dev ## Compare with the Hugging Face port (installs torch)
	$(PIP) -e ".[$(DEV),parity]"
	PERCEIVER_STREAM_REQUIRED_EXTRAS=parity $(BIN)/python -m pytest tests/zoo/test_parity.py

bench: $(VENV)/.dev ## Measure time, memory and frames per second on this machine
	@for script in $$(ls benchmarks/*.py | grep -v -e /soak_ -e /live_soak); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean: ## Remove builds and caches (keeps $(VENV), media and runs)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
