# SiteLoRA: every goal below does its own set-up, from a fresh clone, and asks nothing.
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu    to offer pip a CPU-only torch build
#   make label MODELS=exported STUDIES=studies PORT=8000          what MONAI Label is to show, and where
PYTHON      ?= python3
VENV        ?= .venv
TORCH_INDEX ?=
WORKERS     ?= 2
LABEL_VENV  ?= .venv-label
PEERS_VENV  ?= .venv-peers
MODELS      ?= exported
STUDIES     ?= studies
PORT        ?= 8000
MINUTES     ?= 60
EXPERIMENTS ?=
DATA        ?= data
JOBS        ?= 2

BIN    := $(VENV)/bin
STAMP  := $(VENV)/.sitelora-installed
LOG    := $(VENV)/install.log
TORCH  := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
SETUPTOOLS := $(shell sed -n 's/^setuptools==/setuptools==/p' constraints.txt)
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input

# pip's chatter goes to a log; when a step fails, its end is shown and the log is named.
define quietly
@printf '%s\n' "$(1)"; \
$(2) >>$(LOG) 2>&1 || { code=$$?; tail -n 30 $(LOG); echo "Failed (exit $$code). The whole log: $(LOG)"; exit $$code; }
endef

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format export pytest soak gpu poc prod-local evidence label labelsetup bench bench-full clean distclean

help: ## this list
	@printf 'SiteLoRA. Each goal does all of its own set-up.\n\n'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

setup: $(STAMP) ## the virtual environment, with everything the other goals need

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Found `$(PYTHON) --version 2>&1` as '$(PYTHON)', need Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@mkdir -p $(VENV); : >$(LOG)
	$(call quietly,[1/3] virtual environment in $(VENV),test -x $(BIN)/python || $(PYTHON) -m venv $(VENV))
	$(call quietly,[2/3] $(TORCH) (the largest download),$(PIP) install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH) $(SETUPTOOLS))
	$(call quietly,[3/3] SiteLoRA$(comma) NVFlare$(comma) MONAI and the test tools,$(PIP) install -c constraints.txt -e '.[federation$(comma)test]')
	@touch $@

comma := ,

DEMO := --threads 6 --home demo_run/home

demo: $(STAMP) ## six sites adapt a small SAM on a phantom, together and each alone; a report: demo_run/report/index.html
	$(BIN)/sitelora simulate jobs/iat_prostate $(DEMO) --workspace demo_run/workspace
	$(BIN)/sitelora simulate jobs/iat_prostate --method local $(DEMO) --workspace demo_run/workspace_local
	$(BIN)/sitelora report iat_prostate --beside local_prostate --home demo_run/home -o demo_run/report --picture demo_run/report/demo.png

test: lint pytest ## lint, types and every test but the soak ones

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

export: $(STAMP) ## write bundles/ and jobs/ anew from their sources in the package, as a test wants them committed
	$(BIN)/sitelora bundle --all --out bundles
	$(BIN)/python jobs/export.py

pytest: $(STAMP)
	$(BIN)/python -m pytest -m "not soak" -n $(WORKERS) --dist loadfile

soak: $(STAMP) ## the slow, faulty and long-running checks
	$(BIN)/python -m pytest -m soak --timeout 1800

gpu: $(STAMP) ## every method on this machine's CUDA device, in fp32 and bf16; fails where there is none
	$(BIN)/python -m pytest tests/device --device cuda

poc: $(STAMP) ## the same job over NVFlare's proof-of-concept system: real processes, TLS, loopback
	bash poc_workspace/run_poc.sh

prod-local: $(STAMP) ## every command of docs/operations.md, on this machine: kits, mutual TLS, a report, a clean stop
	@$(BIN)/python poc_workspace/prod_local.py

# MONAI Label needs older packages than NVFlare (numpy, pydicom, jsonschema), so it lives apart.
LABEL_STAMP := $(LABEL_VENV)/.sitelora-installed
$(LABEL_STAMP): BIN := $(LABEL_VENV)/bin
$(LABEL_STAMP): LOG := $(LABEL_VENV)/install.log
$(LABEL_STAMP): PIP := $(LABEL_VENV)/bin/python -m pip --disable-pip-version-check --no-input

label: $(LABEL_STAMP) ## the models in MODELS=exported and the images in STUDIES=studies, in MONAI Label on this machine
	@$(LABEL_VENV)/bin/sitelora label $(MODELS) --studies $(STUDIES) --port $(PORT)

labelsetup: $(LABEL_STAMP) ## the environment of MONAI Label alone: .venv-label

$(LABEL_STAMP): label-requirements.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { \
	  echo "Found `$(PYTHON) --version 2>&1` as '$(PYTHON)', MONAI Label needs 3.11 or 3.12: make label PYTHON=python3.11 ..."; exit 1; }
	@mkdir -p $(LABEL_VENV); : >$(LOG)
	$(call quietly,[1/3] virtual environment in $(LABEL_VENV),test -x $(BIN)/python || $(PYTHON) -m venv $(LABEL_VENV))
	$(call quietly,[2/3] $(TORCH) (the largest download),$(PIP) install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH))
	$(call quietly,[3/3] MONAI Label$(comma) MONAI and SiteLoRA,$(PIP) install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --no-deps -r label-requirements.txt -e .)
	@touch $@

# What ours is timed beside; apart, because MONAI imports transformers wherever it finds it. torch is that of $(VENV).
PEERS_STAMP := $(PEERS_VENV)/.sitelora-installed
$(PEERS_STAMP): BIN := $(PEERS_VENV)/bin
$(PEERS_STAMP): LOG := $(PEERS_VENV)/install.log
$(PEERS_STAMP): PIP := $(PEERS_VENV)/bin/python -m pip --disable-pip-version-check --no-input

$(PEERS_STAMP): $(STAMP)
	@mkdir -p $(PEERS_VENV); : >$(LOG)
	$(call quietly,[1/2] environment of the peers in $(PEERS_VENV),$(PYTHON) -m venv $(PEERS_VENV))
	@$(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  >`$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'`/sitelora.pth
	$(call quietly,[2/2] transformers and peft,$(PIP) install transformers peft)
	@touch $@

bench: $(STAMP) $(PEERS_STAMP) ## every measurement of speed and size beside its peers; docs/results/speed.md
	@$(BIN)/python benchmarks/bench.py --peers $(PEERS_VENV)/bin/python

bench-full: $(STAMP) $(PEERS_STAMP) ## the same with 512 and 1024 px, 100 sites and 20 rounds: an hour or more
	@$(BIN)/python benchmarks/bench.py --full --peers $(PEERS_VENV)/bin/python

evidence: $(STAMP) ## the frozen benchmark goes on for MINUTES=60, from EXPERIMENTS=e1,e2 (default all) and DATA=data; pages
	$(BIN)/sitelora evidence --minutes $(MINUTES) $(if $(EXPERIMENTS),--experiments $(EXPERIMENTS)) --data $(DATA) --jobs $(JOBS) --out docs/results

clean: ## what the demo, the POC and builds have left; keeps the virtual environment
	rm -rf demo_run simulator_workspace poc_workspace/run build dist .pytest_cache .mypy_cache .ruff_cache
	find custom bundles jobs tests benchmarks poc_workspace -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf *.egg-info custom/*.egg-info

distclean: clean ## clean, and the virtual environments too
	rm -rf $(VENV) $(LABEL_VENV) $(PEERS_VENV)
