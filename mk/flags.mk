# SPDX-License-Identifier: Apache-2.0
# Compiler and linker flags: hosted (the VMM, tests) and freestanding (device programs).

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion -Wvla \
	-Wno-sign-conversion
# -Wno-sign-conversion: kernel interfaces mix int and unsigned in every other constant; the casts
# that it asks for hide more than they show.  Narrowing is still an error (-Wconversion).
WERROR ?= -Werror
CPP := -I. -I$(O)/gen -D_GNU_SOURCE -DMAYFLY_VERSION='"$(VERSION)"' -MMD -MP

HARDEN := -fPIE -fcf-protection -ftrivial-auto-var-init=zero -fno-strict-aliasing
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
OMIT := $(patsubst omit-%,%,$(filter omit-%,$(FLAVOUR)))
ifneq ($(OMIT),)
FREE += -DSEAL_OMIT_$(OMIT)=1
endif

LIBS_VMM := -lseccomp -lxxhash -lzstd -ljansson -lmicrohttpd
LIBS_TEST := -lcmocka
