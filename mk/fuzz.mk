# SPDX-License-Identifier: Apache-2.0
# Fuzzing. The rules for build/fuzz/fuzz_X and $(O)/fuzz/replay_X are in rules.mk.

SECONDS ?= 20
HAVE_CLANG := $(shell command -v clang)

.PHONY: fuzz
fuzz: $(if $(HAVE_CLANG),$(FUZZERS:%=build/fuzz/%)) ## run each fuzzer for SECONDS (20) on its corpus
	$(Q)tests/fuzz/run.sh $(SECONDS) $(FUZZERS)

.PHONY: check-replay
check-replay: $(FUZZERS:fuzz_%=$(O)/fuzz/replay_%) ## give each fuzz target its corpus once, without libFuzzer
	$(Q)for f in $(FUZZERS:fuzz_%=%); do $(O)/fuzz/replay_$$f tests/fuzz/corpus/$$f; done
