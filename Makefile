# SPDX-License-Identifier: GPL-3.0-or-later
# The commands of this repository; each installs what it lacks and says so. Every recipe line is one command, so a
# failure ends make with its status.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
HOST ?= npu-1
# 2.19, or 2.17 for fleets whose servers have Python 3.7; each has an environment of its own.
export ANSIBLE ?= 2.19
# ansible-playbook, molecule and the linters look for their tools on PATH.
export PATH := $(if $(filter-out 2.19,$(ANSIBLE)),$(CURDIR)/.venv-$(ANSIBLE)/bin:)$(CURDIR)/.venv/bin:$(PATH)

.PHONY: help lab lab-up lab-down lab-clean lab-status shell rehearse rehearse-down test test-all venv setup engine-stop

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: lab-up ## bring the lab up and take a model from bare servers to a finished training run
	ansible-playbook site.yml -i inventory/lab

lab-up: setup ## bring the lab's hosts up; a running lab is left alone
	@.venv/bin/python -m lab up

lab-down: ## remove the lab's hosts, volumes, network and state
	@$(PYTHON) -m lab down

lab-clean: ## lab-down, and remove its images and what it cached
	@$(PYTHON) -m lab clean

lab-status: ## show the lab's hosts
	@$(PYTHON) -m lab status

shell: ## open a shell on a lab host: make shell HOST=npu-2
	@$(PYTHON) -m lab ssh $(HOST)

rehearse: ## run the real MindSpeed-LLM through site.yml on CPU: make rehearse UPSTREAM=<directory of the three clones>
	@scripts/rehearse "$(UPSTREAM)"

rehearse-down: ## remove the rehearsal's hosts, volumes, network and state
	@LAB_VARIANT=rehearsal $(PYTHON) -m lab down

test: ## run everything that the continuous integration runs
	@$(PYTHON) scripts/test

test-all: ## run what takes longer, ansible-core 2.17 among it, and write docs/test-all.md
	@$(PYTHON) scripts/test all

venv: ## create or update the environment .venv, or .venv-2.17 with ANSIBLE=2.17
	@$(PYTHON) scripts/setup controller chosen

setup: ## install what is missing on this machine and start the Docker engine
	@$(PYTHON) scripts/setup

engine-stop: ## end the Docker engine, if setup started it
	@$(PYTHON) scripts/setup stop
