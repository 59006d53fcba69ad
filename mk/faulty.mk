# SPDX-License-Identifier: Apache-2.0
# The faulty set of device programs (devmodel/abi/fault.h): the same sources, and what they do when they
# are told to misbehave.  In a folder of its own, in a build tree as in an installation.

FAULTY_PROGRAMS := $(KINDS:%=$(O)/dev/faulty/mayfly-%)

$(O)/faulty/%.o: %.c mk/flags.mk
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FREE) -DMAYFLY_FAULTY -ffunction-sections -fdata-sections -c -o $@ $<

$(O)/dev/faulty/mayfly-%: $(O)/faulty/devmodel/%/dev.o $(DEV_START:%.c=$(O)/faulty/%.o) \
		$(DEV_COMMON:%.c=$(O)/faulty/%.o) $(O)/faulty/devmodel/common/faulty.o
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FREE_LD) -o $@ $(filter %.o,$^)
