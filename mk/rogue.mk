# SPDX-License-Identifier: Apache-2.0
# Rogue device programs (tests/rig/rogue), for tests/host/test_adversary and test_takeover: as a
# directory that MAYFLY_PROGRAMS can name, with a release rng beside the rogue blk.

ROGUE_SRCS := $(wildcard tests/rig/rogue/*.c) devmodel/blk/dev.c $(DEV_START) \
	$(filter-out devmodel/common/run.c,$(DEV_COMMON))
ROGUES := $(O)/rogue/blk/mayfly-blk $(O)/rogue/blk/mayfly-rng

# The release main loop beside the rogue's: an honest blk has to be the same program.
$(O)/free/tests/rig/rogue/release_run.o: devmodel/common/run.c mk/flags.mk mk/rogue.mk
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FREE) -Ddev_run=rogue_release_run -ffunction-sections -fdata-sections -c -o $@ $<

$(O)/rogue/blk/mayfly-blk: $(ROGUE_SRCS:%.c=$(O)/free/%.o) $(O)/free/tests/rig/rogue/release_run.o
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FREE_LD) -o $@ $(filter %.o,$^)

$(O)/rogue/blk/mayfly-rng: $(O)/dev/mayfly-rng
	@mkdir -p $(@D)
	$(Q)cp $< $@

$(O)/tests/host/test_adversary $(O)/tests/host/test_takeover: | $(ROGUES)

# A rogue mem (tests/rig/rogue_mem) for tests/host/test_mem_rogue, with a release blk beside it: the main
# loop is the release's, what it does with a request is not.
ROGUE_MEM_SRCS := tests/rig/rogue_mem/dev.c $(DEV_START) $(DEV_COMMON)

$(O)/rogue/mem/mayfly-mem: $(ROGUE_MEM_SRCS:%.c=$(O)/free/%.o)
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FREE_LD) -o $@ $(filter %.o,$^)

$(O)/rogue/mem/mayfly-blk: $(O)/dev/mayfly-blk
	@mkdir -p $(@D)
	$(Q)cp $< $@

$(O)/tests/host/test_mem_rogue: | $(O)/rogue/mem/mayfly-mem $(O)/rogue/mem/mayfly-blk
