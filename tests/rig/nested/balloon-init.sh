#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# /init of the guest of balloon-run.sh.  Keeps a file whose sum it knows, takes and gives back memory beside
# it all the time, and prints each time around
#
#   BALLOON-GUEST: tick=N free=KIB kept=ok|BAD taken=ok|BAD
export PATH=/bin:/sbin:/usr/bin:/usr/sbin

mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs -o size=80% none /tmp
for module in virtio_pci virtio_console virtio_balloon; do
	modprobe $module
done
n=0
while ! [ -e /dev/hvc0 ]; do
	[ $n -lt 100 ] || poweroff -f
	usleep 50000
	n=$((n + 1))
done
exec </dev/hvc0 >/dev/hvc0 2>&1

# sum FILE
sum() {
	md5sum "$1" | cut -d' ' -f1
}

same() {
	[ "$1" = "$2" ] && echo ok || echo BAD
}

dd if=/dev/urandom of=/tmp/kept bs=64k count=128 2>/dev/null
kept=$(sum /tmp/kept)
tick=0
while :; do
	# Twice the same: a page that was taken away meanwhile shows.
	dd if=/tmp/kept of=/tmp/taken bs=64k count=128 2>/dev/null
	cat /tmp/kept >>/tmp/taken
	dd if=/tmp/taken of=/tmp/half bs=64k skip=128 2>/dev/null
	echo "BALLOON-GUEST: tick=$tick free=$(sed -n 's/^MemFree: *\([0-9]*\) .*/\1/p' /proc/meminfo)" \
		"kept=$(same "$kept" "$(sum /tmp/kept)") taken=$(same "$kept" "$(sum /tmp/half)")"
	rm /tmp/taken /tmp/half
	tick=$((tick + 1))
done
