#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# everystep.sh SHARDS SECONDS PROGRAM...   runs the everystep programs at every instruction
#
# In SHARDS parts at once, each program for at most SECONDS, or with $SHARD=i/n that part only.  Then
# what they tell of each situation, added up.
set -eu -o pipefail
cd "$(dirname "$0")/.."

shards=$1 limit=$2 status=0
shift 2
if [ -n "${SHARD-}" ]; then
	parts=("$SHARD")
else
	mapfile -t parts < <(seq -f "%g/$shards" "$shards")
fi
pids=()
for part in "${parts[@]}"; do
	label=everystep-${part%/*}
	SAMPLE=1 SHARD=$part tests/run.sh -l "$label" -t "$limit" "$@" &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	wait "$pid" || status=1
done
# KIND, SITUATION: N instructions, killed at N of them and at N random times; output repeated N, input lost N, late N
for part in "${parts[@]}"; do
	cat "build/log/everystep-${part%/*}"/*.log
done | awk '
	/ instructions, killed at / {
		colon = index($0, ": ")
		name = substr($0, 1, colon - 1)
		split(substr($0, colon + 2), word, /[ ,;]+/)
		if (!(name in steps)) {
			order[++names] = name
			steps[name] = word[1]
		} else if (steps[name] != word[1]) {
			print "everystep: " name " is not as long in each part"
			exit 1
		}
		killed[name] += word[5]; random[name] += word[10]; repeated[name] += word[15]
		lost[name] += word[18]; late[name] += word[20]
	}
	END {
		for (i = 1; i <= names; i++) {
			name = order[i]
			printf "%-60s %5d instructions, killed at %5d, %3d at random; repeated %4d, lost %4d, late %d\n",
				name, steps[name], killed[name], random[name], repeated[name], lost[name], late[name]
			all += steps[name]; dead += killed[name]; chance += random[name]
		}
		printf "everystep: %d situations, %d instructions, killed at %d of them and at %d random times\n",
			names, all, dead, chance
	}'
exit "$status"
