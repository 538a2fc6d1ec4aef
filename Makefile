# `make demo` and `make test` set everything up on a fresh machine and then do their job. Nothing here needs a GPU.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := photos,lean,optimizers,track,cluster,dev
# One thread a process: two test processes use two cores, and small models are fastest so.
ONE := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: setup demo test check lint types floors docs fuzz claims selection clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

# The toybox's demo; or, with PHOTOS and NOUN (and MODEL), a training on your own photos.
demo: setup
ifdef PHOTOS
	$(BIN)/dreambooth train --instance_data_dir "$(PHOTOS)" --class_noun "$(NOUN)" $(if $(MODEL),--pretrained_model_name_or_path "$(MODEL)") --output_dir demo-run
else
	$(BIN)/dreambooth demo
endif

test: setup
	$(ONE) $(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow" $(TESTS)

check: lint types floors docs

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup
	$(BIN)/pyright --pythonpath $(BIN)/python

floors: setup
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python -m tools.settings_table --check

fuzz: setup
	$(ONE) DREAMBOOTH_FUZZ_CASES=10000 $(BIN)/python -m pytest -m slow tests/photos/test_fuzz.py

# Two claims of the paper on the toybox: slow, resumable; rows are kept in benchmarks/claims/rows.
claims: setup
	$(ONE) $(BIN)/python -m benchmarks.claims.run

# Does the rule that chooses a checkpoint beat simpler ways, on the toybox: slow, resumable; rows are kept in benchmarks/selection/rows.
selection: setup
	$(ONE) $(BIN)/python -m benchmarks.selection.run

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
