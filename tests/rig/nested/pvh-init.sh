#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# /init of the guest of pvh-run.sh.  The first time, on an empty disk: marks the disk and reboots as
# the command line says.  The second time, with the mark read back: powers off.  Each time it prints
#
#   PVH-GUEST: boot=first|second protocol=VERSION cpus=N queues=N kernel=RELEASE
#
# VERSION is what Linux has instead of a boot protocol's: PVH leaves 0x20c there.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin

mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for module in virtio_pci virtio_blk virtio_console; do
	modprobe $module
done
n=0
while ! [ -e /dev/hvc0 ] || ! [ -e /dev/vda ]; do
	[ $n -lt 100 ] || poweroff -f
	usleep 50000
	n=$((n + 1))
done
exec </dev/hvc0 >/dev/hvc0 2>&1

mark=$(dd if=/dev/vda bs=512 count=1 2>/dev/null | tr -d '\000')
case $mark in
'') boot=first ;;
marked) boot=second ;;
*) boot=odd ;;
esac
echo "PVH-GUEST: boot=$boot protocol=$(cat /sys/kernel/boot_params/version)" \
	"cpus=$(nproc) queues=$(find /sys/block/vda/mq/* -maxdepth 0 | wc -l) kernel=$(uname -r)"
if [ $boot = first ]; then
	printf marked | dd of=/dev/vda bs=512 conv=sync,fsync 2>/dev/null
	reboot -f
else
	poweroff -f
fi
sleep 60
