# Two commands: `make run` starts the page, `make test` runs the tests. Everything lives in .venv.
# ARGS reaches the command behind a target: make test ARGS="-k layers", make bench ARGS=speed

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: run test install install-dev check bench space clean

run: .venv/installed
	$(BIN)/python app.py $(ARGS)

test: .venv/installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

install: .venv/installed

install-dev: .venv/installed-dev

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed-dev
	$(BIN)/python -m benchmarks $(ARGS)

# What a Space is made of, checked: sizes, licences, nothing private.
space:
	$(PYTHON) -m hosting.space

# data/ (votes) and runs/ (checkpoints) stay: they cannot be made again.
clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second call instant; an interrupted installation leaves none and is taken up again.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt constraints.txt | .venv/bin/python
	@echo "Installing into .venv (about 1.5 GB; minutes, once)"
	$(BIN)/python -m pip install --quiet -r requirements.txt -c constraints.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt -c constraints.txt
	@touch $@
