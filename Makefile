# Two commands are enough: `make demo` and `make test`. Both set everything up and are fast the second time.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint score verdicts bench fuzz docs clean

demo: $(VENV)/.demo
	@$(BIN)/anecompat check examples/TextEncoder.mlpackage; status=$$?; \
	 echo; echo "(exit status $$status; three examples lie in examples/)"; test $$status -lt 3

test: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check src tests tools
	$(BIN)/ruff format --check src tests tools
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/make_proto.py --check
	$(BIN)/python tools/make_docs.py --check

# The predictor against published measurements: ../shared/truth where it is, and the evidence the repository carries.
score: $(VENV)/.test
	$(BIN)/python tools/score.py

# Every model of the corpus on every chip against the committed answers: a changed answer shows in review.
verdicts: $(VENV)/.test
	$(BIN)/python tools/verdicts.py

# Times as ratios within one run, coremltools in an environment without torch as the peer.
bench: $(VENV)/.test
	$(BIN)/python tools/bench.py

# Feed the readers broken files for a given time: make fuzz SECONDS=600
SECONDS ?= 120
fuzz: $(VENV)/.test
	$(BIN)/python tools/fuzz.py --seconds $(SECONDS)

docs: $(VENV)/.test
	$(BIN)/python tools/make_docs.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lzfse]' 2>/dev/null \
	 || echo "the extra lzfse cannot be built here: its tests skip"
	@touch $@

clean:
	rm -rf $(VENV) build dist
