# SPDX-License-Identifier: Apache-2.0
# What must hold before a change goes in.  Each step is a target of its own.

UNIT_PROGRAMS := $(UNIT_TESTS:%=$(O)/tests/unit/%)
HOST_PROGRAMS := $(HOST_TESTS:%=$(O)/tests/host/%)
BENCH_PROGRAMS := $(BENCHES:%=$(O)/benchmarks/%)

# tests/run.sh keeps what a step's tests did in build/log/LABEL.  A step with tests of its own adds
# its label to CHECK_LABELS, so that they count in the last line.
LABEL ?= tests
LIMIT ?= 120
# What check-everystep does at once; with SHARD=i/n it does that part only.
EVERYSTEP_SHARDS ?= $(shell nproc)
EVERYSTEP_PARTS := $(or $(firstword $(subst /, ,$(SHARD))),$(shell seq $(EVERYSTEP_SHARDS)))
CHECK_LABELS := tests model san user
LONG_LABELS := model-long long-deaths long-vmms long-handoffs long-changes $(EVERYSTEP_PARTS:%=everystep-%)
CHECK_STEPS := check-build lint check-quick check-model check-replay check-escape check-clang check-san check-user
CHECK_FULL_STEPS := $(CHECK_STEPS) check-long check-everystep
# A user id that no account has: nothing of mayfly may need one.
CHECK_UID ?= 61000
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

# Recursive, since a step is to be over before the next begins, and some have other flags.
.PHONY: check check-full
check: STEPS = $(CHECK_STEPS)
check: deps ## everything that must hold before a change goes in
check-full: STEPS = $(CHECK_FULL_STEPS)
check-full: deps ## the same, deaths by the thousand, and at every instruction
check check-full:
	$(Q)begin=$$SECONDS; for step in $(STEPS); do echo "== $$step"; \
		$(MAKE) --no-print-directory $(JOBS) $$step || { echo "check: $$step failed"; exit 1; }; done; \
		echo "== check: all steps passed in $$((SECONDS - begin)) s"
	$(Q)tests/run.sh --total $(CHECK_LABELS) $(if $(filter check,$@),,$(LONG_LABELS))

.PHONY: check-build
check-build: all $(UNIT_PROGRAMS) $(HOST_PROGRAMS) $(ESCAPE_TESTS:%=$(O)/tests/escape/%) $(BENCH_PROGRAMS) ## build all there is, but for fuzzers

.PHONY: check-quick
check-quick: all $(UNIT_PROGRAMS) $(HOST_PROGRAMS) ## unit and host tests, as the user you are
	$(Q)tests/run.sh -l $(LABEL) -t $(LIMIT) $(UNIT_PROGRAMS) $(HOST_PROGRAMS)

# COUNT is what each program takes it for: deaths of each kind, of VMMs, handoffs.
LONG_DEATHS ?= 2000
LONG_VMMS ?= 100
LONG_HANDOFFS ?= 1000
LONG_CHANGES ?= 10000
.PHONY: check-long
check-long: all $(HOST_PROGRAMS) ## deaths, handoffs and changes of the map by the thousand (LONG_DEATHS, LONG_VMMS, LONG_HANDOFFS, LONG_CHANGES)
	$(Q)COUNT=$(LONG_DEATHS) tests/run.sh -l long-deaths -t 280 $(O)/tests/host/test_recovery
	$(Q)COUNT=$(LONG_VMMS) tests/run.sh -l long-vmms -t 280 $(O)/tests/host/test_vmmdeath
	$(Q)COUNT=$(LONG_HANDOFFS) tests/run.sh -l long-handoffs -t 280 $(O)/tests/host/test_handoff
	$(Q)COUNT=$(LONG_CHANGES) tests/run.sh -l long-changes -t 600 $(O)/tests/host/test_epochs
	$(Q)$(MAKE) --no-print-directory check-model-long

# The model calls the table itself, and has its names from the same header.
MODEL := $(O)/model/names.pml $(O)/model/table.o
$(O)/model/names: tests/model/names.c core/box/table.h
	@mkdir -p $(@D)
	$(Q)$(CC) $(HOSTED) -MF $@.d -o $@ $<
