# SPDX-License-Identifier: Apache-2.0
# A source list for each binary.

KINDS := blk rng console serial balloon mem

# Linked into device programs, freestanding, and into hosted builds of the same.
DEV_COMMON := devmodel/common/virtq.c devmodel/common/dirty.c devmodel/common/run.c devmodel/common/rate.c \
	snapshot/codec.c
# Only in the programs: entry, seal, memory functions.
DEV_START := devmodel/common/start.c devmodel/common/seal.c devmodel/common/mem.c

# The VMM but for main.c: also the archive that tests and benchmarks link.
VMM_LIB := $(wildcard core/*.c core/*/*.c snapshot/*.c hotplug/*.c) \
	devmodel/common/policy.c devmodel/common/rate.c $(KINDS:%=devmodel/%/policy.c)
VMM_LIB := $(filter-out core/main.c,$(VMM_LIB))

UNIT_TESTS := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
HOST_TESTS := $(patsubst tests/host/%.c,%,$(wildcard tests/host/test_*.c))
ESCAPE_TESTS := $(patsubst tests/escape/%.c,%,$(wildcard tests/escape/test_*.c))
# What the escape tests share.
ESCAPE_LIB := $(filter-out tests/escape/test_%,$(wildcard tests/escape/*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
# What a fuzz target may use: the VMM, the hosted device code, what the targets share.
FUZZ_LIB := $(sort $(DEV_COMMON) $(VMM_LIB) \
	$(filter-out tests/fuzz/fuzz_% tests/fuzz/replay_main.c,$(wildcard tests/fuzz/*.c)))
BENCHES := $(patsubst benchmarks/%.c,%,$(wildcard benchmarks/bench_*.c))
RIG_LIB := $(wildcard tests/rig/*.c)
BENCH_LIB := benchmarks/hist.c benchmarks/report.c benchmarks/common.c benchmarks/ratio.c \
	benchmarks/zoo.c benchmarks/footprint.c benchmarks/whole.c benchmarks/guest.c \
	benchmarks/pacer.c benchmarks/crossing.c $(wildcard benchmarks/amortize/*.c benchmarks/vhost/*.c)
