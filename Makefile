# `make demo` and `make test` set everything up on a fresh machine and then do their job. Nothing here needs a GPU.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
EXTRAS := photos,lean,optimizers,track,provenance,cluster,ui,docs,dev
PIP := install --quiet --disable-pip-version-check
# One thread a process: two test processes use two cores, and small models are fastest so.
ONE := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
# How the repository's rows were examined; another examination makes other rows.
EXAMINED := --num_prompts 8 --num_images 2 --class_samples 16

.PHONY: setup demo test check lint types floors house docs spelling site docs-test newcomer lowest chaos fuzz notebook flows claims tables bars pack selection clean

# Everything: what the tests, the checks and every extra need.
setup: $(VENV)/.installed

$(VENV)/.installed: $(VENV)/.core
	$(BIN)/pip $(PIP) -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

# What `dreambooth` itself needs, and no more.
$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip $(PIP) -c constraints.txt torch==2.13.0
	$(BIN)/pip $(PIP) -c constraints.txt -e .
	touch $@

# The toybox's demo; or, with PHOTOS and NOUN (and MODEL), a training on your own photos.
demo: $(VENV)/.core
ifdef PHOTOS
	$(BIN)/dreambooth train --instance_data_dir "$(PHOTOS)" --class_noun "$(NOUN)" $(if $(MODEL),--pretrained_model_name_or_path "$(MODEL)") --output_dir demo-run
else
	$(BIN)/dreambooth demo
endif

test: setup
	$(ONE) $(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow" $(TESTS)

check: lint types floors house docs spelling

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup
	$(BIN)/pyright --pythonpath $(BIN)/python

floors: setup
	$(BIN)/lint-imports

# Modules, layers, lines of functions and files, repetition: each has its limit in tools/house.py.
house: setup
	$(BIN)/python -m tools.house

docs: setup
	$(BIN)/python -m tools.settings_table --check
	$(BIN)/python -m tools.formats_table --check
	$(BIN)/python -m tools.keywords --check
	$(BIN)/python -m tools.lowest --check
	$(BIN)/python -m tools.docs_commands --check

# Words that are often misspelt, in pages, help, messages and comments; what is ignored stands in pyproject.toml.
spelling: setup
	$(BIN)/codespell *.md docs dreambooth tools benchmarks examples notebooks deploy

# The pages as a site, in build/site; a link that leads nowhere is an error.
site: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Every command that README and docs/ show, on the toybox: a quarter of an hour, or one page: make docs-test PAGE=docs/train.md. Those that
# need a GPU, the Hub or a file of yours are named.
docs-test: setup
	$(ONE) $(BIN)/python -m tools.docs_commands $(if $(PAGE),--only $(notdir $(PAGE)))

# A newcomer's way: a wheel in an empty environment, from photos to scores and a file for other programs, with nothing of this checkout on
# the path. Minutes, and pip has to reach its index.
newcomer: setup
	$(ONE) $(BIN)/python -m tools.newcomer

# The suite with the lowest versions that pyproject.toml allows, in an environment of its own: slow, and pip has to reach these versions.
LOWEST := $(VENV)-lowest
lowest:
	test -x $(LOWEST)/$(notdir $(BIN))/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/$(notdir $(BIN))/pip $(PIP) -c constraints-lowest.txt -e ".[$(EXTRAS)]" \
	  || { echo "make lowest needs the versions in constraints-lowest.txt from pip's index (or wheels: PIP_FIND_LINKS=DIR); they were not found."; exit 1; }
	$(ONE) $(LOWEST)/$(notdir $(BIN))/python -m pytest -n 2 --dist loadscope -m "not slow" $(TESTS)

# Kills, flipped bytes, full disks and races: hours, resumable; its counts stand in docs/reliability.md.
chaos: setup
	$(ONE) $(BIN)/python -m tests.chaos --kills $(or $(KILLS),500)

# Damaged photos, and damaged texts of every kind that people write (DREAMBOOTH_FUZZ_SEED=2 for others).
fuzz: setup
	$(ONE) DREAMBOOTH_FUZZ_CASES=500 $(BIN)/python -m pytest tests/test_fuzz_texts.py
	$(ONE) DREAMBOOTH_FUZZ_CASES=10000 $(BIN)/python -m pytest -m slow tests/photos/test_fuzz.py

# notebooks/tutorial.ipynb from top to bottom, as a reader runs it: minutes. Its outputs are not kept.
notebook: setup
	$(ONE) $(BIN)/python -m tools.notebook

# What people do in a browser, with servers killed on the way, and every page at two widths, light and dark, read by axe: in the
# distribution's Chromium, minutes.
flows: setup
	$(ONE) $(BIN)/python -m pytest -m slow tests/flows

# Two claims of the paper on the toybox, 8 subjects x 2 seeds: slow, resumable; what is in the repository's rows is not done again.
claims: setup
	$(ONE) $(BIN)/dreambooth bench claims --num_subjects 8 --seeds 0 1 $(EXAMINED) --output_dir benchmarks/tables --executor processes

# The paper's tables on the toybox, from the repository's rows and what is missing.
tables: setup
	for plan in table1 table3 table4 table4_few_steps; do \
		$(ONE) $(BIN)/dreambooth bench $$plan --num_subjects 10 --seeds 0 1 2 $(EXAMINED) --output_dir benchmarks/tables --executor processes || exit; done

# How faithful the recipe is on all held-out subjects, from the repository's rows and what is missing.
bars: setup
	$(ONE) $(BIN)/dreambooth bench recipe --seeds 0 1 $(EXAMINED) --output_dir benchmarks/tables --executor processes
	$(ONE) $(BIN)/python -m benchmarks.bars.run

# Before new rows are committed: two files a plan in place of a file for each row and picture.
pack: setup
	$(BIN)/dreambooth bench --pack --output_dir benchmarks/tables

# Does the rule that chooses a checkpoint beat simpler ways, on the toybox: slow, resumable; rows are in benchmarks/selection/rows/rows.jsonl.
selection: setup
	$(ONE) $(BIN)/python -m benchmarks.selection.run

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
