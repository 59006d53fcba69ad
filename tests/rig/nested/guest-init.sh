#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# /init of the guest that `make demo` boots under mayfly: a stock kernel, busybox, e2fsprogs.
#
# Makes and mounts ext4 on the virtio disks, puts all devices under load (guestload) until the last
# disk says "stop", checks everything that was written, checks the file systems, prints
#
#   DEMO-GUEST: files=.. bytes=.. verified=.. errors=.. hammered=.. rng_bytes=.. ticks=.. slowest_ms=.. kept=.. md5=ok fsck=clean kernel_messages=..
#
# on the console and on the serial port, and powers off.  kernel_messages counts what the kernel said
# since the load began at warning level or about the devices.  Kernel command line:
#   demo.seconds=N   the longest run (default 600)
#   demo.writers=N, demo.hammers=N   how many write at a time (default 4 and 12)
#   demo.hot=POLICY[,POLICY..]   how memory blocks that come are onlined, in their order (kernel, movable); when
#                    all have come, demo.fill=MIB of memory are filled, used for disk I/O and verified
#   demo.refill=MIB  so much memory is filled, used for disk I/O and verified, again and again while the load runs
#   demo.disk=NAME[,NAME..], demo.control=NAME   default vda, vdb; control `none`: run for demo.seconds
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
MARK='demo: the load begins'

mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /run

param() {
	value=$(sed -nE "s/(^|.* )$1=([^ ]*).*/\2/p" /proc/cmdline)
	echo "${value:-$2}"
}

# Waits for a file that a driver is about to make.
await() {
	n=0
	while ! [ -e "$1" ]; do
		[ $n -lt 100 ] || return 1
		usleep 50000
		n=$((n + 1))
	done
}

report() {
	echo "DEMO-GUEST: $*"
	! [ -c /dev/ttyS0 ] || echo "DEMO-GUEST: $*" >/dev/ttyS0
}

end() {
	sync
	poweroff -f
	sleep 60
}

fail() {
	report "failed: $*"
	dmesg | tail -n 30
	end
}

# What the kernel said since the load began: `<PRIORITY>[ time] text` a line.  -1: the mark is gone,
# so some of it is lost.  Left out: the line of a mount, what a slow host alone makes it say, how it
# tells that memory was asked for which it cannot give, or not at once, and virtio-mem's sizes.
kernel_messages() {
	dmesg -r | awk -v mark="$MARK" '
		index($0, mark) { on = 1; n = 0; next }
		!on { next }
		/EXT4-fs \(vd[a-z]\): (un)?mount(ed|ing) filesystem/ { next }
		/(hrtimer|perf): interrupt took|RT throttling activated/ { next }
		/page:[0-9a-f]+ refcount:.* pfn:|\] (anon )?flags: 0|\] raw: 0|page dumped because: unmovable/ { next }
		/migrating pfn [0-9a-f]+ failed ret:|failed to isolate pfn [0-9a-f]+$|do_migrate_range: / { next }
		/page dumped because: (migration failure|isolation failed)/ { next }
		/\] memcg:[0-9a-f]+$|\] aops:[a-z0-9_]+ ino:/ { next }
		/\] raw: [0-9a-f ]+$|\] head:[0-9a-f]+ order:|memory memory[0-9]+: Offline failed/ { next }
		/virtio_mem virtio[0-9]+: (plugged|requested) size: / { next }
		{ p = $0; sub(/^</, "", p); sub(/>.*/, "", p) }
		p % 8 <= 4 || /vd[a-z]|virtio|hwrng|hvc|ttyS|I\/O error/ { n++; print > "/run/said" }
		END { print on ? n + 0 : -1 }'
}

hot_memory() {
	left=$(param demo.hot '') n=0
	while [ -n "$left" ]; do
		for state in /sys/devices/system/memory/memory*/state; do
			if [ -z "$left" ] || [ "$(cat "$state")" != offline ]; then continue; fi
			echo "online_${left%%,*}" >"$state" || echo "DEMO-GUEST: cannot online $state"
			n=$((n + 1))
			echo "DEMO-GUEST: onlined $n ($left)"
			case $left in *,*) left=${left#*,} ;; *) left= ;; esac
		done
		usleep 100000
	done
	guestload memory "$(param demo.fill 64)" "/mnt/${disks%% *}/memory"
}

