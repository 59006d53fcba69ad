#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# fetch.sh [--force]: gets what the nested rig boots, without installing anything:
#
#   build/nested/kernel/{vmlinuz,modules/}   Debian's stock kernel for clouds, as the archive has it
#   build/nested/pkg/                        busybox-static, e2fsprogs: those not installed here
#
# Works as any user.  apt says which kernel package is the present one; --force asks again, else
# what is there stays.
set -eu -o pipefail
# shellcheck source=tests/rig/nested/lib.sh disable=SC1091
. "$(dirname "$0")/lib.sh"

KERNEL_PACKAGE=linux-image-cloud-amd64
DEB=$NESTED/deb
APT=() # options once lists of our own are in use

[ "$(uname -m)" = x86_64 ] || die "the rig is for x86_64, this is $(uname -m)"
case ${1-} in
--force) rm -f "$NESTED/kernel/done" ;;
'') ;;
*) die "usage: tests/rig/nested/fetch.sh [--force]" ;;
esac

# tool:package of what goes into the guests besides the kernel.
PAIRS="busybox:busybox-static mkfs.ext4:e2fsprogs e2fsck:e2fsprogs"

complete() {
	local pair
	for pair in $PAIRS; do
		tool "${pair%:*}" >/dev/null || return
	done
	[ -e "$NESTED/kernel/done" ]
}

complete && exit 0
mkdir -p "$NESTED"
[ -w "$NESTED" ] || die "cannot write $NESTED"
exec 9>"$NESTED/fetch.lock"
flock 9

# Lists in build/nested, so that neither root nor the state of the system's lists is needed.
own_lists() {
	local dir=$NESTED/apt

	[ ${#APT[@]} -eq 0 ] || return 1
	say "refreshing package lists (in $dir)"
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	APT=(-o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root)
	apt-get -q "${APT[@]}" update >"$dir/update.log" 2>&1 || say "apt-get update: $(tail -n 1 "$dir/update.log")"
}

# The real kernel package that a meta-package depends on; nothing when apt does not know it.
resolve() {
	{ apt-cache "${APT[@]}" depends --important "$1" 2>/dev/null || true; } |
		sed -nE 's/^ *Depends: (linux-image-[0-9][^ ]*)$/\1/p' | head -n 1
}

download() {
	(cd "$DEB" && apt-get -q "${APT[@]}" -o APT::Sandbox::User=root download "$1") >"$DEB/log" 2>&1
}

# get NAME DIR: unpacks the package into DIR.
get() {
	rm -rf "$DEB" && mkdir -p "$DEB"
	if ! download "$1" && ! { own_lists && download "$1"; }; then
		tail -n 3 "$DEB/log" >&2
		die "cannot download package $1 from the Debian archive (see above)"
	fi
	mkdir -p "$2"
	dpkg -x "$DEB"/*.deb "$2"
	rm -rf "$DEB"
}

get_kernel() {
	local package new=$NESTED/kernel.new

	package=$(resolve $KERNEL_PACKAGE)
	if [ -z "$package" ] && own_lists; then
		package=$(resolve $KERNEL_PACKAGE)
	fi
	[ -n "$package" ] || die "apt knows no $KERNEL_PACKAGE: this rig wants Debian's archive"
	say "fetching $package"
	rm -rf "$new"
	get "$package" "$new/unpacked"
	mv "$new"/unpacked/boot/vmlinuz-* "$new/vmlinuz"
	mv "$new"/unpacked/lib/modules "$new/modules"
	rm -rf "$new/unpacked" "$NESTED/kernel"
	echo "$package" >"$new/done"
	mv "$new" "$NESTED/kernel"
}

for pair in $PAIRS; do
	tool "${pair%:*}" >/dev/null && continue
	say "fetching ${pair#*:}"
	get "${pair#*:}" "$NESTED/pkg"
done
[ -e "$NESTED/kernel/done" ] || get_kernel
