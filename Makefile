# Every target sets up the environment that it needs: .venv, a second one for
# benchmarks, a third one for pinning packages, and a fourth one for the documents.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := benchmarks/.venv
# uv sets up an environment faster than pip. It is used where it is at hand.
UV := $(shell command -v uv 2>/dev/null)
make_venv = test -x $(1)/bin/python || \
  $(if $(UV),$(UV) venv --quiet --seed --python,) $(PYTHON) $(if $(UV),,-m venv) $(1)
# Progress of downloads is shown on a terminal. -q leaves out a line for each package.
install = $(if $(UV),$(UV) pip install --python $(1)/bin/python,$(1)/bin/python -m pip install -q --progress-bar on)
# Students of Table 1 train side by side. A TPU serves one process.
WORKERS ?= $(shell if test -e /dev/accel0 || test -e /dev/vfio/0; then echo 1; \
  else cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? cores : 4)); fi)
TABLE1 := launch.py --config=configs/mnist.py:table1
LOCK := .venv-lock
DOCS := .venv-docs
BENCHMARKS := student_training convolutions resnet_training inference serving \
  loading start_up growth side_by_side large_data photographs

.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-torch faults check format docs onnx report lock audit bench clean

help:  ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: $(VENV)/.run  ## Set up, download MNIST, train Table 1 and print it.
	@echo 'Training the 12 students of Table 1 takes about three minutes on two cores. The'
	@echo 'timing of this first run is short: batches of 1, 32 and 100, no cold calls;'
	@echo '$(BIN)/python $(TABLE1) times all of Table 1 afterwards.'
	$(BIN)/python $(TABLE1) --workers=$(WORKERS) --config.benchmark.cold_calls=0 \
	  '--config.benchmark.batch_sizes=(1, 32, 100)'

test: $(VENV)/.test  ## Set up and run the tests.
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.test  ## Run the tests that take minutes or large downloads.
	$(BIN)/python -m pytest -m slow

test-torch: $(BENCH)/.run  ## Run the tests that need PyTorch, in the benchmarks' environment.
	$(call install,$(BENCH)) -r tests/requirements.txt
	$(BENCH)/bin/python -m pytest tests/experiments/test_torch_teacher.py tests/export/test_weights.py

faults: $(VENV)/.test  ## Break runs in many ways, three times over.
	$(BIN)/python tests/run_faults.py

check: $(VENV)/.test  ## Check the code (linter, formatter, types), and the links of documents.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_links.py

format: $(VENV)/.test  ## Repair what the linter can, and format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCS)/.docs $(VENV)/.run  ## Build the documents as a site, in build/site.
	$(BIN)/python docs/generate.py
	$(DOCS)/bin/python -m mkdocs build --strict

onnx: $(VENV)/.onnx  ## Install what `python -m kd_jax.export --onnx` needs.

report: $(VENV)/.run  ## Write the tables of README.md, docs/ and results/*.md from results/.
	$(BIN)/python -m kd_jax.report results

lock:  ## Pin requirements.txt, with hashes, in requirements.lock.
	test -x $(LOCK)/bin/uv || { $(PYTHON) -m venv $(LOCK) && $(LOCK)/bin/python -m pip install --quiet uv pip-audit; }
	$(LOCK)/bin/uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-header requirements.txt -o requirements.lock

audit: lock  ## List known vulnerabilities of the pinned packages.
	$(LOCK)/bin/pip-audit --require-hashes -r requirements.lock

bench: $(BENCH)/.run  ## Compare training and inference with other systems.
	@failed=; for script in $(BENCHMARKS); do \
	  echo "benchmarks/$$script.py"; \
	  $(BENCH)/bin/python benchmarks/$$script.py || failed="$$failed $$script"; \
	done; \
	$(BENCH)/bin/python -m kd_jax.report results; \
	test -z "$$failed" || { echo "these benchmarks have failed:$$failed" >&2; exit 1; }

clean:  ## Remove the environments and caches; keep runs/ and the data.
	rm -rf $(VENV) $(BENCH) $(LOCK) $(DOCS) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A marker file in an environment shows what is installed there, so that make
# installs it only once.
$(VENV)/.run: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or later is needed: make PYTHON=python3.12' >&2; exit 1; }
	@echo 'Setting up $(VENV): JAX and what else is needed, 1.1 GB, in one to three minutes.'
	@began=$$(date +%s) && { $(call make_venv,$(VENV)); } && \
	  $(call install,$(VENV)) -e . && \
	  echo $$(($$(date +%s) - began)) > $(VENV)/.setup_seconds
	@touch $@

$(DOCS)/.docs: docs/requirements.txt
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet -r docs/requirements.txt
	@touch $@

$(BENCH)/.run: benchmarks/requirements.txt requirements-onnx.txt requirements.txt
	$(call make_venv,$(BENCH))
	$(call install,$(BENCH)) -r requirements.txt -r requirements-onnx.txt \
	  -r benchmarks/requirements.txt
	$(call install,$(BENCH)) --no-deps jax2onnx==0.17.1
	@touch $@

$(VENV)/.onnx: requirements-onnx.txt $(VENV)/.run
	$(call install,$(VENV)) -r requirements.txt -r requirements-onnx.txt
	$(call install,$(VENV)) --no-deps jax2onnx
	@touch $@

$(VENV)/.test: tests/requirements.txt $(VENV)/.onnx
	$(call install,$(VENV)) -r requirements.txt -r requirements-onnx.txt \
	  -r requirements-logs.txt -r tests/requirements.txt
	@touch $@
