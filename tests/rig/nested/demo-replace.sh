# shellcheck shell=bash disable=SC2034,SC2154 # demo-run.sh has the other half
# SPDX-License-Identifier: Apache-2.0
# demo-replace.sh: the part of demo-run.sh that replaces each device in turn, again and again.
#
#   DEMO_TIMES                 replacements of each device (100)
#   DEMO_IN_FLIGHT             so many of the disk's must find a request in flight (90 in 100)

: "${DEMO_TIMES:=100}"
: "${DEMO_IN_FLIGHT:=$((DEMO_TIMES * 9 / 10))}"
disks=(rootfs)
options=() settings='' kernel_messages=0

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

disturb() {
	local id i from=$SECONDS
	note "load runs; replacing ${ids[*]}, each $DEMO_TIMES times"
	for ((i = 1; i <= DEMO_TIMES; i++)); do
		for id in "${ids[@]}"; do
			replace "$id" "$i"
		done
		((i % 25 != 0)) || note "$i replacements of each of ${ids[*]}"
	done
	note "$((${#ids[@]} * DEMO_TIMES)) replacements in $((SECONDS - from)) s"
}

# How many replacements of device $1 left requests to the successor.
in_flight() {
	jget in_flight <"$DEMO_DIR/replaced.$1.json" | awk '$1 > 0 { n++ } END { print n + 0 }'
}

# Recoveries of device $1 because it did not move in time: there are no others.
again() {
	jget id replacements.hang <"$DEMO_DIR/devices.json" | awk -v id="$1" '$1 == id { print $2 + 0 }'
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
		[ "$id" != rootfs ] || expect "$id: only $hits replacements with a request in flight" \
			[ "$hits" -ge "$DEMO_IN_FLIGHT" ]
	done < <(jget id kind state generation replacements.operator replacements.hang \
		replacements.crash replacements.seccomp replacements.protocol replacements.ring \
		replacements.storm drain_us.p50 drain_us.p99 switch_us.p50 switch_us.p99 \
		<"$DEMO_DIR/devices.json" | awk -F '\t' -v OFS='\t' '{
			print $1, $2, $3, $4, $5, $6, $7 + $8 + $9 + $10 + $11, $12 "/" $13, $14 "/" $15 }')
}
