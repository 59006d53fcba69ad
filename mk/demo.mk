# SPDX-License-Identifier: Apache-2.0
# The demo: a stock Linux guest whose devices are replaced under load.

.PHONY: demo
demo: deps ## boot a stock kernel, replace each device 100 times (DEMO_TIMES) under load, check everything
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/rig/nested/demo.sh

.PHONY: check-pvh
check-pvh: deps ## boot a stock kernel by the PVH protocol, in the nested rig (PVH_CPUS=2)
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/rig/nested/pvh.sh
