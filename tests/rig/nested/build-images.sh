#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# build-images.sh: makes, from what fetch.sh got, when something they are made of has changed:
#
#   build/nested/guest.cpio   initial file system of the guest under mayfly (guest-init.sh)
#   build/nested/l1.cpio      of L1, in which mayfly runs (l1-init.sh); carries the guest in /l2
#
# mayfly itself is not in them: nested.sh adds it at each run.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rig/nested/lib.sh disable=SC1091
. "$here/lib.sh"

VIRTIO="virtio virtio_ring virtio_pci virtio_pci_modern_dev virtio_pci_legacy_dev"
GUEST_MODULES="$VIRTIO virtio_blk virtio_console virtio_balloon virtio_mem virtio-rng rng-core evdev button"
L1_MODULES="$VIRTIO virtio_console irqbypass kvm kvm-amd kvm-intel ccp"

[ -e "$NESTED/kernel/done" ] || die "no kernel: tests/rig/nested/fetch.sh gets it"
modules=$(echo "$NESTED"/kernel/modules/*)
version=${modules##*/}
busybox=$(tool busybox) || die "no busybox"

# A failed step leaves no `images`, and the next call begins again.
current() {
	[ -e "$NESTED/images" ] && [ -z "$(find "$here" "$NESTED/kernel/done" "$(realpath "$busybox")" \
		-newer "$NESTED/images" -print -quit)" ]
}

current && exit 0
[ -w "$NESTED" ] || die "cannot write $NESTED"
exec 9>"$NESTED/images.lock"
flock 9
current && exit 0
rm -f "$NESTED/images"
scratch work

# add_modules ROOT NAMES: those that this kernel has as modules, and what modprobe needs.
add_modules() {
	local name file to
	for name in $2; do
		file=$(find "$modules" -name "$name.ko")
		[ -n "$file" ] || continue # built in
		to=$1/lib/modules/$version/${file#"$modules"/}
		mkdir -p "${to%/*}"
		cp "$file" "$to"
	done
	for name in modules.order modules.builtin modules.builtin.modinfo; do
		cp "$modules/$name" "$1/lib/modules/$version/"
	done
	"$busybox" depmod -b "$1" "$version"
}

# add_base ROOT INIT: busybox under all its names, /init, the empty folders, ext4's tools.
add_base() {
	local name
	mkdir -p "$1"/{bin,dev,etc,lib,mnt,proc,root,run,sbin,sys,tmp,usr/bin,usr/sbin}
	copy_program "$busybox" "$1" bin/busybox
	for name in $("$busybox" --list); do
		[ "$name" = busybox ] || ln -s busybox "$1/bin/$name"
	done
	install -m 755 "$2" "$1/init"
	copy_program "$(tool mkfs.ext4)" "$1" sbin/mkfs.ext4
	copy_program "$(tool e2fsck)" "$1" sbin/e2fsck
	cp /etc/mke2fs.conf "$1/etc/" 2>/dev/null || true
}

compile() {
	"${CC:-gcc}" -std=gnu11 -O2 -Wall -Wextra -Werror -D_GNU_SOURCE -I"$TOP" -static -o "$2" "$here/$1" "${@:3}"
}

guest=${work:?}/guest
add_base "$guest" "$here/guest-init.sh"
add_modules "$guest" "$GUEST_MODULES"
compile guestload.c "$guest/bin/guestload" "$here/guestmemory.c"
pack "$guest" "$NESTED/guest.cpio"

l1=$work/l1
add_base "$l1" "$here/l1-init.sh"
add_modules "$l1" "$L1_MODULES"
copy_program "$(command -v bash)" "$l1" usr/bin/bash
ln -s ../usr/bin/bash "$l1/bin/bash"
compile jget.c "$NESTED/jget" -ljansson
cp "$NESTED/jget" "$l1/usr/bin/jget"
mkdir -p "$l1/l2" "$l1/newroot"
cp "$NESTED/kernel/vmlinuz" "$l1/l2/vmlinuz"
cp "$NESTED/guest.cpio" "$l1/l2/initrd"
printf '%s\n' root:x:0:0::/root:/bin/bash user:x:1000:1000::/home/user:/bin/bash >"$l1/etc/passwd"
printf '%s\n' root:x:0: tty:x:5: kvm:x:104:user user:x:1000: >"$l1/etc/group"
pack "$l1" "$NESTED/l1.cpio"
touch "$NESTED/images"
say "images: guest $(du -k "$NESTED/guest.cpio" | cut -f 1) KiB, L1 $(du -k "$NESTED/l1.cpio" | cut -f 1) KiB"
