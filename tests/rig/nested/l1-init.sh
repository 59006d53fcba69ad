#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# /init of L1, the machine in which mayfly runs: loads KVM, moves to a root that pivot_root accepts,
# runs /run-in-l1.sh with its output on a virtio port, tells its exit status on the serial console,
# powers off.  Kernel command line: rig.user=1 runs it as uid 1000, in group kvm.
#
# The script runs on all CPUs but the first.  QEMU's TCG (7.2) keeps whether a CPU is in a guest, uses
# nested paging and takes interrupts in one word, and whichever CPU loads x87 state (every FXRSTOR) also
# writes the *first* CPU's word, without a lock: there a guest ran on the host's memory as if nested
# paging were off, and an interrupt was taken between the guest's exit and the host's own registers.
export PATH=/mayfly:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
export MAYFLY_PROGRAMS=/mayfly/dev HOME=/root

# A first root file system has no parent mount, so pivot_root in it is EINVAL: go to a tmpfs.
if [ "$1" != moved ]; then
	mount -t proc none /proc
	mount -t tmpfs -o mode=755,size=85% none /newroot
	cp -a /bin /etc /init /l2 /lib* /sbin /usr /newroot
	for dir in /files /mayfly /run-in-l1.sh; do
		! [ -e $dir ] || mv $dir /newroot
	done
	cd /newroot || exit
	mkdir -p dev dev/pts mnt out proc root run run/user/1000 sys tmp home/user
	umount /proc
	mount -t devtmpfs none dev
	# shellcheck disable=SC2094 # a terminal
	exec switch_root /newroot /init moved <dev/console >dev/console 2>&1
fi

mount -t proc none /proc
mount -t sysfs none /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 none /dev/pts
mount -t tmpfs -o mode=1777 none /dev/shm
mount -t cgroup2 none /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
chmod 1777 /tmp
chown 1000:1000 /run/user/1000 /home/user
chown 1000 /out
chmod 700 /run/user/1000
ip link set lo up

modprobe virtio_pci
modprobe virtio_console
modprobe kvm-amd 2>/dev/null || modprobe kvm-intel || echo "no KVM here"
chown 0:104 /dev/kvm
chmod 660 /dev/kvm

port() {
	for p in /sys/class/virtio-ports/*; do
		[ "$(cat "$p/name" 2>/dev/null)" = "$1" ] && echo "/dev/${p##*/}" && return
	done
}

cd /tmp || exit
if grep -q 'rig\.user=1' /proc/cmdline; then
	export XDG_RUNTIME_DIR=/run/user/1000
	set -- su user -s /bin/bash -c 'exec /bin/bash /run-in-l1.sh'
else
	set -- /bin/bash /run-in-l1.sh
fi
taskset -c "1-$(($(nproc) - 1))" "$@" </dev/null >"$(port out)" 2>&1
status=$?
tar -C /out -cf "$(port files)" .
dmesg -r | grep -E '^<[0-4]>' # what went wrong in L1 itself, if anything
echo "NESTED-EXIT: $status"
sync
poweroff -f
