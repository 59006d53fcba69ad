# SPDX-License-Identifier: Apache-2.0
# Compiler and linker flags: hosted (the VMM, tests) and freestanding (device programs).

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wvla \
	-Wno-sign-conversion
# -Wno-sign-conversion: kernel interfaces mix int and unsigned in every other constant; the casts
# that it asks for hide more than they show.  Narrowing is still an error (-Wconversion).
WERROR ?= -Werror
CPP := -I. -I$(O)/gen -D_GNU_SOURCE -DMAYFLY_VERSION='"$(VERSION)"' -MMD -MP

# What the compiler takes of its arguments, all or nothing.  clang below 16 has zero initialisation only
# under a name that says that it might go away; it did not, and later ones refuse that name.
flags_taken = $(shell $(CC) $(1) -Werror -x c -c -o /dev/null /dev/null 2>/dev/null && echo '$(1)')
ZERO_INIT := -ftrivial-auto-var-init=zero
ZERO_INIT_OLD := -enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang
# Without a compiler, which `make deps` may be about to install, nothing is asked.
CC_THERE := $(shell command -v $(firstword $(CC)))
ZERO_INIT := $(if $(CC_THERE),$(or $(call flags_taken,$(ZERO_INIT)),$(call flags_taken,$(ZERO_INIT) $(ZERO_INIT_OLD)),\
	$(error $(CC) cannot zero automatic variables: gcc 12 or clang 14 at least)))

HARDEN := -fPIE -fcf-protection $(ZERO_INIT) -fno-strict-aliasing
HOSTED := -std=gnu11 -O2 -g -pthread $(WARN) $(WERROR) $(CPP) $(HARDEN) -fstack-protector-strong
ifeq ($(FLAVOUR),san)
HOSTED += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
HOSTED_LD := -fsanitize=address,undefined
else
HOSTED += -D_FORTIFY_SOURCE=3
HOSTED_LD :=
endif
HOSTED_LD += -pie -Wl,-z,relro,-z,now -pthread

# No libc inside a sandbox: the canary is a global that start.c sets (facts: with the TLS canary the
# first guarded function faults, since nothing sets fs), and _FORTIFY_SOURCE is void.
FREE := -std=gnu11 -O2 -g $(WARN) $(WERROR) $(CPP) $(HARDEN) -ffreestanding -fno-builtin \
	-fstack-protector-strong -mstack-protector-guard=global -fvisibility=hidden \
	-mno-sse -mno-mmx -mgeneral-regs-only -fno-asynchronous-unwind-tables
FREE_LD := -static-pie -nostdlib -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code \
	-Wl,--gc-sections,--build-id=none,--no-dynamic-linker -Wl,-z,max-page-size=4096
# FLAVOUR=omit-NAME[-NAME]: without these layers of the seal, to see that the escape check notices.
OMIT := $(subst -, ,$(patsubst omit-%,%,$(filter omit-%,$(FLAVOUR))))
FREE += $(OMIT:%=-DSEAL_OMIT_%=1)

LIBS_VMM := -lseccomp -lxxhash -lzstd -ljansson -lmicrohttpd
LIBS_TEST := -lcmocka
