#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# demo-run.sh: the demo proper, on the machine whose KVM it uses: this one, or L1 of the nested rig.
# demo.sh calls it.  Needs mayfly, jget and e2fsck in PATH, and in the environment:
#
#   DEMO_KERNEL, DEMO_INITRD   what to boot
#   DEMO_DIR                   a folder for disks, logs, socket
#   DEMO_TIMES                 replacements of each device (100)
#   DEMO_IN_FLIGHT             so many of the disk's must find a request in flight (90 in 100)
#   DEMO_CPUS, DEMO_MEMORY, DEMO_DISK, DEMO_WRITERS, DEMO_HAMMERS   of the guest (2, 256M, 256M, 4, 12)
#   DEMO_RATE                  of the disk, MiB a second (40)
#   DEMO_KEEP                  a folder that gets the logs at the end
#   DEMO_SLOW                  what all time-outs are multiplied by (1)
#
# Boots the guest (guest-init.sh), waits until its load runs, replaces each device in turn, tells the
# guest to stop, waits for its verdict and its power-off, checks the disk image from outside and that
# no line of console and serial port is missing, and prints a table.  Exit 0: everything holds.
set -u -o pipefail

: "${DEMO_KERNEL:?}" "${DEMO_INITRD:?}" "${DEMO_DIR:?}"
: "${DEMO_TIMES:=100}" "${DEMO_CPUS:=2}" "${DEMO_MEMORY:=256M}" "${DEMO_DISK:=256M}"
: "${DEMO_RATE:=40}" "${DEMO_WRITERS:=4}" "${DEMO_HAMMERS:=12}" "${DEMO_SLOW:=1}" "${DEMO_KEEP:=}"
: "${DEMO_IN_FLIGHT:=$((DEMO_TIMES * 9 / 10))}"
DISK_ID=rootfs
SOCKET=$DEMO_DIR/api.sock
failed=0
vm=

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
	[ -z "$DEMO_KEEP" ] || cp "$DEMO_DIR"/*.log "$DEMO_DIR"/*.json "$DEMO_KEEP" 2>/dev/null
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

start_vm() {
	rm -f "$DEMO_DIR"/*.log "$DEMO_DIR"/*.img "$DEMO_DIR"/*.json
	truncate -s "$DEMO_DISK" "$DEMO_DIR/disk.img"
	truncate -s 4096 "$DEMO_DIR/control.img"
	# As a volume of a cloud has it, and as here the disk and not the guest's CPU is what the load
	# waits for, whatever machine this is.
	cat >"$DEMO_DIR/vm.json" <<-END
		{"drives": [{"drive_id": "$DISK_ID", "path_on_host": "$DEMO_DIR/disk.img", "is_root_device": false,
		 "rate_limiter": {"bandwidth": {"size": 1048576, "refill_time": $((1000 / DEMO_RATE))}}}]}
	END
	mayfly run --kernel "$DEMO_KERNEL" --initrd "$DEMO_INITRD" \
		--cmdline "console=hvc0 quiet panic=-1 demo.writers=$DEMO_WRITERS demo.hammers=$DEMO_HAMMERS" \
		--cpus "$DEMO_CPUS" --memory "$DEMO_MEMORY" \
		--config "$DEMO_DIR/vm.json" \
		--disk "id=control,path=$DEMO_DIR/control.img,readonly" \
		--console "file:$DEMO_DIR/console.log" --serial "file:$DEMO_DIR/serial.log" --rng \
		--api-socket "$SOCKET" --id demo --no-reboot >"$DEMO_DIR/mayfly.log" 2>&1 </dev/null &
	vm=$!
}

# One answer of mayfly a line, for each device in a file of its own.  When a recovery came first (see
# check_devices) the replacement is asked for again: on a real machine that is a failure.
replace() {
	local answer try
	for ((try = 1; ; try++)); do
		if answer=$(ctl replace "$1"); then
			echo "$answer" >>"$DEMO_DIR/replaced.$1.json"
			return
		fi
		running || give_up "mayfly ended during replacement $2 of $1"
		note "replacement $2 of $1: $(tail -n 1 "$DEMO_DIR/ctl.log")"
		if [ "$DEMO_SLOW" -eq 1 ] || [ $try -eq 5 ]; then break; fi
		sleep 1
	done
	expect "replacement $2 of $1" false
}

replace_all() {
	local id i
	for ((i = 1; i <= DEMO_TIMES; i++)); do
		for id in "${ids[@]}"; do
			replace "$id" "$i"
		done
		((i % 25 != 0)) || note "$i replacements of each of ${ids[*]}"
	done
}

# How many replacements of device $1 left requests to the successor.
in_flight() {
	jget in_flight <"$DEMO_DIR/replaced.$1.json" | awk '$1 > 0 { n++ } END { print n + 0 }'
}

# What looks like a numbered line in the log of $1: how many, and how many are not what is due there.
ticks() {
	tr -d '\r' <"$DEMO_DIR/$1.log" | awk -v name="$1" '
		!/^t*i*c*k* *[a-z]+ +[0-9]+ +[0-9a-f]+$/ { next }
		{ n++; want = sprintf("tick %s %d %04x", name, n, n * 40503 % 65536) }
		$0 != want && torn++ < 5 { print "  due: " want ", there: " $0 > "/dev/stderr" }
		END { print n + 0, torn + 0 }'
}

# Recoveries of device $1 because it did not move in time.
hangs() {
	jget id replacements.hang <"$DEMO_DIR/devices.json" | awk -v id="$1" '$1 == id { print $2 + 0 }'
}

# A handoff loses, doubles and tears nothing.  A recovery may run the access in flight once more: a
# character may be there twice.
check_ticks() {
	local name lines torn sum=0
	for name in console serial; do
		read -r lines torn < <(ticks $name)
		note "$name: $lines numbered lines, $torn torn"
		expect "$name: $torn torn lines" [ "$torn" -le "$(hangs $name)" ]
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
	expect "the guest's kernel noticed something" [ "$(field kernel_messages)" = 0 ]
	check_ticks
}

check_image() {
	local code=0
	e2fsck -fn "$DEMO_DIR/disk.img" >"$DEMO_DIR/fsck.log" 2>&1 || code=$?
	sed 's/^/  /' "$DEMO_DIR/fsck.log" | tail -n 2
	expect "fsck of the image from outside: $code" [ $code -eq 0 ]
}

# The table, from the devices as they were when the last replacement was done.  `hang` counts
# recoveries of a device that did not move in time; where everything is emulated (DEMO_SLOW) that is
# the machine's fault and no failure.
check_devices() {
	local id kind state generation operator hang others drain switch hits
	printf '%-9s %-8s %10s %12s %9s %18s %18s %5s\n' device kind generation replacements \
		'in flight' 'drain us p50/p99' 'switch us p50/p99' hang
	while IFS=$'\t' read -r id kind state generation operator hang others drain switch; do
		hits=$(in_flight "$id")
		printf '%-9s %-8s %10s %12s %9s %18s %18s %5s\n' "$id" "$kind" "$generation" \
			"$operator" "$hits" "$drain" "$switch" "$hang"
		expect "$id is $state" [ "$state" = active ]
		expect "$id: $operator replacements" [ "$operator" -ge "$DEMO_TIMES" ]
		expect "$id: $others generations were lost to suspicion" [ "$others" = 0 ]
		expect "$id: $hang generations did not move in time" [ "$hang" = 0 -o "$DEMO_SLOW" -gt 1 ]
		expect "$id: generation $generation" [ "$generation" -gt "$DEMO_TIMES" ]
		[ "$id" != $DISK_ID ] || expect "$id: only $hits replacements with a request in flight" \
			[ "$hits" -ge "$DEMO_IN_FLIGHT" ]
	done < <(jget id kind state generation replacements.operator replacements.hang \
		replacements.crash replacements.seccomp replacements.protocol replacements.ring \
		replacements.storm drain_us.p50 drain_us.p99 switch_us.p50 switch_us.p99 \
		<"$DEMO_DIR/devices.json" | awk -F '\t' -v OFS='\t' '{
			print $1, $2, $3, $4, $5, $6, $7 + $8 + $9 + $10 + $11, $12 "/" $13, $14 "/" $15 }')
}

begun=$SECONDS
trap finish EXIT
start_vm
wait_until 60 "the guest boots" said 'DEMO-GUEST: up'
note "guest is $(sed -nE 's/.*DEMO-GUEST: (up .*)/\1/p' "$DEMO_DIR/console.log" | tr -d '\r'), $((SECONDS - begun)) s after the start of mayfly"
wait_until 60 "the load runs" said 'DEMO-GUEST: load runs'
mapfile -t ids < <(ctl devices | jget id)
[ ${#ids[@]} -ge 5 ] || give_up "mayfly lists ${#ids[@]} devices: ${ids[*]-}"
note "load runs; replacing ${ids[*]}, each $DEMO_TIMES times"
from=$SECONDS
replace_all
note "$((${#ids[@]} * DEMO_TIMES)) replacements in $((SECONDS - from)) s"
ctl devices >"$DEMO_DIR/devices.json" || give_up "mayfly does not list its devices"
printf stop | dd of="$DEMO_DIR/control.img" conv=notrunc 2>/dev/null
wait_until 60 "the guest powers off" ended
code=0
wait "$vm" || code=$?
vm=
expect "mayfly's exit status is $code" [ $code -eq 0 ]
check_guest
check_image
check_devices
[ $failed -eq 0 ] || give_up "see above"
note "all of it holds, in $((SECONDS - begun)) s"
