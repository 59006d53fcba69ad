# SPDX-License-Identifier: Apache-2.0
# How things are built.

DEV_PROGRAMS := $(KINDS:%=$(O)/dev/mayfly-%)
DEV_HOSTED := $(KINDS:%=$(O)/libdev-%.a)

define say
@printf '  %-5s %s\n' '$(1)' '$@'
endef

# The guest's ACPI description: constants of layout.h by the C preprocessor (their suffixes mean
# nothing to iasl), then a C array.
$(O)/gen/dsdt.h: core/machine/dsdt.asl core/machine/layout.h
	$(call say,IASL)
	@mkdir -p $(@D)
	$(Q)$(CC) -E -P -x c -I. $< | sed -E 's/\b(0x[0-9a-fA-F]+|[0-9]+)u(ll)?\b/\1/g' >$(@D)/dsdt.asl
	$(Q)cd $(@D) && { iasl -we -tc -p dsdt dsdt.asl >dsdt.log 2>&1 || { cat dsdt.log >&2; exit 1; }; }
	$(Q)mv $(@D)/dsdt.hex $@

$(O)/obj/core/machine/acpi.o: $(O)/gen/dsdt.h
build/fuzz/obj/core/machine/acpi.o: $(O)/gen/dsdt.h

# Objects: hosted in $(O)/obj, freestanding in $(O)/free.  Other flags make other objects.
$(O)/obj/%.o: %.c mk/flags.mk
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(HOSTED) -c -o $@ $<

$(O)/free/%.o: %.c mk/flags.mk
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FREE) -ffunction-sections -fdata-sections -c -o $@ $<

# Device programs: an explicit object list, nothing else.
DEV_OBJS = $(DEV_START:%.c=$(O)/free/%.o) $(DEV_COMMON:%.c=$(O)/free/%.o)
$(O)/dev/mayfly-%: $(O)/free/devmodel/%/dev.o $(DEV_START:%.c=$(O)/free/%.o) $(DEV_COMMON:%.c=$(O)/free/%.o)
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FREE_LD) -o $@ $(filter %.o,$^)

# The same sources hosted: fuzzers, sanitizers, the in-process rig.
$(O)/libdev-%.a: $(O)/obj/devmodel/%/dev.o $(DEV_COMMON:%.c=$(O)/obj/%.o)
	$(call say,AR)
	$(Q)rm -f $@; ar rcs $@ $^

$(O)/libmayfly.a: $(VMM_LIB:%.c=$(O)/obj/%.o)
	$(call say,AR)
	$(Q)rm -f $@; ar rcs $@ $^

$(O)/librig.a: $(RIG_LIB:%.c=$(O)/obj/%.o) $(BENCH_LIB:%.c=$(O)/obj/%.o)
	$(call say,AR)
	$(Q)rm -f $@; ar rcs $@ $^

$(O)/mayfly: $(O)/obj/core/main.o $(O)/libmayfly.a
	$(call say,LD)
	$(Q)$(CC) $(HOSTED_LD) -o $@ $^ $(LIBS_VMM)

# Tests and benchmarks: one source each, against the archives.  A test of device code includes
# `// dev: KIND` in its first lines and is linked with the hosted build of that kind.
dev_of = $(shell sed -n 's,^/[/*] dev: \([a-z]*\).*,\1,p' $(1) | head -n 1)
define test_rule
$(O)/$(1): $(O)/obj/$(1).o $(if $(filter tests/escape/%,$(1)),$(ESCAPE_LIB:%.c=$(O)/obj/%.o)) $(O)/librig.a $(if $(call dev_of,$(1).c),$(O)/libdev-$(call dev_of,$(1).c).a) $(O)/libmayfly.a
	$$(call say,LD)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(HOSTED_LD) -o $$@ $$^ $$(LIBS_TEST) $$(LIBS_VMM)
endef
$(foreach t,$(UNIT_TESTS:%=tests/unit/%) $(HOST_TESTS:%=tests/host/%) $(ESCAPE_TESTS:%=tests/escape/%) \
	$(BENCHES:%=benchmarks/%),$(eval $(call test_rule,$(t))))

# Fuzz targets, built twice from one list of sources: by clang with libFuzzer, and with
# replay_main.c by $(CC).  Everything but the target and its kind of device (`// dev: KIND`, as for a
# test) is an archive, so that a target links only what it uses and may put its own in a member's place.
FUZZ_FLAGS := -std=gnu11 -O1 -g $(WARN) $(WERROR) $(CPP) -fno-strict-aliasing -fno-sanitize-recover=all \
	-fsanitize=fuzzer-no-link,address,undefined
fuzz_sources = tests/fuzz/$(1).c $(patsubst %,devmodel/%/dev.c,$(call dev_of,tests/fuzz/$(1).c))

build/fuzz/obj/%.o: %.c mk/flags.mk
	$(call say,FUZZC)
	@mkdir -p $(@D)
	$(Q)clang $(FUZZ_FLAGS) -c -o $@ $<

build/fuzz/libfuzz.a: $(FUZZ_LIB:%.c=build/fuzz/obj/%.o)
	$(call say,AR)
	$(Q)rm -f $@; ar rcs $@ $^

$(O)/fuzz/libreplay.a: $(FUZZ_LIB:%.c=$(O)/obj/%.o)
	$(call say,AR)
	@mkdir -p $(@D)
	$(Q)rm -f $@; ar rcs $@ $^

define fuzz_rule
build/fuzz/$(1): $(patsubst %.c,build/fuzz/obj/%.o,$(call fuzz_sources,$(1))) build/fuzz/libfuzz.a
	$$(call say,FUZZ)
	$$(Q)clang -fsanitize=fuzzer,address,undefined -o $$@ $$^ -Wl,--as-needed $$(LIBS_VMM)

$(O)/fuzz/$(1:fuzz_%=replay_%): $(patsubst %.c,$(O)/obj/%.o,tests/fuzz/replay_main.c $(call fuzz_sources,$(1))) $(O)/fuzz/libreplay.a
	$$(call say,LD)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(HOSTED_LD) -o $$@ $$^ -Wl,--as-needed $$(LIBS_VMM)
endef
$(foreach f,$(FUZZERS),$(eval $(call fuzz_rule,$(f))))

-include $(shell find build/fuzz/obj -name '*.d' 2>/dev/null)
-include $(shell find $(O) -name '*.d' 2>/dev/null)
