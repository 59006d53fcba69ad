# SPDX-License-Identifier: Apache-2.0
# mayfly. `make help` lists the targets; everything built lands in build/.
#
#   CC=clang        another compiler (build/clang)
#   FLAVOUR=san     ASan + UBSan in everything hosted (build/san)
#   FLAVOUR=omit-L  device programs that leave out layer L of the seal (build/omit-L, for check-escape)
#   V=1             show the commands

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules

ifeq ($(origin CC),default)
CC := gcc
endif
FLAVOUR ?= release
# Objects of different compilers and flavours do not mix: build, build/clang, build/san, build/clang-san.
CC_NAME := $(notdir $(lastword $(filter-out -%,$(CC))))
VARIANT := $(filter-out gcc,$(CC_NAME))$(if $(filter-out gcc,$(CC_NAME)),-)$(FLAVOUR)
O := $(if $(filter release,$(VARIANT)),build,build/$(VARIANT:%-release=%))
Q := $(if $(V),,@)

VERSION := 0.1.0

include mk/flags.mk
include mk/sources.mk
include mk/rules.mk
include mk/faulty.mk
include mk/rogue.mk
include mk/check.mk
include mk/fuzz.mk
include mk/bench.mk
include mk/lint.mk
include mk/escape.mk
include mk/demo.mk
include mk/vhost.mk
include mk/install.mk

.PHONY: all
all: $(O)/mayfly $(DEV_PROGRAMS) $(FAULTY_PROGRAMS) ## build mayfly and the device programs

.PHONY: deps
deps: ## install what mk/packages.txt lists and is missing (not root: say what, and stop)
	$(Q)mk/deps.sh

.PHONY: clean
clean: ## remove build/
	rm -rf build

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 22 | sort
