# SPDX-License-Identifier: Apache-2.0
# Rogue device programs (tests/rig/rogue), for tests/host/test_adversary: as a directory that
# MAYFLY_PROGRAMS can name, with a release rng beside the rogue blk.

ROGUE_SRCS := tests/rig/rogue/run.c tests/rig/rogue/act.c devmodel/blk/dev.c $(DEV_START) \
	$(filter-out devmodel/common/run.c,$(DEV_COMMON))
ROGUES := $(O)/rogue/blk/mayfly-blk $(O)/rogue/blk/mayfly-rng

$(O)/rogue/blk/mayfly-blk: $(ROGUE_SRCS:%.c=$(O)/free/%.o)
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FREE_LD) -o $@ $(filter %.o,$^)

$(O)/rogue/blk/mayfly-rng: $(O)/dev/mayfly-rng
	@mkdir -p $(@D)
	$(Q)cp $< $@

$(O)/tests/host/test_adversary: | $(ROGUES)
