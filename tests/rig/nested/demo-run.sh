#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# demo-run.sh: what the demos have in common, on the machine whose KVM is used: this one, or L1 of the
# nested rig.  demo.sh calls it.  Needs mayfly, jget and e2fsck in PATH, and in the environment:
#
#   DEMO_PART                  a script that defines what happens to the devices, see below
#   DEMO_KERNEL, DEMO_INITRD   what to boot
#   DEMO_DIR                   a folder for disks, logs, socket
#   DEMO_CPUS, DEMO_MEMORY, DEMO_DISK, DEMO_WRITERS, DEMO_HAMMERS   of the guest (2, 256M, 256M, 4, 12)
#   DEMO_RATE                  of a disk, MiB a second (40)
#   DEMO_KEEP                  a folder that gets the logs at the end
#   DEMO_SLOW                  what all time-outs are multiplied by (1)
#
# Boots the guest (guest-init.sh), waits until its load runs, does to the devices what DEMO_PART says,
# tells the guest to stop, waits for its verdict and its power-off, checks the disk images from outside
# and that no line of console and serial port is missing, and prints a table.  Exit 0: everything holds.
#
# DEMO_PART is demo-replace.sh, demo-faults.sh or demo-hotplug.sh, and defines
#
#   disks              ids of the disks that carry a file system
#   options, settings  more of `mayfly run`, and of its configuration: members of mayfly.devices
#   words              more of the guest's kernel command line; may be left out
#   kernel_messages    how many the guest's kernel is to make
#   disturb            what to do while the load runs; the devices are in `ids`
#   again ID           how many generations of the device began without what the last had in hand
#   check_devices      what must hold of the devices as they are in devices.json; prints a table
set -u -o pipefail

: "${DEMO_PART:?}" "${DEMO_KERNEL:?}" "${DEMO_INITRD:?}" "${DEMO_DIR:?}"
: "${DEMO_CPUS:=2}" "${DEMO_MEMORY:=256M}" "${DEMO_DISK:=256M}"
: "${DEMO_RATE:=40}" "${DEMO_WRITERS:=4}" "${DEMO_HAMMERS:=12}" "${DEMO_SLOW:=1}" "${DEMO_KEEP:=}"
SOCKET=$DEMO_DIR/api.sock
failed=0
vm=
# shellcheck source=tests/rig/nested/demo-replace.sh disable=SC1091
. "$DEMO_PART"

note() {
	echo "demo: $*"
}

# What went wrong, with the ends of all logs; the VM dies with us.
give_up() {
	local log
	note "FAILED: $*"
	for log in mayfly console serial ctl; do
		[ -s "$DEMO_DIR/$log.log" ] || continue
		note "$log.log ends with"
		tail -n 25 "$DEMO_DIR/$log.log" | tr -d '\r' | sed 's/^/  | /'
	done
	exit 1
}