# Whatever memory there is just then: what came is used, what is to go is in use.
refill_memory() {
	while :; do
		for disk in $disks; do
			! [ -e /run/over ] || return
			guestload memory "$1" "/mnt/$disk/memory"
		done
	done
}

for module in virtio_pci virtio_blk virtio_console virtio-rng virtio_mem button evdev; do
	modprobe $module || echo "modprobe $module failed" >>/run/early
done
if await /dev/hvc0; then
	exec </dev/hvc0 >/dev/hvc0 2>&1
else
	exec </dev/ttyS0 >/dev/ttyS0 2>&1
	fail "there is no console"
fi
stty -echo -opost
! [ -e /run/early ] || cat /run/early

disks=$(param demo.disk vda | tr , ' ')
control=/dev/$(param demo.control vdb)
[ "$control" = /dev/none ] && control=
for disk in $disks; do
	await /dev/"$disk" || fail "there is no $disk"
done
[ -z "$control" ] || await "$control" || fail "there is no $control"
echo "DEMO-GUEST: up after $(cut -d ' ' -f 1 /proc/uptime) s, $(uname -r), $(nproc) CPUs"

# For what is in fixed the witness is not of our own making.
loads=
for disk in $disks; do
	mkfs.ext4 -q -F /dev/"$disk" || fail "mkfs.ext4 $disk"
	mkdir -p /mnt/"$disk"
	mount -t ext4 -o discard /dev/"$disk" /mnt/"$disk" || fail "mount $disk"
	mkdir /mnt/"$disk"/fixed /mnt/"$disk"/load
	loads=$loads${loads:+,}/mnt/$disk/load
	for i in 1 2 3 4; do
		dd if=/dev/urandom of=/mnt/"$disk"/fixed/$i bs=32k count=1 2>/dev/null || fail "write"
	done
	(cd /mnt/"$disk"/fixed && md5sum [0-9] >/run/sums."$disk") || fail "read"
	echo "DEMO-GUEST: $disk carries ext4 after $(cut -d ' ' -f 1 /proc/uptime) s"
done
sync
echo 3 >/proc/sys/vm/drop_caches
echo 4 >/proc/sys/vm/drop_caches # from now on without a message each time

: >/run/load
echo "<6>$MARK" >/dev/kmsg
# shellcheck disable=SC2086 # no control disk, no argument
guestload run "$loads" "$(param demo.seconds 600)" "$(param demo.writers 4)" \
	"$(param demo.hammers 12)" $control >/run/load &
load=$!
tail -f /run/load &
tail=$!
! grep -q 'demo\.hot=' /proc/cmdline || hot_memory &
refill=
if grep -q 'demo\.refill=' /proc/cmdline; then
	refill_memory "$(param demo.refill 64)" &
	refill=$!
fi
wait $load
: >/run/over
[ -z "$refill" ] || wait "$refill"
kill $tail 2>/dev/null
sums=$(tail -n 1 /run/load)

fsck=clean md5=ok kept=0
for disk in $disks; do
	umount /mnt/"$disk" || fail "umount $disk"
	e2fsck -fn /dev/"$disk" >/run/fsck 2>&1 || { fsck=errors && cat /run/fsck; }
	mount -t ext4 /dev/"$disk" /mnt/"$disk" || fail "mount $disk again"
	(cd /mnt/"$disk"/fixed && md5sum -c /run/sums."$disk" >/run/md5 2>&1) || md5=wrong
	n=$(guestload check /mnt/"$disk"/load | tee /run/kept | sed -nE 's/^files=([0-9]*) .* errors=0 .*/\1/p')
	[ -n "$n" ] || cat /run/kept
	if [ -n "$n" ] && [ $kept != wrong ]; then kept=$((kept + n)); else kept=wrong; fi
	umount /mnt/"$disk" || fail "umount $disk again"
done
said=$(kernel_messages)
[ "$said" = 0 ] || head -n 60 /run/said
report "$sums kept=$kept md5=$md5 fsck=$fsck kernel_messages=$said"
end
