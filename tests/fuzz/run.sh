#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh SECONDS NAME...: runs each built libFuzzer target fuzz_NAME for SECONDS on its corpus.
#
# New finds go to build/fuzz/corpus-NAME; what is worth keeping is copied to tests/fuzz/corpus/NAME
# by hand (build/fuzz/fuzz_NAME -merge=1 does most of it).  A crash leaves its input in build/fuzz.
# The last line is `N passed, N failed, N skipped`; the exit status is 1 when one failed.
set -eu -o pipefail
cd "$(dirname "$0")/../.."

if [ $# -lt 1 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
	echo "usage: tests/fuzz/run.sh SECONDS NAME..." >&2
	exit 2
fi
each=$1
shift
dir=build/fuzz
passed=0 failed=0 skipped=0

# The number that libFuzzer printed after `stat::NAME:`, or 0.
stat_of() {
	sed -n "s/^stat::$2: *//p" "$1" | tail -n 1 | grep . || echo 0
}

run_one() {
	local name=$1 log=$dir/$1.log corpus=tests/fuzz/corpus/$1 finds=$dir/corpus-$1

	if ! [ -x "$dir/fuzz_$name" ]; then
		echo "skip fuzz_$name: not built ($(command -v clang >/dev/null || echo "no clang, ")make fuzz builds it)"
		skipped=$((skipped + 1))
		return
	fi
	mkdir -p "$finds" "$corpus"
	if "$dir/fuzz_$name" -max_total_time="$each" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$dir/$name-" "$finds" "$corpus" >"$log" 2>&1; then
		echo "ok   fuzz_$name: $(stat_of "$log" number_of_executed_units) runs in $each s," \
			"$(stat_of "$log" new_units_added) new inputs"
		passed=$((passed + 1))
	else
		echo "FAIL fuzz_$name: $log ends with"
		tail -n 25 "$log" | sed 's/^/     /'
		failed=$((failed + 1))
	fi
}

for name in "$@"; do
	run_one "${name#fuzz_}"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
