# shellcheck shell=bash disable=SC2034,SC2154 # demo-run.sh has the other half
# SPDX-License-Identifier: Apache-2.0
# demo-faults.sh: the part of demo-run.sh that injects faults at random while the load runs.
#
#   DEMO_SEED      of the order of faults; when each meets its device is not in its hands
#   DEMO_SECONDS   for how long (60)
#   DEMO_FAULTS    which (see below)
#   DEMO_POISON    1: at the end a request of the control disk is poison, and the guest's kernel says so
#
# Each fault for each device is a card of a deck: it is shuffled, dealt, and shuffled again.  A device
# that has a fault which was not noticed yet gets no other.  Not in the deck is what breaks a device or
# fails a request by its nature: bad-used-index, die-on-request.
#
# made.tsv has what was injected: device, fault, generation.  news.tsv has the events of the VM.

: "${DEMO_SEED:?}" "${DEMO_SECONDS:=60}" "${DEMO_POISON:=}"
: "${DEMO_FAULTS:=kill stop segv hang forbidden-call corrupt-state interrupt-storm lie-on-quiesce}"
NOTICED_S=60
POISON_LIMIT=2
disks=(rootfs data)
# Many more deaths than any budget has room for.  By chance two generations may die of the same request:
# that is not the poison which this is about.  A storm answers no message, so it is one only if that shows
# before it hangs.
options=(--allow-faults --faulty-programs --death-budget 0/60 --poison-limit 16
	--hang-ms 1000 --storm-ms 700 --log-level info)
settings='"data": {"queues": 2, "lanes": 2}'
[ -z "$DEMO_POISON" ] || settings+=", \"control\": {\"poison_limit\": $POISON_LIMIT}"
kernel_messages=${DEMO_POISON:+1}
: "${kernel_messages:=0}"
declare -A pending=() # by device: the generation that has a fault
declare -A untried=() # devices that had no fault, faults that no device had
poisoned=0
cut=
deck=()
refused=0

# What a fault may end in.  Whoever runs without end, for which there is a storm's time less than for a
# hang, storms if nothing is to be done meanwhile, and else hangs.
ends_in() {
	case $1 in
	kill | segv | die-on-request | its-successor) echo crash ;;
	stop) echo hang ;;
	forbidden-call) echo seccomp ;;
	corrupt-state) echo protocol ;;
	hang | interrupt-storm) echo storm hang ;;
	lie-on-quiesce) echo operator ;;
	esac
}

# ---- events ----

follow_news() {
	exec {news}< <(mayfly ctl "$SOCKET" events --json 2>>"$DEMO_DIR/ctl.log" |
		jget event device generation from to kind reason fault start count)
}

# Takes in what is told, until nothing was for $1 seconds.  A time-out can cut a line in two.
take_news() {
	local line event device from status
	while :; do
		status=0
		IFS= read -r -t "$1" -u "$news" line || status=$?
		line=$cut$line cut=''
		if [ $status -ne 0 ]; then
			cut=$line
			return
		fi
		echo "$line" >>"$DEMO_DIR/news.tsv"
		IFS=$'\t' read -r event device _ from _ <<<"$line"
		[ "$event" != poisoned ] || poisoned=$((poisoned + 1))
		if [ "$event" = replaced ] && [ "$from" -ge "${pending[$device]:-$((from + 1))}" ]; then
			unset "pending[$device]"
		fi
	done
}

# ---- faults ----

