# SPDX-License-Identifier: Apache-2.0
# An installation.  core/programs.h says where mayfly looks for its device programs; those that misbehave on order
# (faulty/) are not for installations.

PREFIX ?= /usr/local
INSTALLED_UNITS := $(wildcard packaging/*.service packaging/*.socket)
INSTALLED := bin/mayfly share/man/man1/mayfly.1 $(DEV_PROGRAMS:$(O)/dev/%=libexec/mayfly/%) \
	$(INSTALLED_UNITS:packaging/%=lib/systemd/system/%)

# DESTDIR may be anything; PREFIX is in a unit file's command, and in the sed command that writes it.
COMMA := ,
PREFIX_IS_BAD = $(word 2,x$(PREFIX)x)$(findstring $(COMMA),$(PREFIX))$(findstring &,$(PREFIX))
CHECK_PREFIX = $(if $(PREFIX_IS_BAD),$(error PREFIX "$(PREFIX)" has a blank, a comma or an ampersand))

.PHONY: install
install: all ## into DESTDIR/PREFIX (/usr/local): program, device programs, man page, systemd units
	$(CHECK_PREFIX)
	$(Q)install -D -m 755 -t "$(DESTDIR)$(PREFIX)/bin" $(O)/mayfly
	$(Q)install -D -m 755 -t "$(DESTDIR)$(PREFIX)/libexec/mayfly" $(DEV_PROGRAMS)
	$(Q)install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/man/man1" docs/mayfly.1
	$(Q)install -D -m 644 -t "$(DESTDIR)$(PREFIX)/lib/systemd/system" $(INSTALLED_UNITS)
	$(Q)cd "$(DESTDIR)$(PREFIX)/lib/systemd/system" && \
		sed -i 's,/usr/bin/mayfly,$(PREFIX)/bin/mayfly,' $(notdir $(INSTALLED_UNITS))

.PHONY: uninstall
uninstall: ## what `make install` put there
	$(CHECK_PREFIX)
	$(Q)[ ! -d "$(DESTDIR)$(PREFIX)/" ] || { cd "$(DESTDIR)$(PREFIX)/" && rm -f $(INSTALLED); }
	$(Q)[ ! -d "$(DESTDIR)$(PREFIX)/libexec/mayfly" ] || \
		rmdir --ignore-fail-on-non-empty "$(DESTDIR)$(PREFIX)/libexec/mayfly"
