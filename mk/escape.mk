# SPDX-License-Identifier: Apache-2.0
# The escape check: what a sandbox can call, what each layer of its seal refuses, and whether a layer
# that is missing would be noticed.

ESCAPE_PROGRAMS := $(ESCAPE_TESTS:%=$(O)/tests/escape/%)
ESCAPE_LIMIT ?= 300
CHECK_LABELS += escape $(if $(filter 0,$(shell id -u)),escape-user)

# They start the release programs that lie beside them.
$(ESCAPE_PROGRAMS): | $(DEV_PROGRAMS)

# test_layers with a spawner that makes no namespaces: its object stands before the archive that has
# the other.
ESCAPE_OMIT := $(O)/tests/escape/omit_namespaces
$(O)/obj/tests/escape/spawn_omit.o: core/box/spawn.c mk/flags.mk
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(HOSTED) -DSPAWN_OMIT_namespaces=1 -c -o $@ $<

$(ESCAPE_OMIT): $(O)/obj/tests/escape/spawn_omit.o $(O)/obj/tests/escape/test_layers.o \
		$(ESCAPE_LIB:%.c=$(O)/obj/%.o) $(O)/librig.a $(O)/libmayfly.a
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) $(HOSTED_LD) -o $@ $^ $(LIBS_TEST) $(LIBS_VMM)

.PHONY: check-escape
check-escape: $(DEV_PROGRAMS) $(ESCAPE_PROGRAMS) $(ESCAPE_OMIT) ## system calls from within sandboxes (as root: also as another user)
	$(Q)tests/run.sh -l escape -t $(ESCAPE_LIMIT) $(ESCAPE_PROGRAMS) tests/escape/omit.sh
ifeq ($(shell id -u),0)
	$(Q)tests/run.sh -l escape-user -t $(ESCAPE_LIMIT) -u $(CHECK_UID) $(ESCAPE_PROGRAMS) tests/escape/omit.sh
endif

.PHONY: golden
golden: $(O)/tests/escape/test_filters ## write tests/escape/golden anew: what each policy allows
	$(Q)$< --golden
