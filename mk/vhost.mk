# SPDX-License-Identifier: Apache-2.0
# The vhost rig: a stock QEMU (TCG) and a stock Linux guest whose disks are `mayfly vhost-user`'s.

.PHONY: demo-vhost
demo-vhost: deps ## a stock QEMU's disks, replaced and killed under load while its memory comes and goes
	$(Q)$(MAKE) --no-print-directory all
	$(Q)AS_UID=$(AS_UID) tests/rig/vhost/vhost.sh demo

.PHONY: check-vhost-systemd
check-vhost-systemd: deps ## the packaged units under systemd: restarted and killed COUNT=10 times under a guest's load
	$(Q)$(MAKE) --no-print-directory all
	$(Q)COUNT=$(COUNT) MAYFLY=$(abspath $(O))/mayfly tests/rig/vhost/vhost.sh systemd

.PHONY: demo-vhost-migrate
demo-vhost-migrate: deps ## the same guest moves from QEMU to QEMU, and from back-end to back-end
	$(Q)$(MAKE) --no-print-directory all
	$(Q)AS_UID=$(AS_UID) tests/rig/vhost/vhost.sh migrate

.PHONY: demo-vhost-copy
demo-vhost-copy: deps ## the same in the nested rig, where QEMU has KVM, and with memory that is copied
	$(Q)$(MAKE) --no-print-directory all
	$(Q)VHOST_MOVES=$(VHOST_MOVES) tests/rig/vhost/copy.sh

.PHONY: demo-vhost-libvirt
demo-vhost-libvirt: deps ## the same under libvirt (docs/vhost-user-domain.xml)
	$(Q)mk/deps.sh mk/packages-libvirt.txt
	$(Q)$(MAKE) --no-print-directory all
	$(Q)AS_UID=$(AS_UID) tests/rig/vhost/vhost.sh domain

# Another build, for the back-end to be replaced by.
VHOST_NEXT := build/vhost/next
.PHONY: check-vhost-restart
check-vhost-restart: deps ## the back-end of a stock QEMU dies COUNT=50 times under load, and is another build then
	$(Q)$(MAKE) --no-print-directory all
	$(Q)$(MAKE) --no-print-directory O=$(VHOST_NEXT) VERSION=$(VERSION)-next all
	$(Q)COUNT=$(COUNT) SEED=$(SEED) AS_UID=$(AS_UID) NEXT=$(or $(NEXT),$(VHOST_NEXT)/mayfly) tests/rig/vhost/vhost.sh restart
