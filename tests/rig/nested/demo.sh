#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh [replace|faults|hotplug]: `make demo`, `make demo-faults`, `make demo-hotplug`.  A stock Debian kernel under mayfly makes,
# mounts and loads a file system, two with faults, while each of its devices is replaced 100 times
# (demo-replace.sh), meets faults for a minute (demo-faults.sh), or is given memory that is taken away
# again (demo-hotplug.sh); demo-run.sh is the rest.
#
# Where this machine's KVM can run a stock kernel (VMX or SVM) it runs here; else in the nested rig,
# where QEMU emulates a machine with SVM: slower, but the same KVM code, kernel and mayfly.
# DEMO_RIG=host or nested decides otherwise; DEMO_TIMES=N replaces each device N times; DEMO_SEED=N,
# DEMO_SECONDS=N and DEMO_POISON=1 are of the faults.  The logs land in build/demo or build/demo-faults,
# if that can be written.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rig/nested/lib.sh disable=SC1091
. "$here/lib.sh"

# Why the host's KVM will not do, or nothing.
host_lacks() {
	if ! [ -e /dev/kvm ]; then
		echo "there is no /dev/kvm here"
	elif ! [ -r /dev/kvm ] || ! [ -w /dev/kvm ]; then
		echo "$(id -un) may not use /dev/kvm (group $(stat -c %G /dev/kvm))"
	elif ! grep -qwE '^flags.*(vmx|svm)' /proc/cpuinfo; then
		echo "this machine's CPU shows neither VMX nor SVM"
	fi
}

on_host() {
	scratch DEMO_DIR
	export DEMO_DIR DEMO_PART=$part DEMO_KEEP=$keep DEMO_KERNEL=$NESTED/kernel/vmlinuz DEMO_INITRD=$NESTED/guest.cpio
	PATH=$TOP/build:$NESTED:$PATH "$here/demo-run.sh"
}

# Everything there takes some thirty times as long, and more on a busy machine.  The huge pages are there
# for DEMO_MEMORY=256M,pages=2m, which is what demo-hotplug.sh has: 4 KiB pages are faulted in there at some
# two thousand a second, while it fills 256 MiB.
in_nested() {
	local name vars=() out=()
	[ -z "$keep" ] || out=(--out "$keep")
	for name in DEMO_TIMES DEMO_IN_FLIGHT DEMO_SEED DEMO_SECONDS DEMO_FAULTS DEMO_POISON \
		DEMO_CPUS DEMO_MEMORY DEMO_DISK DEMO_RATE DEMO_WRITERS DEMO_HAMMERS; do
		[ -z "${!name-}" ] || vars+=(--env "$name=${!name}")
	done
	"$here/nested.sh" --mem "$mem" --append "hugepages=$huge" --timeout "${DEMO_TIMEOUT:-2400}" ${out[@]+"${out[@]}"} \
		--env DEMO_KERNEL=/l2/vmlinuz --env DEMO_INITRD=/l2/initrd --env DEMO_DIR=/tmp \
		--env DEMO_KEEP=/out --env DEMO_SLOW=5 ${vars[@]+"${vars[@]}"} \
		--env "DEMO_PART=/files/${part##*/}" "$here/demo-run.sh" "$part"
}

[ -x "$TOP/build/mayfly" ] || die "build/mayfly is missing: make"
"$here/fetch.sh"
"$here/build-images.sh"
case ${1-replace} in
replace) keep=$TOP/build/demo ;;
faults)
	keep=$TOP/build/demo-faults
	[ -n "${DEMO_SEED-}" ] || DEMO_SEED=$(($(date +%s) % 1000000))
	export DEMO_SEED
	echo "demo: SEED=$DEMO_SEED"
	;;
hotplug) keep=$TOP/build/demo-hotplug ;;
*) die "usage: tests/rig/nested/demo.sh [replace|faults|hotplug]" ;;
esac
huge=136 mem=2048
[ "${1-}" != hotplug ] || huge=850 mem=4096 # 256 + 128 + 256 + 1024 MiB, and some
part=$here/demo-${1-replace}.sh
mkdir -p "$keep" 2>/dev/null || true
[ -w "$keep" ] || keep=
lacks=$(host_lacks)
rig=${DEMO_RIG:-$([ -z "$lacks" ] && echo host || echo nested)}
case $rig in
host)
	echo "demo: on this machine's own KVM, kernel $(cat "$NESTED/kernel/done")"
	on_host
	;;
nested)
	echo "demo: ${lacks:-DEMO_RIG says nested}: a stock kernel cannot run on its KVM, so this is the nested rig:"
	echo "demo: mayfly runs in an emulated machine with SVM, where everything takes many times as long"
	in_nested
	;;
*) die "DEMO_RIG is host or nested" ;;
esac
