PROFILE ?= demo
DATA    ?=
SET     ?=
PORT    ?= 8000
PYTHON  ?= python3

BIN     := .venv/bin
OPTIONS := --profile "$(PROFILE)" $(if $(DATA),--data "$(DATA)") $(foreach pair,$(SET),--set "$(pair)")

.PHONY: help book claims student teacher pdf test serve bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: .venv/installed  ## run the chapters that need it and render the pages (PROFILE=demo DATA=<folder> SET="key=value")
	@$(BIN)/ehrbook book $(OPTIONS)

claims: .venv/installed  ## hold the claims of the book against a build; fails if one of them does (PROFILE=demo)
	@$(BIN)/ehrbook claims $(OPTIONS)

student: .venv/installed  ## write the student edition, without solutions: build/student and build/student.zip
	@$(BIN)/ehrbook student

teacher: book  ## write build/teacher.zip: solutions, schedules, goals, questions, slides (PROFILE=demo)
	@$(BIN)/ehrbook teacher --profile "$(PROFILE)"

pdf: book  ## print the pages as build/<profile>/book.pdf; needs Chromium or Chrome (PROFILE=demo)
	@$(BIN)/ehrbook pdf --profile "$(PROFILE)"

test: .venv/tested  ## install what the tests need, check spelling, style and types, run every test
	@$(BIN)/codespell
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/pytest -n 2 --dist loadfile

serve: .venv/installed  ## show the pages at http://127.0.0.1:8000 (PROFILE=demo PORT=8000)
	@$(BIN)/ehrbook serve --profile "$(PROFILE)" --port "$(PORT)"

bench: .venv/installed  ## measure this machine and write benchmarks/*.csv
	@$(BIN)/python -m benchmarks.embed
	@$(BIN)/python -m benchmarks.one_pass
	@$(BIN)/python -m benchmarks.cohort
	@$(BIN)/python -m benchmarks.serialize
	@$(BIN)/python -m benchmarks.store
	@$(BIN)/python -m benchmarks.evaluate
	@if command -v nvidia-smi >/dev/null; then $(BIN)/python -m benchmarks.gpu; fi

clean:  ## remove the environment and everything that runs have made
	rm -rf .venv build *.egg-info

# torch first and by itself, so that no other package chooses its build; then the project at the locked versions.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; ok = (3, 11) <= v < (3, 13); \
	    ok or sys.exit("error: Python %d.%d cannot run this book; give 3.11 or 3.12 with make PYTHON=..." % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check $$(grep '^torch==' requirements.lock)
	$(BIN)/pip install -q --disable-pip-version-check -c requirements.lock -e .
	@touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install -q --disable-pip-version-check -c requirements.lock -e '.[test]'
	@touch $@
