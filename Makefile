# Needs git, make and Python 3.11 or newer; everything else goes into .venv.
# Another interpreter: make setup PYTHON=/path/to/python3.12

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The first interpreter that is new enough and can make virtual environments (Debian splits venv off).
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$python"; break; }; done)

.PHONY: help setup demo test check bench train

help:
	@echo "make setup   a virtual environment in $(VENV) with everything in it"
	@echo "make demo    take the shipped street recording apart, into out/"
	@echo "make test    the tests"
	@echo "make check   lint, format, types, import layers"
	@echo "make bench   measure the shipped weights"
	@echo "make train   train a tiny network, start to finish"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { \
		echo "error: no Python 3.11 or newer with its venv module was found;" \
		     "install it (Debian, Ubuntu: apt install python3 python3-venv)" \
		     "or name one: make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@# Two packages of the perceptual metrics are compiled; all else works without a C compiler.
	@$(BIN)/pip install --quiet -c constraints.txt -e '.[metrics]' || \
		echo "note: perceptual metrics are left out, and their tests; they want a C compiler and Python's headers"
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: $(STAMP)
	$(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m unweave.evaluate.bench

train: $(STAMP)
	$(BIN)/python examples/train_tiny.py