$(O)/model/names.pml: $(O)/model/names
	$(Q)$< >$@
$(O)/model/table.o: core/box/table.c core/box/table.h
	@mkdir -p $(@D)
	$(Q)gcc -O2 -I. -c -o $@ $<

.PHONY: check-model check-model-long model-cells
check-model: $(MODEL) ## search the model of the replacement protocol, and find mistakes in it
	$(Q)tests/model/check.sh $(O)
check-model-long: $(MODEL) ## the same with more faults, without mistakes (minutes, 4 GB)
	$(Q)tests/model/check.sh -l model-long -j 1 $(O)
model-cells: $(MODEL) ## write tests/model/cells.txt: the cells of the table that the model comes by
	$(Q)tests/model/check.sh $(O) || true # says, among others, that they differ
	$(Q)tests/model/check.sh -c $(O)

# Sequences of a taken-over box by the ten thousand, and what they did to the devices beside it as the
# last line.  A sanitizer's report ends in an abort, at which the test says what it played.  SEED, SHARD and ROGUE: see the test; AS_UID: a user id to run it as, as root.
TAKEOVER_COUNT ?= 100000
.PHONY: check-takeover
check-takeover: all $(O)/tests/host/test_takeover ## taken-over boxes at random (COUNT, SEED, SHARD=i/n, AS_UID=n)
	$(Q)ASAN_OPTIONS=abort_on_error=1 UBSAN_OPTIONS=abort_on_error=1 \
		COUNT=$(or $(COUNT),$(TAKEOVER_COUNT)) SEED=$(SEED) SHARD=$(SHARD) ROGUE=$(ROGUE) \
		tests/run.sh -l takeover -t 3600 $(if $(AS_UID),-u $(AS_UID)) $(O)/tests/host/test_takeover
	$(Q)tail -n 1 build/log/takeover/test_takeover.log

EVERYSTEP_PROGRAMS := $(filter %/test_everystep %/test_everystep_streams %/test_everystep_balloon,$(HOST_PROGRAMS))
.PHONY: check-everystep
check-everystep: all $(EVERYSTEP_PROGRAMS) ## devices killed at every instruction of all that they do (EVERYSTEP_SHARDS, SHARD=i/n)
	$(Q)tests/everystep.sh $(EVERYSTEP_SHARDS) 1800 $(EVERYSTEP_PROGRAMS)

.PHONY: check-clang
check-clang: ## build all there is with clang, whose warnings are errors too
	$(Q)$(MAKE) --no-print-directory CC=clang FLAVOUR=release check-build

.PHONY: check-san
check-san: ## unit and host tests with ASan and UBSan in everything hosted
	$(Q)$(MAKE) --no-print-directory FLAVOUR=san LABEL=san LIMIT=300 check-quick

.PHONY: check-user
ifeq ($(shell id -u),0)
check-user: all $(UNIT_PROGRAMS) $(HOST_PROGRAMS) ## as root: unit and host tests as an ordinary user
	$(Q)tests/run.sh -l user -t $(LIMIT) -u $(CHECK_UID) $(UNIT_PROGRAMS) $(HOST_PROGRAMS)
else
CHECK_LABELS := $(filter-out user,$(CHECK_LABELS))
check-user:
	@echo "not root: the tests ran as an ordinary user already"
endif

# The manual is made from the tables that the options are parsed by.
.PHONY: man
man: $(O)/mayfly ## write docs/mayfly.1 from the option tables
	$(Q)$(O)/mayfly --man >docs/mayfly.1

.PHONY: lint-man
lint: lint-man
lint-man: $(O)/mayfly ## docs/mayfly.1 is what `make man` would write
	$(Q)$(O)/mayfly --man | diff -u docs/mayfly.1 - || { echo "lint-man: run make man"; exit 1; }
	@echo "lint-man: docs/mayfly.1"

# They start the release programs, wherever they find them beside themselves.
$(HOST_PROGRAMS): | $(O)/mayfly $(DEV_PROGRAMS) $(FAULTY_PROGRAMS)
