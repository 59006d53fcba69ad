# SPDX-License-Identifier: Apache-2.0
# An installation.  core/programs.h says where mayfly looks for its device programs; those that misbehave on order
# (faulty/) are not for installations.

PREFIX ?= /usr/local
INSTALLED_UNITS := $(wildcard packaging/*.service packaging/*.socket)
INSTALLED := bin/mayfly share/man/man1/mayfly.1 $(DEV_PROGRAMS:$(O)/dev/%=libexec/mayfly/%) \
	$(INSTALLED_UNITS:packaging/%=lib/systemd/system/%)

.PHONY: install
install: all ## into DESTDIR/PREFIX (/usr/local): program, device programs, man page, systemd units
	$(Q)install -D -t $(DESTDIR)$(PREFIX)/bin $(O)/mayfly
	$(Q)install -D -t $(DESTDIR)$(PREFIX)/libexec/mayfly $(DEV_PROGRAMS)
	$(Q)install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 docs/mayfly.1
	$(Q)install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system $(INSTALLED_UNITS)
	$(Q)sed -i 's,/usr/bin/mayfly,$(PREFIX)/bin/mayfly,' \
		$(INSTALLED_UNITS:packaging/%=$(DESTDIR)$(PREFIX)/lib/systemd/system/%)

.PHONY: uninstall
uninstall: ## what `make install` put there
	$(Q)rm -f $(INSTALLED:%=$(DESTDIR)$(PREFIX)/%)
	$(Q)rmdir --ignore-fail-on-non-empty $(DESTDIR)$(PREFIX)/libexec/mayfly
