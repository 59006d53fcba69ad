#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# nested.sh [options] SCRIPT [FILE...]: runs SCRIPT, with bash, in L1: a virtual machine with a stock
# Debian kernel and real (nested) KVM, all of it emulated by QEMU, so that it needs no hardware.
#
#   --user         as uid 1000, in group kvm; else as root
#   --cpus N       for SCRIPT (2); L1 has one more, see l1-init.sh
#   --mem MIB      of L1 (2048)
#   --timeout S    for everything (300); then exit 124
#   --env NAME=V   in SCRIPT's environment; may be repeated
#   --out DIR      what SCRIPT leaves in /out lands in DIR
#   --append WORDS on L1's kernel command line
#   --qemu ARG     one more argument of QEMU; may be repeated
#
# In L1: FILEs in /files, by their last name, folders whole, programs with their libraries; mayfly
# and its device programs, if they are built, in /mayfly (in PATH; MAYFLY_PROGRAMS says /mayfly/dev);
# the guest of `make demo` in /l2/{vmlinuz,initrd}; bash, busybox, e2fsck, mkfs.ext4, jget.
#
# SCRIPT's output is this script's, and so is its exit status; 125: the rig itself failed.  What L1's
# kernel says goes to stderr then, or to the file that NESTED_LOG names.  Needs no privileges.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rig/nested/lib.sh disable=SC1091
. "$here/lib.sh"

usage() {
	sed -n '3,13s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

as_user=0 cpus=2 mem=2048 timeout=300 out='' append='' qemu=() vars=()
while [ $# -gt 0 ]; do
	[[ $1 == --* ]] || break
	[ "$1" = --user ] && as_user=1 && shift && continue
	[ $# -ge 2 ] || usage
	case $1 in
	--cpus) cpus=$2 ;;
	--mem) mem=$2 ;;
	--timeout) timeout=$2 ;;
	--env) vars+=("$2") ;;
	--out) out=$2 ;;
	--append) append=$2 ;;
	--qemu) qemu+=("$2") ;;
	*) usage ;;
	esac
	shift 2
done
[ $# -ge 1 ] || usage
script=$1
shift
[ -r "$script" ] || die "cannot read $script"
tool qemu-system-x86_64 >/dev/null || die "no qemu-system-x86_64: make deps"
"$here/fetch.sh"
"$here/build-images.sh"
scratch work

# add FILE TO: into this run's part of L1's file system.
add() {
	if [ -d "$1" ]; then
		mkdir -p "$root/$2"
		cp -rL "$1/." "$root/$2"
	else
		copy_program "$1" "$root" "$2"
	fi
}

root=${work:?}/root
mkdir -p "$root/files"
{
	for var in ${vars[@]+"${vars[@]}"}; do
		printf 'export %q\n' "$var"
	done
	cat "$script"
} >"$root/run-in-l1.sh"
for program in mayfly dev; do
	[ ! -e "$TOP/build/$program" ] || add "$TOP/build/$program" "mayfly/$program"
done
# mayfly loads it by name (core/confine.c), so ldd does not list it.
libc=$(libraries "$(command -v bash)" | grep '/libc\.so')
add "${libc%/*}/libgcc_s.so.1" "${libc%/*}/libgcc_s.so.1"
for file in "$@"; do
	[ -e "$file" ] || die "no such file: $file"
	add "$file" "files/$(basename "$file")"
done
chmod -R a+rX "$root"
pack "$root" "$work/run.cpio"
cat "$NESTED/l1.cpio" "$work/run.cpio" >"$work/initrd"
rm -rf "$root" "$work/run.cpio"

# A fifo and not QEMU's stdio: that one stops taking output when its input has ended.
mkfifo "$work/out"
# No XSAVE: TCG does not intercept XSETBV, so that KVM in L1 never learns the guest's XCR0 and puts back
# one without SSE; its user space then loses registers.  No timer check: on a busy host the kernel finds
# that ten ticks of the timer did not come in time, and panics.
command=(qemu-system-x86_64 -machine q35 -accel "tcg,thread=multi" -cpu "EPYC,+svm,+npt,-xsave"
	-smp "$((cpus + 1))" -m "$mem" -nodefaults -no-user-config -display none -no-reboot
	-kernel "$NESTED/kernel/vmlinuz" -initrd "$work/initrd"
	-append "console=ttyS0 quiet panic=-1 no_timer_check rig.user=$as_user $append"
	-serial "file:$work/serial" -device virtio-serial-pci
	-chardev "file,id=out,path=$work/out" -device "virtserialport,chardev=out,name=out"
	-chardev "file,id=files,path=$work/out.tar" -device "virtserialport,chardev=files,name=files"
	${qemu[@]+"${qemu[@]}"})
timeout --foreground -k 5 "$timeout" "${command[@]}" </dev/null >"$work/qemu.log" 2>&1 &
pid=$!
at_exit "kill $pid 2>/dev/null || true"
exec 3<>"$work/out" # a reader and a writer, so that neither end waits for the other to open
cat "$work/out" 3>&- &
cat=$!
ret=0
wait $pid || ret=$?
exec 3>&-
wait $cat || true

show_logs() {
	grep -v 'TCG doesn.t support requested feature' "$work/qemu.log" || true
	tr -d '\r' <"$work/serial"
}

status=$(sed -nE 's/^NESTED-EXIT: ([0-9]+).*/\1/p' "$work/serial" 2>/dev/null | tail -n 1)
[ -z "${NESTED_LOG-}" ] || show_logs >"$NESTED_LOG"
if [ -n "$out" ] && [ -s "$work/out.tar" ]; then
	mkdir -p "$out"
	tar -C "$out" --no-same-owner -xf "$work/out.tar"
fi
if [ "$ret" -eq 124 ] || [ "$ret" -eq 137 ]; then
	say "not done after $timeout s"
	exit 124
elif [ -z "$status" ]; then
	show_logs >&2
	say "L1 ended before the script did (QEMU's status $ret)"
	exit 125
fi
exit "$status"
