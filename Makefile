PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.DEFAULT_GOAL := help
.PHONY: help demo reproduce bench bench-gpu bench-launchers docs pretrained ablations test test-fast test-lowest test-examples coverage lint typecheck clean bench-formats bench-library bench-predict bench-similar bench-tags bench-unknown fuzz novelty

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml
	@echo 'Installing into .venv: takes some minutes, and about 6 GB if PyTorch includes CUDA'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install -qq --editable '.[dev]'
	@$(BIN)/genreclf download model=musicnn || echo 'Without them, features=musicnn does not work'
	@touch $@

demo: $(READY)  ## Run the whole study in miniature, on generated clips
	$(BIN)/genreclf study study=demo hydra/launcher=joblib hydra.launcher.n_jobs=-1

reproduce: $(READY)  ## Reproduce the paper: download FMA Small, extract features, run the study
	$(BIN)/genreclf study study=paper data=fma_small --estimate
	$(BIN)/genreclf download data=fma_small
	$(BIN)/genreclf prepare -m data=fma_small features=mel,mfcc,chroma
	$(BIN)/genreclf study study=paper data=fma_small

bench: $(READY)  ## Compare speed with a plain implementation; BENCH="training --music FOLDER" for a part
	$(BIN)/python tests/bench $(BENCH)

bench-gpu: $(READY)  ## Measure training on a GPU in at most 8 minutes; BENCH="--minutes 4" for less
	$(BIN)/python tests/bench/gpu.py $(BENCH)

bench-launchers: $(READY)  ## Run the demo's grid with joblib and packed: time and memory
	$(BIN)/python tests/bench/launchers.py $(BENCH)

bench-unknown: $(READY)  ## Measure how often music and other sounds are called unknown: MUSIC=folder
	$(BIN)/python tests/bench/unknown.py $(MUSIC) $(BENCH)

bench-tags: $(READY)  ## Compare tags, fma8 and both on folders of FMA's genres: MUSIC=folder
	$(BIN)/python tests/bench/tags.py $(if $(MUSIC),$(MUSIC),$(error bench-tags: MUSIC=folder is needed)) $(BENCH)

bench-predict: $(READY)  ## Measure the CPU time of genreclf predict, and its limit: MUSIC=folder
	$(BIN)/python tests/bench/predict_speed.py $(if $(MUSIC),$(MUSIC),$(error bench-predict: MUSIC=folder is needed)) $(BENCH)

bench-formats: $(READY)  ## Measure how audio formats change the bundled model's answers: FOLDER=music
	$(BIN)/python tests/bench/formats.py $(if $(FOLDER),$(FOLDER),$(error bench-formats: FOLDER=music is needed)) $(BENCH)

fuzz: $(READY)  ## Predict 2,000 damaged copies of the MP3 files of MUSIC=FOLDER: each must have one answer
	$(if $(MUSIC),,$(error MUSIC=FOLDER is needed))
	$(BIN)/python tests/bench/fuzz.py $(MUSIC)

bench-similar: $(READY)  ## Measure how well genreclf similar finds artists, genres and copies: FOLDER=music
	$(BIN)/python tests/bench/similar.py $(if $(FOLDER),$(FOLDER),$(error bench-similar: FOLDER=music is needed)) $(BENCH)

bench-library: $(READY)  ## Predict a library of 1,000 files in 66 formats, made from FOLDER=music
	$(BIN)/python tests/bench/library.py $(if $(FOLDER),$(FOLDER),$(error bench-library: FOLDER=music is needed)) $(BENCH)

docs: $(READY)  ## Build the documentation in outputs/docs; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -d outputs/docs/.doctrees docs outputs/docs
	@echo outputs/docs/index.html

NOTICE = Trained on mel spectrograms of FMA Small (Defferrard and others, 2017, arXiv:1612.01840), its \
  official training part; the clips are under Creative Commons licences of their artists, many of them for \
  non-commercial use. It was trained with knowledge distillation: further targets were VGGish embeddings \
  (Hershey and others, 2017) of the same tracks and the soft labels of a logistic regression on them. \
  Neither is needed to use the model. The genres were chosen by the users of FMA. The training settings were \
  chosen on these validation tracks, and published accuracies on the official test part of FMA Small are \
  lower than on its validation part, so expect a lower accuracy on music by other artists.

