#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# /init of the guest of tests/host/test_dimm_guest.c: tells what Linux makes of its DIMMs, and does what it is
# told.  It has no devices: what it says goes through the kernel's log to its early console, and what it
# is told is a byte at 0xd0000000 that changes.  A process costs a tenth of a second there, so that it does
# what it can without any.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin

mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp

say() {
	echo "<2>DIMM: $*" >/dev/kmsg
}

# What the kernel had to say of it at warning level and above.
complaints() {
	dmesg -r | grep -E '^<[0-4]>' | grep -v 'DIMM:' | grep -iE 'acpi|srat|pxm|numa|hotplug|memory'
}

# How many blocks of memory a node has.
of_node() {
	set -- "/sys/devices/system/node/node$1/memory"*
	[ -e "$1" ] && echo $# || echo 0
}

# present: the slots that are not empty, by _UID.
status() {
	devices=0 present='' online=0
	for d in /sys/bus/acpi/devices/PNP0C80:*; do
		devices=$((devices + 1))
		read -r sta <"$d/status"
		read -r uid <"$d/uid"
		[ "$sta" = 0 ] || present="$present $uid"
	done
	for b in /sys/devices/system/memory/memory*; do
		read -r state <"$b/state"
		[ "$state" != online ] || online=$((online + 1))
	done
	complaints | while read -r line; do
		say "complaint: $line"
	done
	say "devices=$devices present=$present online=$online node0=$(of_node 0) node1=$(of_node 1)" \
		"complaints=$(complaints | wc -l)"
}

# What cannot be moved: inodes, in the zone that has most room.
fill() {
	n=0
	while [ $n -lt 4000 ]; do
		: >"/tmp/$n"
		n=$((n + 1))
	done
}

eject() {
	for d in /sys/bus/acpi/devices/PNP0C80:*; do
		read -r uid <"$d/uid"
		[ "$uid" != "$1" ] || echo 1 >"$d/eject"
	done
}

status
last=0x00
while :; do
	now=$(devmem 0xd0000000 8)
	if [ "$now" = "$last" ]; then
		usleep 50000
		continue
	fi
	last=$now
	# shellcheck disable=SC2059 # the character of that code
	case $(printf "\\x${now#0x}") in
	m) echo online_movable >/sys/devices/system/memory/auto_online_blocks ;;
	k) echo online_kernel >/sys/devices/system/memory/auto_online_blocks ;;
	f) fill ;;
	e) eject 9 ;;
	r) reboot -f ;;
	p) poweroff -f ;;
	esac
	status
done
