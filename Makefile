# `make` lists the targets. Each does its own set-up first (scripts/setup.sh, quick when nothing changed), and nothing is
# installed outside .venv.
#
# Variables: PYTHON (the interpreter that .venv is made with), PYTEST_ARGS (more arguments for pytest), PLINIUS_DATA (a
# folder with mnist/, cfg/ and spot/: real data for the tests and bench-all), DEMO_DATA (a folder of IDX files for the demo), PEERS
# (more systems for bench-sps and bench-all: '--peer NAME=COMMAND', see bench/peers/README.md), BENCH_ARGS (more options
# for bench-mirror, bench-step and bench-all), FUZZ_MINUTES.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# One after the other, also under `make -j`: every target wants both cores, and output must not mix.
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# rustup's folder, for a shell that was opened before rustup was installed.
export PATH := $(PATH):$(HOME)/.cargo/bin

PYTHON_OF_VENV := .venv/bin/python
# The bindings' build scripts ask an interpreter; not whichever comes first in PATH.
export PYO3_PYTHON := $(CURDIR)/$(PYTHON_OF_VENV)
FUZZ_MINUTES ?= 30
DEMO_DATA ?= $(if $(PLINIUS_DATA),$(PLINIUS_DATA)/mnist)

.PHONY: help setup demo demo-attested test test-frameworks check kills kills-overlap crash-campaign crash-mutants dax paper-accuracy bench-all bench-step bench-mirror bench-sps bench-writers fuzz fuzz-smoke fmt clean distclean

help:
	@echo 'make TARGET, where TARGET is one of'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s%s\n", $$1, $$2 }' Makefile

setup: ## make .venv ready: packages, PyTorch, the compiled modules (every target does it by itself)
	@scripts/setup.sh

demo: setup ## train on encrypted images, kill the process, resume, compare; writes demo-out/
	@data='$(DEMO_DATA)'; data=$${data:-$$(scripts/fetch_fashion_mnist.sh)}; \
	$(PYTHON_OF_VENV) bench/demo.py --data "$$data" --output demo-out

demo-attested: setup ## an owner's broker, an attested enclave on a machine that is killed and that lies; writes demo-attested-out/
	@data='$(DEMO_DATA)'; data=$${data:-$$(scripts/fetch_fashion_mnist.sh)}; \
	$(PYTHON_OF_VENV) bench/demo_attested.py --data "$$data" --output demo-attested-out

test: setup ## Rust tests, then pytest
# Without the bindings: their test programs would need libpython to link with, and pytest tests them as modules.
	@cargo test --workspace --exclude plinius-py --exclude plinius-py-pm --locked --offline --quiet
# A file of tests at a time on each core: many of them wait for processes of their own.
	@$(PYTHON_OF_VENV) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

test-frameworks: ## the examples of other frameworks (Lightning, Transformers, Keras, JAX, ...), killed and resumed
	@scripts/setup.sh frameworks
	@$(PYTHON_OF_VENV) -m pytest tests/frameworks $(PYTEST_ARGS)

check: setup ## format, lints, types, the stubs, import contracts, pins, clippy
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@$(PYTHON_OF_VENV) -m mypy.stubtest plinius._core plinius._pm --mypy-config-file pyproject.toml
	@scripts/check_contracts.sh
	@$(PYTHON_OF_VENV) -m pip check
# That looks at what is installed; this, whether all of the group dev is.
	@$(PYTHON_OF_VENV) -m pip install --quiet --dry-run --no-index --group dev
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked --offline --quiet -- -D warnings

kills: setup ## the campaign of 200 kills: enclave, host and both
	@$(PYTHON_OF_VENV) -m pytest tests/crash/test_kills.py --kills 200

kills-overlap: setup ## 500 kills of a training that saves in the background
	@$(PYTHON_OF_VENV) -m pytest -s tests/crash/test_overlap_kill.py --overlap-kills 500

crash-campaign: ## every crash of every kind of transaction, then 10 million different crashes of random ones
	@cargo run --quiet --release --locked --package plinius-explore -- campaign 10000000 1

crash-mutants: ## each flush and fence of the code left out, one at a time: the explorer has to find it
	@cargo run --quiet --release --locked --package plinius-explore -- mutants

dax: setup ## persistent memory in a virtual machine (QEMU, no KVM): detection, MAP_SYNC, tests, 5 killed machines
	@$(PYTHON_OF_VENV) scripts/dax/main.py

paper-accuracy: setup ## the paper's accuracy on MNIST with 9 kills (needs PLINIUS_DATA)
	@$(PYTHON_OF_VENV) bench/paper_accuracy.py

bench-all: setup ## the paper's evaluation, every table and figure (BENCH_ARGS=--quick: 3 minutes); writes bench-out/report/
	@$(MAKE) target/pmemobj_sps || echo 'bench-all: figure 6 is measured without libpmemobj'
	@mkdir -p bench-out
	@.venv/bin/plinius bench all --output bench-out/report --disk bench-out $(if $(PLINIUS_DATA),--data $(PLINIUS_DATA)) $(PEERS) $(BENCH_ARGS)

bench-step: setup ## a step with a save every 1, 10 and 50 steps, beside other ways (BENCH_ARGS=--quick: 3 minutes); writes bench-out/
	@.venv/bin/plinius bench step --output bench-out $(BENCH_ARGS)

bench-mirror: setup ## save and restore by size, beside their bounds and other ways (BENCH_ARGS=--quick: 3 minutes); writes bench-out/
	@.venv/bin/plinius bench mirror --output bench-out $(BENCH_ARGS)

bench-writers: setup ## many writing threads on one pool: a plain lock against flat combining, on /dev/shm
	@cargo run --quiet --release --locked --offline -p plinius-pm --example writers

bench-sps: target/pmemobj_sps setup ## swaps per second (the paper's figure 6) beside PMDK's libpmemobj; writes bench-out/
	@cargo build --release --locked --offline --quiet -p plinius-pm --example fences
	@.venv/bin/plinius bench sps --peer libpmemobj=target/pmemobj_sps $(PEERS) --fences target/release/examples/fences \
		--output bench-out

target/pmemobj_sps: bench/peers/pmemobj_sps.c
	@echo '#include <libpmemobj.h>' | $(CC) -E - >/dev/null 2>&1 || \
		{ echo 'bench-sps: the peer needs libpmemobj: sudo apt install libpmemobj-dev' >&2; exit 1; }
	@mkdir -p target
	@$(CC) -O2 -std=gnu11 -Wall -Wextra -o $@ $< -lpmemobj

# These two need no .venv.
fuzz: ## fuzz the pool file for FUZZ_MINUTES (30), with cargo-fuzz on stable Rust (needs g++)
	@scripts/fuzz.sh $$(($(FUZZ_MINUTES) * 60))

fuzz-smoke: ## the same for 60 seconds, and the lints of fuzz/
	@cargo fmt --manifest-path fuzz/Cargo.toml --check
	@cargo clippy --manifest-path fuzz/Cargo.toml --all-targets --locked --quiet -- -D warnings
	@scripts/fuzz.sh 60

fmt: setup ## format Python and Rust
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --select I --fix --quiet .
	@cargo fmt --all
	@cargo fmt --manifest-path fuzz/Cargo.toml

clean: ## remove what was built and written (.venv and downloaded data stay)
	rm -rf target fuzz/target demo-out demo-attested-out bench-out build python/*.egg-info python/plinius/_{core,pm}*.so
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find python tests bench scripts -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv and downloaded data too
	rm -rf .venv .cache fuzz/corpus fuzz/artifacts
