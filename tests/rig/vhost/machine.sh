#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# machine.sh DIR TARGET: systemd as process 1 of a machine that is this one, but for what is written: a file system
# over this one's (DIR/root has what differs), and namespaces, which whoever calls this has made (systemd.py).  Of this
# machine's own units only what TARGET asks for is started.
set -eu -o pipefail
dir=$1 target=$2 root=$1/merged

mkdir -p "$dir"/root "$dir"/work "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/root,workdir=$dir/work" "$root"
rm -rf "$root"/etc/systemd/system/*.wants
grep -q '^kvm:' "$root"/etc/group || echo kvm:x:995: >>"$root"/etc/group
mount -t proc proc "$root"/proc
mount -t sysfs -o ro sysfs "$root"/sys
mount -t tmpfs run "$root"/run
mount --rbind /dev "$root"/dev
mount -t cgroup2 cgroup "$root"/sys/fs/cgroup
mount --bind "$dir"/srv "$root"/srv
cd "$root"
pivot_root . mnt
umount -l /mnt
mount -t tmpfs tmp /tmp
export container=other
exec /lib/systemd/systemd --system "--unit=$target" --log-target=journal --show-status=no
