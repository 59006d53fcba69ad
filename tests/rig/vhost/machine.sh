#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# machine.sh start DIR TARGET | remove DIR: a machine in which systemd is process 1, and its control group's end.
#
# The machine is this host, but for what is written: its root is a file system over the host's (DIR/root has what
# differs; what is mounted on the host is not in it), with a /dev, /run, /tmp and /var/log of its own, and DIR/srv as
# /srv.  Of the host's units only those run that TARGET asks for.  DIR/srv/made is there as soon as only systemd is left
# to run.  Its control groups are below one that `start` makes in the caller's, named after the folder that DIR is in.
# It stays when the machine ends, until the same caller says `remove`.
#
# Both mount things, and so are for root, in a mount namespace that the caller has made for it (systemd.py).  `start`
# becomes unshare, whose child is process 1: first this script (`boot`), then systemd.
set -eu -o pipefail
verb=$1 dir=$2

# Sets `group` to the machine's control group.  It is in a cgroup2 mounted for this, wherever the host has its own.
find_group() {
	local own

	own=$(sed -n 's/^0:://p' /proc/self/cgroup)
	[ -n "$own" ] || { echo "this kernel has no cgroup2" >&2 && exit 1; }
	mkdir -p "$dir"/cgroup
	mount -t cgroup2 cgroup "$dir"/cgroup
	group=$dir/cgroup$own/$(basename "$(dirname "$dir")")
}

start() {
	find_group
	mkdir "$group"
	echo $$ >"$group"/cgroup.procs
	exec unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup --propagation private \
		"$0" boot "$dir" "$1"
}

remove() {
	local tries

	find_group
	# What was killed leaves its group a little later.
	for tries in {1..50}; do
		[ -d "$group" ] || return 0
		find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
	done
	echo "$group is still in use, after $tries tries" >&2
	return 1
}

# Its own nodes: in the host's /dev systemd would make links, and close terminals.
make_dev() {
	local node

	mount -t tmpfs -o nosuid,mode=755 dev "$1"
	for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
		# shellcheck disable=SC2086
		mknod -m 666 "$1"/${node/ / c }
	done
	mkdir "$1"/shm "$1"/pts
	mount -t tmpfs -o nosuid,nodev,mode=1777 shm "$1"/shm
	mount -t devpts -o newinstance,nosuid,noexec,mode=620,gid=5,ptmxmode=666 devpts "$1"/pts
	ln -s pts/ptmx "$1"/ptmx
	ln -s /proc/self/fd "$1"/fd
	ln -s fd/0 "$1"/stdin
	ln -s fd/1 "$1"/stdout
	ln -s fd/2 "$1"/stderr
}

boot() {
	local root=$dir/merged lib

	mkdir -p "$dir"/root "$dir"/work "$root"
	mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/root,workdir=$dir/work" "$root"
	mount -t proc proc "$root"/proc
	# What is in there is the host's, but for the network and the like.
	mount --bind "$root"/proc/sys "$root"/proc/sys
	mount -o remount,bind,ro "$root"/proc/sys
	mount -t sysfs -o ro sysfs "$root"/sys
	mount -t cgroup2 cgroup "$root"/sys/fs/cgroup
	mount -t tmpfs -o mode=755 run "$root"/run
	make_dev "$root"/dev
	mount --bind "$dir"/srv "$root"/srv
	cd "$root"
	pivot_root . mnt
	umount -l /mnt

	# From here on no path, and no link on the way, can mean a file of the host's.
	mount -t tmpfs tmp /tmp
	# Else journald would go on with the host's journal.
	mount -t tmpfs -o mode=755 log /var/log
	for lib in /etc /lib /usr/lib /usr/local/lib; do
		rm -rf $lib/systemd/system/*.wants $lib/systemd/system/*.requires $lib/systemd/system-generators
	done
	: >/etc/fstab
	grep -q '^kvm:' /etc/group || echo kvm:x:995: >>/etc/group
	: >/srv/made
	export container=other
	exec /lib/systemd/systemd --system "--unit=$1" --log-target=journal --show-status=no
}

shift 2
case $verb in
start | boot | remove) $verb "$@" ;;
*) echo "usage: machine.sh start DIR TARGET | remove DIR" >&2 && exit 2 ;;
esac