# At every exit: the VM must not outlive us.
finish() {
	[ -z "$vm" ] || kill "$vm" 2>/dev/null
	[ -z "$DEMO_KEEP" ] || cp "$DEMO_DIR"/*.{log,json,tsv} "$DEMO_KEEP" 2>/dev/null
}

# expect TEXT COMMAND...: a condition of success that does not end the run.
expect() {
	local text=$1
	shift
	"$@" && return
	note "FAILED: $text"
	failed=1
}

running() {
	kill -0 "$vm" 2>/dev/null
}

# wait_until SECONDS TEXT COMMAND...: polls; gives up when the time is over or the VM has ended.
wait_until() {
	local left=$(($1 * DEMO_SLOW * 5)) text=$2
	shift 2
	while ! "$@"; do
		[ $left -gt 0 ] || give_up "$text: not in time"
		running || "$@" || give_up "$text: mayfly ended before"
		left=$((left - 1))
		sleep 0.2
	done
}

said() {
	grep -q "$1" "$DEMO_DIR/console.log" 2>/dev/null
}

ended() {
	! running
}

ctl() {
	mayfly ctl "$SOCKET" "$@" --json 2>>"$DEMO_DIR/ctl.log"
}

# A disk's entry in the configuration.  As a volume of a cloud has it, and as here the disk and not the
# guest's CPU is what the load waits for, whatever machine this is.
drive() {
	cat <<-END
		{"drive_id": "$1", "path_on_host": "$DEMO_DIR/$1.img", "is_root_device": false,
		 "rate_limiter": {"bandwidth": {"size": 1048576, "refill_time": $((1000 / DEMO_RATE))}}}
	END
}

# What the guest calls them: the control disk is the last.
guest_disks() {
	local all=(vda vdb vdc vdd) n=${#disks[@]}
	(IFS=, && echo "demo.disk=${all[*]:0:n} demo.control=${all[n]}")
}

start_vm() {
	local id drives=''
	rm -f "$DEMO_DIR"/*.{log,img,json,tsv}
	for id in "${disks[@]}"; do
		truncate -s "$DEMO_DISK" "$DEMO_DIR/$id.img"
		drives+="$(drive "$id"), "
	done
	truncate -s 4096 "$DEMO_DIR/control.img"
	drives+="{\"drive_id\": \"control\", \"path_on_host\": \"$DEMO_DIR/control.img\",
		\"is_root_device\": false, \"is_read_only\": true}"
	echo "{\"drives\": [$drives], \"mayfly\": {\"devices\": {$settings}}}" >"$DEMO_DIR/vm.json"
	mayfly run --kernel "$DEMO_KERNEL" --initrd "$DEMO_INITRD" \
		--cmdline "console=hvc0 quiet panic=-1 demo.writers=$DEMO_WRITERS demo.hammers=$DEMO_HAMMERS $(guest_disks) ${words-}" \
		--cpus "$DEMO_CPUS" --memory "$DEMO_MEMORY" \
		--config "$DEMO_DIR/vm.json" \
		--console "file:$DEMO_DIR/console.log" --serial "file:$DEMO_DIR/serial.log" --rng \
		${options[@]+"${options[@]}"} \
		--api-socket "$SOCKET" --id demo --no-reboot >"$DEMO_DIR/mayfly.log" 2>&1 </dev/null &
	vm=$!
}

# The numbered lines in the log of $1: how many were written, how many of them are not there as they
# were, or there again, and how many of those not even with something between their characters.
ticks() {
	tr -d '\r' <"$DEMO_DIR/$1.log" | awk -v name="$1" '
		function due(n) { return sprintf("tick %s %d %04x", name, n, n * 40503 % 65536) }
		# Whether text has all characters of line in their order.
		function within(line, text, i, at) {
			for (i = 1; i <= length(line); i++) {
				at = index(text, substr(line, i, 1))
				if (at == 0) return 0
				text = substr(text, at + 1)
			}
			return 1
		}
		# What is not as it should be lies between two lines that are.
		function settle(upto, i, want) {
			for (i = last + 1; i < upto; i++) {
				want = due(i)
				torn++
				lost += !within(want, between)
				if (torn <= 5) print "  due: " want ", there: " between > "/dev/stderr"
			}
			between = ""
		}
		$0 == due($3) && $3 <= last { torn++; next }
		$0 == due($3) { settle($3); last = $3 + 0; next }
		{ between = between $0 "\n" }
		END { print last + 0, torn + 0, lost + 0 }'
}

# A handoff loses, doubles and tears nothing.  A recovery may run the access in flight once more: what
# was in hand may be there twice, which two lines can be part of.
check_ticks() {
	local name lines torn lost sum=0
	for name in console serial; do
		read -r lines torn lost < <(ticks $name)
		note "$name: $lines numbered lines, $torn torn"
		expect "$name: $torn torn lines" [ "$torn" -le $((2 * $(again $name))) ]
		expect "$name: $lost lines lack characters" [ "$lost" = 0 ]
		sum=$((sum + lines))
	done
	expect "console and serial port have $sum lines; the guest wrote $(field ticks)" \
		[ $sum = "$(field ticks)" ]
}

field() {
	sed -nE "s/.* $1=([^ ]+).*/\1/p" <<<"$verdict"
}

check_guest() {
	verdict=$(tr -d '\r' <"$DEMO_DIR/console.log" | grep '^DEMO-GUEST: files=' | tail -n 1)
	[ -n "$verdict" ] || give_up "the guest gave no verdict"
	echo "$verdict"
	expect "the serial port says otherwise" grep -qF "$verdict" "$DEMO_DIR/serial.log"
	expect "the guest read back nothing" [ "$(field verified)" -gt 0 ]
	expect "not every byte was read back" [ "$(field verified)" = "$(field bytes)" ]
	expect "the guest saw errors" [ "$(field errors)" = 0 ]
	expect "the guest read no random bytes" [ "$(field rng_bytes)" -gt 0 ]
	expect "what was kept is wrong" [ "$(field kept)" != wrong ]
	expect "md5sum disagrees" [ "$(field md5)" = ok ]
	expect "the guest's fsck found errors" [ "$(field fsck)" = clean ]
	expect "the guest's kernel has $(field kernel_messages) messages" \
		[ "$(field kernel_messages)" = "$kernel_messages" ]
	check_ticks
}

check_images() {
	local id code
	for id in "${disks[@]}"; do
		code=0
		e2fsck -fn "$DEMO_DIR/$id.img" >"$DEMO_DIR/fsck.log" 2>&1 || code=$?
		sed 's/^/  /' "$DEMO_DIR/fsck.log" | tail -n 2
		expect "fsck of $id from outside: $code" [ $code -eq 0 ]
	done
}

begun=$SECONDS
trap finish EXIT
start_vm
wait_until 60 "the guest boots" said 'DEMO-GUEST: up'
note "guest is $(sed -nE 's/.*DEMO-GUEST: (up .*)/\1/p' "$DEMO_DIR/console.log" | tr -d '\r'), $((SECONDS - begun)) s after the start of mayfly"
wait_until 60 "the load runs" said 'DEMO-GUEST: load runs'
mapfile -t ids < <(ctl devices | jget id)
[ ${#ids[@]} -ge 5 ] || give_up "mayfly lists ${#ids[@]} devices: ${ids[*]-}"
disturb
ctl devices >"$DEMO_DIR/devices.json" || give_up "mayfly does not list its devices"
printf stop | dd of="$DEMO_DIR/control.img" conv=notrunc 2>/dev/null
wait_until 60 "the guest powers off" ended
code=0
wait "$vm" || code=$?
vm=
expect "mayfly's exit status is $code" [ $code -eq 0 ]
check_guest
check_images
check_devices
[ $failed -eq 0 ] || give_up "see above"
note "all of it holds, in $((SECONDS - begun)) s"
