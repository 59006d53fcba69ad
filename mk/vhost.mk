# SPDX-License-Identifier: Apache-2.0
# The vhost rig: a stock QEMU (TCG) and a stock Linux guest whose disks are `mayfly vhost-user`'s.

.PHONY: demo-vhost
demo-vhost: deps ## a stock QEMU's disks, replaced and killed under load while its memory comes and goes
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/rig/vhost/vhost.sh demo

.PHONY: demo-vhost-libvirt
demo-vhost-libvirt: deps ## the same under libvirt (docs/vhost-user-domain.xml)
	$(Q)mk/deps.sh mk/packages-libvirt.txt
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/rig/vhost/vhost.sh domain
