# SPDX-License-Identifier: Apache-2.0
# Benchmarks.  Each ends with one JSON object on the last line; docs/benchmarks.md says what it means.
#
#   COUNT=N      so many events in all         SHARD=i/n   the i-th of n equal parts of them
#   SECONDS=N    measure no longer than this

# fuzz.mk has a default for SECONDS that is not meant here.
BENCH_ARGS = $(if $(COUNT),--count $(COUNT)) $(if $(SHARD),--shard $(SHARD)) \
	$(if $(filter file,$(origin SECONDS)),,$(if $(SECONDS),--seconds $(SECONDS)))

.PHONY: bench-handoff
bench-handoff: $(O)/benchmarks/bench_handoff $(DEV_PROGRAMS) ## planned replacements under load: pauses, and throughput when nothing happens
	$(Q)$< $(BENCH_ARGS)

.PHONY: bench-sandbox
bench-sandbox: $(O)/benchmarks/bench_sandbox $(O)/mayfly $(DEV_PROGRAMS) ## what a sealed process and a whole VM cost: time to make, to verify, memory
	$(Q)$< $(BENCH_ARGS)

.PHONY: bench-recovery
bench-recovery: $(O)/benchmarks/bench_recovery $(DEV_PROGRAMS) ## deaths under load: killed, faulted, held, hung, with little and much memory
	$(Q)$< $(BENCH_ARGS)

.PHONY: bench-hotplug
bench-hotplug: $(O)/benchmarks/bench_hotplug $(DEV_PROGRAMS) ## memory added and removed under six devices: when it is visible, pauses, until nobody has it
	$(Q)$< $(BENCH_ARGS)

.PHONY: bench-vhost
bench-vhost: $(O)/benchmarks/bench_vhost $(O)/mayfly $(DEV_PROGRAMS) ## throughput as a vhost-user-blk back-end against qemu-storage-daemon's
	$(Q)$< $(BENCH_ARGS)

# Those that are drawn keep their report.
keep_report = $(Q)$< $(BENCH_ARGS) >$(1).json; ret=$$?; cat $(1).json; exit $$ret
define draw_report
$(Q)benchmarks/curves.py <$(1).json >$(1).dat
$(Q)gnuplot -e "data='$(1).dat'; out='docs/$(notdir $(1))'" benchmarks/$(notdir $(1)).gp
endef

.PHONY: bench-rejuvenation plot-rejuvenation
REJUVENATION := $(O)/benchmarks/rejuvenation
bench-rejuvenation: $(O)/benchmarks/bench_rejuvenation $(DEV_PROGRAMS) ## throughput and latency against replacements a second, planned and killed
	$(call keep_report,$(REJUVENATION))

plot-rejuvenation: ## draw docs/rejuvenation.svg and .png of the last bench-rejuvenation; needs gnuplot
	$(call draw_report,$(REJUVENATION))

.PHONY: bench-amortize plot-amortize
AMORTIZE := $(O)/benchmarks/amortize
bench-amortize: $(O)/benchmarks/bench_amortize $(DEV_PROGRAMS) ## five ways to reach guest memory that comes and goes, against changes a second
	$(call keep_report,$(AMORTIZE))

plot-amortize: ## draw docs/amortize.svg and .png of the last bench-amortize; needs gnuplot
	$(call draw_report,$(AMORTIZE))
