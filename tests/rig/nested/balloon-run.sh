#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# balloon-run.sh: a stock kernel's virtio_balloon, in L1 of the nested rig; balloon.sh calls it.
#
# The balloon grows and shrinks while its process is replaced and killed; the guest's files keep what was
# in them, what the host is given back shows in the metrics and in the resident memory, and the guest
# reports free pages by itself.  All of it takes a minute; the limits are for a machine that has other work.
set -u -o pipefail

MEMORY=256
SIZE=64
failed=0

# expect TEXT COMMAND...
expect() {
	local text=$1
	shift
	"$@" && return
	echo "balloon: FAILED: $text"
	failed=1
}

ctl() {
	mayfly ctl api.sock "$@"
}

# number WORD: what stands behind it on a line of standard input.
number() {
	sed -nE "s/^$1[ ]+([0-9]+)$/\1/p"
}

statistic() {
	ctl memory balloon statistics | number "$1"
}

metric() {
	ctl metrics | number "mayfly_balloon_$1"
}

ticks() {
	tr -d '\r' <console.log | grep -c '^BALLOON-GUEST:'
}

# wait_for SECONDS COMMAND...: until it is true.
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] && kill -0 $vm || return 1
		sleep 0.3
	done
}

ticked() {
	[ "$(ticks)" -ge "$1" ]
}

has_statistics() {
	[ -n "$(statistic total_memory)" ]
}

holds() {
	[ "$(statistic actual_mib)" = "$1" ]
}

released() {
	[ "$(metric released_bytes_total)" -ge "$1" ]
}

# Replaces and kills its process until the balloon holds so much.
under_way() {
	local end=$((SECONDS + 180)) pid
	until holds "$1"; do
		[ $SECONDS -lt $end ] || return 1
		ctl replace balloon >>replaced.log 2>&1
		pid=$(ctl device balloon | number pid)
		[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
		sleep 0.5
	done
}

cp /files/balloon-init.sh init
mkdir -p overlay
mv init overlay/init
(cd overlay && echo init | cpio -o -H newc 2>/dev/null) >overlay.cpio
cat /l2/initrd overlay.cpio >initrd
begun=$SECONDS
: >console.log
mayfly run --kernel /l2/vmlinuz --initrd initrd --cmdline "console=hvc0 quiet panic=-1" \
	--memory ${MEMORY}M --balloon 0M,deflate-on-oom,stats=1,reporting --console file:console.log \
	--log-level info --death-budget 0/60 --api-socket api.sock --id balloon >mayfly.log 2>&1 </dev/null &
vm=$!
if ! wait_for 240 ticked 2; then
	echo "balloon: FAILED: the guest did not come up"
	cat mayfly.log console.log
	exit 1
fi
expect "no statistics came" wait_for 60 has_statistics
base=$(metric released_bytes_total)
expect "the guest reported no free pages" wait_for 120 released $((base + 1))
ctl memory balloon $SIZE
expect "it does not hold $SIZE MiB" under_way $SIZE
expect "the host was given back less than that" released $((SIZE * 1024 * 1024 * 9 / 10))
small=$(tr -d '\r' <console.log | tail -n 1)
ctl memory balloon 0
expect "it does not let go" under_way 0
now=$(ticks)
expect "the guest stands still" wait_for 120 ticked $((now + 2))
kept=$(metric kept_bytes_total)
deaths=$(ctl device balloon | grep '^replacements')
expect "a file changed: $(grep BAD console.log | head -n 1)" [ "$(grep -c BAD console.log)" = 0 ]
expect "the balloon is $(ctl device balloon | grep '^state')" \
	grep -q active <(ctl device balloon | grep '^state')
expect "a box misbehaved" [ "$(grep -c 'suspect: protocol' mayfly.log)" = 0 ]
echo "BALLOON: ticks=$(ticks) released=$(metric released_bytes_total) kept=$kept"
echo "BALLOON: $deaths"
echo "BALLOON: small: $small"
kill $vm
wait $vm
cp ./*.log /out
[ $failed -eq 0 ] || tail -n 15 mayfly.log console.log
[ $failed -ne 0 ] || echo "balloon: all of it holds, in $((SECONDS - begun)) s"
[ $failed -eq 0 ]
