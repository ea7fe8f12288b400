# Every target says what it does and can be repeated. `make help` lists them.
VENV := .venv
PY := $(VENV)/bin/python
ILBOOK := $(VENV)/bin/ilbook
# Written last, so that a half-made environment does not count: where the environment was made, then the lock.
MADE := $(VENV)/.made
# Everything that is made goes there; where this folder may not be written, set it to another one.
BUILD := $(or $(ILBOOK_BUILD),build)
PROFILE ?= lecture
PIP_ARGS ?=
UPGRADE ?=
LAB_ARGS ?=
PART ?=
AUDIT_ARGS ?=
FIRST := notebooks/1_foundations/01_first_policy.ipynb
GL_PACKAGES = $(shell $(PY) -c 'from ilbook.draw import gl; print(gl.APT_PACKAGES)')
PIP := -m pip --disable-pip-version-check --no-input

.PHONY: help env gl browser run test golden audit book lab doctor lint lock clean FORCE
.DEFAULT_GOAL := help

help: ## list the targets
	@echo "Usage: make TARGET"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-10s %s\n", $$1, $$2}'

env: $(MADE) ## make .venv from requirements.lock, if it is missing or older
	@echo "env: $(VENV) is up to date"

# A moved or copied tree, or a removed interpreter: the environment holds absolute paths and must be made again.
ifneq ($(shell test -x $(PY) && head -n 1 $(MADE) 2>/dev/null),made in $(CURDIR))
$(MADE): FORCE
endif

# Any change of the lock starts from nothing: upgrading MuJoCo in place leaves files of two versions behind.
$(MADE): requirements.lock pyproject.toml
	@mkdir -p "$(BUILD)"; set -e; \
	if test -x $(PY) && { echo "made in $(CURDIR)"; cat requirements.lock; } | cmp -s - $(MADE); then \
	  echo "env: requirements.lock is unchanged, checking $(VENV)"; \
	else \
	  python="$$($(FIND_PYTHON))"; \
	  if test -z "$$python"; then \
	    echo "env: no Python 3.11 or newer with the venv module was found." >&2; \
	    echo "env: install one (Debian, Ubuntu: sudo apt-get install -y python3 python3-venv) or use environment.yml." >&2; \
	    exit 1; \
	  fi; \
	  echo "env: making $(VENV) with $$($$python -V)"; \
	  rm -rf $(VENV); $$python -m venv $(VENV); \
	fi; \
	echo "env: installing requirements.lock with pip, two minutes or so (log: $(BUILD)/pip.log)"; \
	$(PY) $(PIP) install --progress-bar off $(PIP_ARGS) -r requirements.lock > "$(BUILD)/pip.log" 2>&1 & pid=$$!; \
	trap 'kill $$pid; exit 130' INT TERM; \
	while kill -0 $$pid 2>/dev/null; do \
	  sleep 1; \
	  if test -t 1; then printf '\r     %s of %s packages fetched, then unpacked ' \
	    "$$(grep -c '(from -r' "$(BUILD)/pip.log")" "$$(grep -c == requirements.lock)"; fi; \
	done; \
	if test -t 1; then printf '\r%55s\r' ''; fi; \
	wait $$pid || { $(SHOW_LOG); exit 1; }; \
	$(PY) $(PIP) install --no-deps --no-build-isolation -e . >> "$(BUILD)/pip.log" 2>&1 || { $(SHOW_LOG); exit 1; }; \
	{ echo "made in $(CURDIR)"; cat requirements.lock; } > $(MADE).new; mv $(MADE).new $(MADE)

# The lock is made with Python 3.11, so that one comes first; then the newest.
FIND_PYTHON = for candidate in python3.11 python3.13 python3.12 python3; do \
	  $$candidate -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	  && echo $$candidate && break; done; true

# pip writes hundreds of lines: they go to a log, and after a failure its end is shown without the routine.
SHOW_LOG = grep -Ev '^(WARNING: Location|Collecting|Processing|Requirement already| +Downloading| +Using cached)' \
	  "$(BUILD)/pip.log" | cut -c 1-300 | tail -n 20 >&2; \
	  echo "make: the installation failed; above is the end of $(BUILD)/pip.log" >&2

gl: env ## make sure that frames can be drawn: install Mesa's EGL with apt when that is possible
	@report="$$($(PY) -m ilbook.draw.gl)"; \
	if test $$? != 2 || ! { $(SUDO); }; then echo "gl: $$report"; \
	else $(call APT,gl,$(GL_PACKAGES)); echo "gl: $$($(PY) -m ilbook.draw.gl)"; fi

