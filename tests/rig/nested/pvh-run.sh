#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pvh-run.sh: a stock kernel booted by the PVH protocol, in L1 of the nested rig; pvh.sh calls it.
#
#   PVH_CPUS   of the guest (2)
#
# The guest (pvh-init.sh) comes up twice: it resets the machine by the keyboard controller, as
# Firecracker's usual command line has it, and powers off.  Its disk has a process for each queue.
set -u -o pipefail

: "${PVH_CPUS:=2}"
queues=$((PVH_CPUS < 2 ? 1 : 2))
failed=0

# expect TEXT COMMAND...
expect() {
	local text=$1
	shift
	"$@" && return
	echo "pvh: FAILED: $text"
	failed=1
}

mkdir -p overlay
cp /files/pvh-init.sh overlay/init
(cd overlay && echo init | cpio -o -H newc 2>/dev/null) >overlay.cpio
cat /l2/initrd overlay.cpio >initrd
truncate -s 1M disk.img
begun=$SECONDS
code=0
timeout 400 mayfly run --kernel /files/vmlinux --initrd initrd \
	--cmdline "console=hvc0 quiet reboot=k panic=-1" --cpus "$PVH_CPUS" --memory 384M \
	--disk "id=disk,path=disk.img,queues=$queues,lanes=$queues" --console file:console.log --log-level info \
	--api-socket api.sock --id pvh >mayfly.log 2>&1 </dev/null || code=$?
cp ./*.log /out
tr -d '\r' <console.log | grep '^PVH-GUEST:'

# A line of the guest's, whole but for the kernel's release.
said() {
	tr -d '\r' <console.log | grep -qE \
		"^PVH-GUEST: boot=$1 protocol=0x020c cpus=$PVH_CPUS queues=$queues kernel=[0-9]"
}

expect "mayfly's exit status is $code" [ $code -eq 0 ]
expect "the guest did not come up" said first
expect "the guest did not come up after its reset" said second
expect "mayfly tells of no reset, or of several" \
	[ "$(grep -c 'the guest asked for a reset' mayfly.log)" = 1 ]
expect "mayfly tells of a crash" [ "$(grep -c crashed mayfly.log)" = 0 ]
[ $failed -eq 0 ] || tail -n 25 mayfly.log console.log
[ $failed -ne 0 ] || echo "pvh: all of it holds, in $((SECONDS - begun)) s"
[ $failed -eq 0 ]