shuffle() {
	local id fault i j card
	deck=()
	for id in "${ids[@]}"; do
		for fault in $DEMO_FAULTS; do
			deck+=("$id $fault")
		done
	done
	for ((i = ${#deck[@]} - 1; i > 0; i--)); do
		j=$((RANDOM % (i + 1)))
		card=${deck[i]} deck[i]=${deck[j]} deck[j]=$card
	done
}

# deal: sets `card` to the first in the deck whose device has no fault, and takes it out.
deal() {
	local i
	[ ${#deck[@]} -gt 0 ] || shuffle
	for i in "${!deck[@]}"; do
		card=${deck[i]}
		[ -z "${pending[${card% *}]-}" ] || continue
		unset "deck[i]"
		deck=("${deck[@]}")
		return 0
	done
	return 1
}

# inject DEVICE FAULT.  Refused where a recovery was just going on, or the process could not be stopped.
inject() {
	local answer generation
	if ! answer=$(ctl fault "$1" "$2"); then
		running || give_up "mayfly ended when $1 was to get $2"
		note "refused: $(tail -n 1 "$DEMO_DIR/ctl.log")"
		refused=$((refused + 1))
		return
	fi
	generation=$(jget generation <<<"$answer")
	printf '%s\t%s\t%s\n' "$1" "$2" "$generation" >>"$DEMO_DIR/made.tsv"
	pending[$1]=$generation
	unset "untried[$1]" "untried[$2]"
	case $2 in
	corrupt-state | lie-on-quiesce) # these show when it is to hand off
		ctl replace "$1" >>"$DEMO_DIR/replaced.$1.json" ||
			note "$1 was not replaced: $(tail -n 1 "$DEMO_DIR/ctl.log")"
		;;
	esac
}

# settle TEXT COMMAND...: takes in news until the command says so.
settle() {
	local until=$((SECONDS + NOTICED_S * DEMO_SLOW)) text=$1
	shift
	while ! "$@"; do
		running || give_up "mayfly ended"
		[ $SECONDS -lt $until ] || give_up "$text (pending: ${!pending[*]})"
		take_news 0.5
	done
}

none_pending() {
	[ ${#pending[@]} -eq 0 ]
}

some_poisoned() {
	[ $poisoned -gt 0 ]
}

# The generation that has the order dies of a request, the next ones of the same, until it is poison.
poison() {
	local generation i
	note "a request of the control disk is to kill $POISON_LIMIT generations"
	inject control die-on-request
	generation=${pending[control]}
	for ((i = 1; i < POISON_LIMIT; i++)); do
		printf 'control\tits-successor\t%s\n' $((generation + i)) >>"$DEMO_DIR/made.tsv"
	done
	settle "no request is poison" some_poisoned
	settle "the control disk is not replaced" none_pending
}

# For the time given, and longer if it was not enough for each device and each fault.
disturb() {
	local card word from=$SECONDS
	note "load runs; a fault at a time for ${ids[*]}, for $DEMO_SECONDS s, seed $DEMO_SEED"
	: >"$DEMO_DIR/made.tsv"
	: >"$DEMO_DIR/news.tsv"
	for word in "${ids[@]}" $DEMO_FAULTS; do
		untried[$word]=1
	done
	follow_news
	RANDOM=$DEMO_SEED
	while [ $((SECONDS - from)) -lt "$DEMO_SECONDS" ] || [ ${#untried[@]} -gt 0 ]; do
		[ $((SECONDS - from)) -lt $((DEMO_SECONDS + NOTICED_S * DEMO_SLOW)) ] ||
			give_up "no time was left for ${!untried[*]}"
		take_news 0.1
		! deal || inject "${card% *}" "${card#* }"
	done
	note "$(wc -l <"$DEMO_DIR/made.tsv") faults in $((SECONDS - from)) s, $refused more refused"
	settle "a fault was not noticed" none_pending
	[ -z "$DEMO_POISON" ] || poison
	exec {news}<&-
}

# ---- what came of it ----

# Device, fault, generation, and the reason for which that generation was suspect or replaced (`-`: it was
# not), then the same with fault `-` for those that no fault asked for.  A state record that is garbage is
# the end of the next generation, which was given it.
outcomes() {
	awk -F '\t' -v OFS='\t' '
		FNR == 1 { file++ }
		file == 1 && $1 == "suspect" { reason[$2, $3] = $7 }
		file == 1 && $1 == "replaced" { reason[$2, $4] = $7 }
		file == 2 {
			if ($2 == "corrupt-state" && !(($1, $3) in reason)) $3 += 1
			print $1, $2, $3, ($1, $3) in reason ? reason[$1, $3] : "-"
			delete reason[$1, $3]
		}
		END { for (key in reason) { split(key, k, SUBSEP); print k[1], "-", k[2], reason[key] } }' \
		"$DEMO_DIR/news.tsv" "$DEMO_DIR/made.tsv"
}

# Generations of device $1 that went on at the ring or register, with nothing of the last one's.
again() {
	awk -F '\t' -v id="$1" '$1 == "replaced" && $2 == id && $9 != "carried" { n++ } END { print n + 0 }' \
		"$DEMO_DIR/news.tsv"
}

# A line a fault: how many of them each device got, and what they ended in.
print_faults() {
	awk -F '\t' -v ids="${ids[*]}" -v faults="$DEMO_FAULTS${DEMO_POISON:+ die-on-request}" '
		{ n[$2, $1]++; sum[$2]++; if (!(($2, $4) in ends)) reasons[$2] = reasons[$2] " " $4; ends[$2, $4]++ }
		END {
			d = split(ids, id, " "); f = split(faults, fault, " ")
			printf "%-16s", "fault"
			for (i = 1; i <= d; i++) printf " %8s", id[i]
			print "      all  ended in"
			for (j = 1; j <= f; j++) {
				printf "%-16s", fault[j]
				for (i = 1; i <= d; i++) printf " %8d", n[fault[j], id[i]]
				printf " %8d ", sum[fault[j]]
				k = split(reasons[fault[j]], reason, " ")
				for (i = 1; i <= k; i++) printf " %s=%d", reason[i], ends[fault[j], reason[i]]
				print ""
			}
		}' "$DEMO_DIR/outcomes.tsv"
}

# Each fault ended as it should, and nothing without one.  Where everything is emulated a device may seem
# to hang that has only not been given its time.
check_outcomes() {
	local id fault generation reason
	while IFS=$'\t' read -r id fault generation reason; do
		case " $(ends_in "$fault") " in
		*" $reason "*) continue ;;
		esac
		if [ "$reason" = hang ] && [ "$DEMO_SLOW" -gt 1 ]; then
			note "generation $generation of $id did not move in time (fault: $fault)"
		else
			expect "generation $generation of $id, fault $fault: $reason" false
		fi
	done <"$DEMO_DIR/outcomes.tsv"
}

# The devices as they were when the last fault was over.
check_devices() {
	local id kind state generation faults requests reasons want
	expect "outcomes" outcomes >"$DEMO_DIR/outcomes.tsv"
	print_faults
	printf '%-9s %-8s %10s %7s  %s\n' device kind generation faults 'generations replaced, by reason'
	while IFS=$'\t' read -r id kind state generation faults requests reasons; do
		printf '%-9s %-8s %10s %7s  %s\n' "$id" "$kind" "$generation" "$faults" "$reasons"
		want=$(grep "^$id	" "$DEMO_DIR/made.tsv" | grep -cv its-successor)
		expect "$id is $state" [ "$state" = active ]
		expect "$id: $faults faults counted, $want made" [ "$faults" -ge "$want" ]
		expect "$id: $requests requests poisoned" \
			[ "$requests" = "$([ "$id" = control ] && echo "${DEMO_POISON:-0}" || echo 0)" ]
	done < <(jget id kind state generation faults poisoned \
		replacements.operator replacements.crash replacements.hang replacements.seccomp \
		replacements.protocol replacements.storm replacements.ring replacements.audit \
		<"$DEMO_DIR/devices.json" | awk -F '\t' -v OFS='\t' '{
			print $1, $2, $3, $4, $5, $6, "operator=" $7 " crash=" $8 " hang=" $9 " seccomp=" $10 \
				" protocol=" $11 " storm=" $12 " ring=" $13 " audit=" $14 }')
	expect "events were lost" [ "$(grep -c '^lost' "$DEMO_DIR/news.tsv")" = 0 ]
	check_outcomes
	[ -z "$DEMO_POISON" ] || expect "the guest's kernel says something else" \
		grep -q 'I/O error, dev vdc' "$DEMO_DIR/console.log"
	note "seed $DEMO_SEED: $(grep -cv its-successor "$DEMO_DIR/made.tsv") faults"
}