pretrained: $(READY)  ## Bundle the model of RUN=outputs/train/... with genreclf
	$(BIN)/genreclf export checkpoint=$(RUN)/best.ckpt folder=genreclf/models/pretrained \
	  title='"FMA Small, eight genres"' notice='"$(NOTICE)"'

novelty: $(READY)  ## Fit the novelty score of the bundled model on ROWS=fma.npz, as mel_frames
	$(BIN)/python tests/bench/add_novelty.py $(ROWS) $(BENCH)

ablations: $(READY)  ## experiment=best with one thing changed, 8 epochs each: DATA="data=..." DISTILLATION="..."
	$(if $(and $(DATA),$(DISTILLATION)),,$(error ablations: DATA="data=..." and DISTILLATION="distillation=..." are needed))
	for change in '' distillation.labels=0 distillation.weight=2 augmentation.segment=1 augmentation.masks=0 \
	  'augmentation.gain=0 augmentation.equaliser=0' augmentation.transpose=0 mixup=0.3 \
	  'oversampling.genres=[Pop] augmentation@oversampling.augmentation=segment' label_smoothing=0 normalise=none ema=null scheduler=none \
	  'model.channels=[32,48,96,192] model.mixed=256' 'model.kernels=[3,3,3,3]' model.frames=5 \
	  'model.kernels=[[3,9,15],5,3,3]' model.squeeze=8 'model.encoders=1 model.mixed=192' \
	  model.attention=0 model.segments=3; \
	do $(ABLATION) $(DISTILLATION) $$change || exit; done
	$(ABLATION)
	$(BIN)/genreclf summary runs=outputs/ablations/train file=docs/results/ablations.csv

ABLATION = $(BIN)/genreclf train experiment=best trainer.max_epochs=8 split=official test=false $(DATA) \
  outputs=outputs/ablations report=false

PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

test: $(READY)  ## Run all tests
	$(PYTEST) --durations=15

test-fast: $(READY)  ## Run the tests that take less than about 2 s each
	$(PYTEST) -m 'not slow'

LOWEST := .venv-lowest

$(LOWEST)/ready: pyproject.toml
	@echo 'Installing the lowest versions into $(LOWEST): takes some minutes, and about 6 GB if PyTorch includes CUDA'
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --upgrade uv
	grep -oE '[A-Za-z][A-Za-z0-9-]*(\[[a-z]+\])?>=[0-9.]+' pyproject.toml \
	  | sed -E 's/\[[a-z]+\]//; s/>=/==/' | sort -u > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --constraint $(LOWEST)/lowest.txt \
	  --build-constraint $(LOWEST)/lowest.txt --editable '.[dev]'
	@touch $@

test-lowest: BIN := $(LOWEST)/bin
test-lowest: $(LOWEST)/ready  ## Run all tests with the lowest versions that pyproject.toml allows
	LOWEST=1 $(PYTEST)

EXAMPLES := outputs/examples

test-examples: $(READY)  ## Test docs/examples with genreclf installed from its wheel
	rm -rf $(EXAMPLES)
	mkdir -p $(EXAMPLES)
	cp -r docs/examples/own_parts $(EXAMPLES)/source  # building a wheel leaves files there
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir $(EXAMPLES) . $(EXAMPLES)/source
	$(BIN)/python -m venv $(EXAMPLES)/venv
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(EXAMPLES)/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth"
	$(EXAMPLES)/venv/bin/pip install --quiet --no-deps $(EXAMPLES)/*.whl
	cd $(EXAMPLES) && OMP_NUM_THREADS=1 venv/bin/python -m pytest -q -c /dev/null --rootdir . \
	  -p no:cacheprovider ../../docs/examples/own_parts/tests

coverage: $(READY)  ## Run all tests and list the lines that none of them runs
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

lint: $(READY)  ## Check style and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo

typecheck: $(READY)  ## Check types
	$(BIN)/pyright

clean:  ## Delete .venv, .venv-lowest, caches and build files; outputs/ stays
	rm -rf .venv $(LOWEST) build dist *.egg-info .coverage* .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
