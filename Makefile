# make lab     the experiments in their quick form, results in results/
# make test    the whole test suite
# make check   lint, format, types
# make notes   tables, figures and numbers of docs/notes
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: lab test check format notes readme clean

lab: $(VENV)/.installed
	$(BIN)/normlab verify --quick

test: $(VENV)/.installed-dev
	$(BIN)/pytest -n 2

check: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --warnings

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Writes what is generated in docs/notes anew, from committed results and from the code.
notes: $(VENV)/.installed-dev
	$(BIN)/python docs/make_notes

# Runs the full experiments and puts their picture and claims into the README and docs/results/.
readme: $(VENV)/.installed-dev
	$(BIN)/normlab verify --full --out results/full
	$(BIN)/python docs/publish.py results/full
	$(BIN)/python docs/make_notes

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("normlab needs Python 3.11 or newer, found %d.%d: say which one with make PYTHON=python3.12 ..." % v[:2])'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "This Python cannot make virtual environments: install its venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[learn]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[learn,dev]'
	@touch $@