# A font as well: without one a page has no words, and another width.
browser: env ## make sure that tests can look at pages: install Chromium with apt when that is possible
	@for name in chromium chromium-browser google-chrome; do command -v $$name > /dev/null && exit 0; done; \
	if { $(SUDO); }; then $(call APT,browser,chromium fonts-dejavu-core); \
	else echo "browser: no Chromium here, and no right to install it with apt: no page will be looked at"; fi

# Whether apt may be used, and how.
SUDO = command -v apt-get > /dev/null && { test "$$(id -u)" = 0 || { sudo -n true 2> /dev/null && sudo=sudo; }; }
APT = echo "$(1): installing $(2) (log: $(BUILD)/apt.log)"; mkdir -p "$(BUILD)"; \
	{ $$sudo apt-get update && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
	  $(2); } > "$(BUILD)/apt.log" 2>&1 \
	|| echo "$(1): apt-get could not install them ($(BUILD)/apt.log says why); going on without"

run: gl ## the opening notebook: demonstrations, a policy, its test and its film, in about three minutes
	$(ILBOOK) run 01_first_policy --profile $(PROFILE)

# A process of tests for each core, with one thread; pages and what measures speed come afterwards, alone.
test: gl browser ## style, then every test, with every notebook in the smoke profile
	$(VENV)/bin/ruff check .
	OMP_NUM_THREADS=1 $(PY) -m pytest -n logical --dist loadfile --ignore tests/notebook --ignore tests/book --ignore tests/bench
	$(PY) -m pytest tests/notebook tests/book tests/bench

golden: env ## show how the behaviour of PART (all: leave it out) moved, and record it anew in tests/golden/
	$(PY) -m tests.golden $(PART)

audit: gl ## run two published pages again, drawn at random, and once with another seed (AUDIT_ARGS="--pages 5 --seeds 4")
	$(ILBOOK) audit $(AUDIT_ARGS)

book: gl ## execute every notebook and build the site in build/site/
	$(ILBOOK) book --profile $(PROFILE)

# ilbook comes first, so that every kernel inherits what it sets for threads.
lab: gl ## open JupyterLab on the first notebook
	$(PY) -c 'import ilbook; from jupyterlab.labapp import main; main()' $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS) $(FIRST)

doctor: env ## check this machine; every failing line says what to do
	$(ILBOOK) doctor

lint: env ## style of the code and rules of the notebooks
	$(VENV)/bin/ruff check .
	$(ILBOOK) hygiene

# Pins that are there stay, unless UPGRADE names the package (UPGRADE=pandas) or says all.
lock: ## write requirements.lock again from pyproject.toml (Python 3.11; UPGRADE=name or UPGRADE=all)
	@mkdir -p "$(BUILD)"; set -e; \
	echo "lock: resolving pyproject.toml in a clean environment ($(BUILD)/lock)"; \
	python3.11 -m venv --clear "$(BUILD)/lock"; \
	test "$(UPGRADE)" = all || grep -iv '^\($(or $(UPGRADE),#)\)==' requirements.lock > "$(BUILD)/constraints.txt"; \
	test "$(UPGRADE)" != all || : > "$(BUILD)/constraints.txt"; \
	"$(BUILD)/lock/bin/python" $(PIP) install --progress-bar off -c "$(BUILD)/constraints.txt" '.[book,dev]' \
	  > "$(BUILD)/pip.log" 2>&1 \
	  || { $(SHOW_LOG); exit 1; }; \
	{ echo "# What pyproject.toml asks for (base, book, dev), resolved with Python 3.11 in a clean environment."; \
	  echo "# Made by: make lock (UPGRADE=name moves one pin, UPGRADE=all every pin). Do not edit by hand."; \
	  "$(BUILD)/lock/bin/python" $(PIP) freeze --all --exclude pip --exclude ilbook 2>/dev/null | sed 's/+cpu$$//'; \
	} > "$(BUILD)/requirements.lock"; \
	mv "$(BUILD)/requirements.lock" requirements.lock; rm -rf "$(BUILD)/lock"; \
	echo "lock: $$(grep -c == requirements.lock) packages pinned in requirements.lock"

# A folder of the reader's own may hold other things than ours.
MADE_IN_BUILD = executed runs by-hand trained teleop home temp stage book book.log site site-smoke pip.log apt.log

clean: ## remove what was made: build/ (executed notebooks, trainings, the site) and caches; keeps .venv
	@echo "clean: removing build/ and caches; $(VENV) stays (to remove it: rm -r $(VENV))"
	@rm -rf build dist ilbook.egg-info .pytest_cache .ruff_cache .hypothesis
	@test -z "$$ILBOOK_BUILD" || for name in $(MADE_IN_BUILD); do rm -rf "$$ILBOOK_BUILD/$$name"; done
	@find ilbook tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
