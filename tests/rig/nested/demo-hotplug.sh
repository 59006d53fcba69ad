# shellcheck shell=bash disable=SC2034,SC2154 # demo-run.sh has the other half
# SPDX-License-Identifier: Apache-2.0
# demo-hotplug.sh: the part of demo-run.sh that gives the guest memory and takes it away while the load runs.
#
# Two DIMMs come: `fixed`, which the guest onlines for its kernel, and `loose`, which it onlines movable; then
# it takes a GiB by virtio-mem.  The guest fills more memory than it booted with has room for and uses it for
# disk I/O.  `loose` is ejected, `fixed` is refused, and the GiB is given back.  At each step a table of what
# each device felt of it.

[ "$DEMO_SLOW" -eq 1 ] || DEMO_MEMORY+=,pages=2m
DEMO_MEMORY+=,max=1G
FIXED_MIB=128
LOOSE_MIB=256
FILL_MIB=256
PLUG_MIB=1024
PLUG_BLOCKS=8   # of the guest's memory blocks
PLUG_EPOCHS=8   # at most, each way
disks=(rootfs)
options=(--memory-hotplug "${PLUG_MIB}M") settings='' kernel_messages=0
words="demo.hot=kernel,movable,movable$(printf ',movable%.0s' $(seq $PLUG_BLOCKS)) demo.fill=$FILL_MIB"
steps=0 # changes of the map so far

# show_step TEXT: the last replacement of each device, which this step was the reason of.
show_step() {
	steps=$((steps + 1))
	note "$1"
	ctl devices >"$DEMO_DIR/devices.json" || give_up "mayfly does not list its devices"
	printf '  %-9s %10s %6s %10s %12s %12s\n' device generation epoch memory-map 'drain us' 'switch us'
	local id generation epoch count drain switch
	while IFS=$'\t' read -r id generation epoch count drain switch; do
		printf '  %-9s %10s %6s %10s %12s %12s\n' "$id" "$generation" "$epoch" "$count" "$drain" "$switch"
		expect "$id: epoch $epoch" [ "$epoch" = $((steps + 1)) ]
		expect "$id: $count changes of the map" [ "$count" = "$steps" ]
	done < <(jget id generation epoch replacements.memory-map drain_us.last switch_us.last <"$DEMO_DIR/devices.json")
}

# add ID MIB BLOCKS: and wait until the guest has onlined so many blocks in all.
add() {
	local answer
	answer=$(ctl memory add "$1" "$2") || give_up "memory add $1"
	echo "$answer" >>"$DEMO_DIR/memory.json"
	show_step "$1: $2 MiB added: $(jget allocate_us slot_us prepare_us move_us <<<"$answer" |
		awk '{ print "allocated in " $1 " us, KVM " $2 " us, processes " $3 " us, handed off in " $4 " us" }')"
	wait_until 60 "the guest onlines $1" said "DEMO-GUEST: onlined $3"
}

remove() {
	local answer proof
	answer=$(ctl memory remove "$1") || give_up "memory remove $1"
	echo "$answer" >>"$DEMO_DIR/memory.json"
	proof=$(jget proof.write_seal proof.blocks proof.maps proof.fds <<<"$answer" | tr '\t' ' ')
	show_step "$1 removed: write seal, blocks, mappings, descriptors: $proof"
	expect "$1 is not proven to be gone: $proof" [ "$proof" = 'true 0 0 0' ]
}

# mem0 KEY: as the guest has it.
mem0() {
	ctl memory size mem0 | jget "$1"
}

plugged() {
	[ "$(mem0 plugged_size_mib)" = "$1" ]
}

epoch() {
	ctl memory | jget epoch
}

mapped() {
	[ "$(ctl memory | jget reserves.0.mapped_mib)" = "$1" ]
}

# resize MIB: and wait until the guest has it so.
resize() {
	local before grown
	before=$(epoch)
	ctl memory resize mem0 "$1" || give_up "memory resize mem0 $1"
	wait_until 120 "the guest has $1 MiB by virtio-mem" plugged "$1"
	[ "$1" != 0 ] || wait_until 60 "the map follows" mapped 0
	grown=$(($(epoch) - before))
	expect "mem0 to $1 MiB took no epoch" [ $grown -ge 1 ]
	expect "mem0 to $1 MiB took $grown epochs" [ $grown -le $PLUG_EPOCHS ]
	steps=$((steps + grown - 1))
	show_step "mem0: $1 MiB by virtio-mem, in $grown epochs"
}

refused() {
	! mayfly ctl "$SOCKET" memory remove "$1" 2>"$DEMO_DIR/refused.log" || return 1
	note "$(cat "$DEMO_DIR/refused.log")"
	grep -q 'the guest does not eject it' "$DEMO_DIR/refused.log"
}

disturb() {
	note "load runs; memory comes and goes"
	add fixed $FIXED_MIB 1
	add loose $LOOSE_MIB 3
	resize $PLUG_MIB
	wait_until 60 "the guest onlines what it plugged" said "DEMO-GUEST: onlined $((3 + PLUG_BLOCKS))"
	wait_until 120 "the guest fills its memory" said 'DEMO-GUEST: memory mib='
	note "guest: $(sed -nE 's/.*DEMO-GUEST: (memory mib=.*)/\1/p' "$DEMO_DIR/console.log" | tr -d '\r')"
	expect "what was in the new memory is wrong" said "DEMO-GUEST: memory mib=$FILL_MIB wrong=0 disk=ok"
	remove loose
	expect "the guest gave back what its kernel has" refused fixed
	resize 0
	mayfly ctl "$SOCKET" memory | sed 's/^/  /'
}

# A handoff may end in a recovery where everything is emulated; the ticks need to know.
again() {
	jget id replacements.hang <"$DEMO_DIR/devices.json" | awk -v id="$1" '$1 == id { print $2 + 0 }'
}

check_devices() {
	local id state others
	while IFS=$'\t' read -r id state others; do
		expect "$id is $state" [ "$state" = active ]
		expect "$id: $others generations were lost to suspicion" [ "$others" = 0 ]
	done < <(jget id state replacements.crash replacements.seccomp replacements.protocol replacements.ring \
		replacements.storm <"$DEMO_DIR/devices.json" | awk -F '\t' -v OFS='\t' '{ print $1, $2, $3 + $4 + $5 + $6 + $7 }')
}
