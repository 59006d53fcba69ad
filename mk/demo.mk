# SPDX-License-Identifier: Apache-2.0
# The demos: a stock Linux guest whose devices are replaced, or meet faults, under load.

.PHONY: demo
demo: deps ## boot a stock kernel, replace each device 100 times (DEMO_TIMES) under load, check everything
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/rig/nested/demo.sh

# fuzz.mk has a default for SECONDS that is not meant here.
.PHONY: demo-faults
demo-faults: deps ## the same guest, whose devices meet random faults for a minute (SEED, SECONDS, POISON=1)
	$(Q)$(MAKE) --no-print-directory all
	$(Q)DEMO_SEED=$(SEED) DEMO_POISON=$(POISON) DEMO_SECONDS=$(if $(filter file,$(origin SECONDS)),,$(SECONDS)) \
		tests/rig/nested/demo.sh faults

.PHONY: demo-hotplug
demo-hotplug: deps ## the same guest, which gets memory and gives it back under load
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/rig/nested/demo.sh hotplug

.PHONY: check-dimms
check-dimms: deps ## DIMMs of a stock kernel come and go, in the nested rig
	$(Q)$(MAKE) --no-print-directory all $(O)/tests/host/test_dimm_guest
	$(Q)tests/rig/nested/dimms.sh

.PHONY: check-pvh
check-pvh: deps ## boot a stock kernel by the PVH protocol, in the nested rig (PVH_CPUS=2)
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/rig/nested/pvh.sh

.PHONY: check-balloon
check-balloon: deps ## a stock kernel's balloon, replaced and killed while it grows and shrinks, in the nested rig
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/rig/nested/balloon.sh
