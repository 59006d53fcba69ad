# SPDX-License-Identifier: Apache-2.0
# Static checks. None of them needs a build, but for a generated header; each says what to do about a
# finding in its own file:
# .clang-format, .clang-tidy, mk/cppcheck.txt, tests/lint/.

LINT_DIRS := core devmodel snapshot hotplug tests benchmarks
LINT_C := $(sort $(shell find $(LINT_DIRS) -name '*.[ch]' 2>/dev/null))
LINT_SH := $(sort $(shell find $(LINT_DIRS) mk .ci tools -name '*.sh' 2>/dev/null) $(wildcard .ci/run))
# The version's quotes would not survive the shells in between: a file has them.
LINT_CPP := -I. -I$(O)/gen -D_GNU_SOURCE -include $(O)/gen/lint_version.h
$(O)/gen/lint_version.h: Makefile
	@mkdir -p $(@D)
	@echo '#define MAYFLY_VERSION "$(VERSION)"' >$@

.PHONY: lint lint-quick
lint-quick: lint-includes lint-shell lint-format lint-man ## the static checks that take seconds
lint: lint-includes lint-shell lint-format lint-cppcheck lint-tidy ## every static check

.PHONY: lint-format
lint-format: ## clang-format would change nothing
	$(Q)clang-format --dry-run -Werror $(LINT_C)
	@echo "lint-format: $(words $(LINT_C)) files"

.PHONY: format
format: ## let clang-format rewrite every C file
	$(Q)clang-format -i $(LINT_C)

# Headers are checked through the sources that include them.
.PHONY: lint-tidy
lint-tidy: $(O)/gen/dsdt.h $(O)/gen/lint_version.h ## clang-tidy, a file a process
	$(Q)printf '%s\n' $(filter %.c,$(LINT_C)) | xargs -P2 -I{} sh -c \
		'out=$$(clang-tidy --quiet "$$1" -- -std=gnu11 $(LINT_CPP) 2>/dev/null) || { echo "$$out"; exit 1; }' sh {}
	@echo "lint-tidy: $(words $(filter %.c,$(LINT_C))) files"

.PHONY: lint-cppcheck
lint-cppcheck: $(O)/gen/lint_version.h ## cppcheck, without what mk/cppcheck.txt lists
	$(Q)cppcheck -q -j2 --std=c11 --enable=warning,performance,portability,style --inline-suppr \
		--suppressions-list=mk/cppcheck.txt --error-exitcode=1 $(LINT_CPP) $(filter %.c,$(LINT_C))
	@echo "lint-cppcheck: $(words $(filter %.c,$(LINT_C))) files"

.PHONY: lint-shell
lint-shell: ## shellcheck on all scripts
	$(Q)shellcheck $(LINT_SH)
	@echo "lint-shell: $(words $(LINT_SH)) files"

.PHONY: lint-includes
lint-includes: ## includes follow the folders' arrows, files and functions are short; and the check can fail
	$(Q)tests/lint/selftest.sh
	$(Q)tests/lint/includes.py
	$(Q)tests/lint/sizes.py
