#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [-l LABEL] [-t SECONDS] [-u UID] PROGRAM...   runs test programs, one after the other
# run.sh --total LABEL...                              adds up what those runs counted
#
# Each program runs from the top of the tree without stdin, for at most SECONDS (120), its output in
# build/log/LABEL/NAME.log.  With -u (root only) it runs as that user id, which need not have an
# account: no group but the one of /dev/kvm, no capability, HOME and TMPDIR a directory of its own.
# Where the tree cannot be reached by that user, it is bound to a place where it can.
#
# A program passes with exit status 0.  77 is skipped, the last line of its output being the reason;
# so is a program all of whose cmocka tests were skipped.  A skipped cmocka test is named with the
# line that it printed before.  The last line is `N passed, N failed, N skipped`, of programs; exit
# status 1 when one failed.
set -eu -o pipefail
cd "$(dirname "$0")/.."

label=tests limit=120 uid=
passed=0 failed=0 skipped=0 partly=0
prefix=() # what stands before each program

usage() {
	sed -n '3,4s/^# //p' "$0" >&2
	exit 2
}

die() {
	echo "run.sh: $*" >&2
	exit 1
}

# ---- as another user ----

# Whether the prefix makes the tree readable and program $1 executable.
reaches() {
	# shellcheck disable=SC2016
	"${prefix[@]}" sh -c 'test -r Makefile && cd "$1" && test -r Makefile && test -x "$2"' \
		sh "$1" "$2" </dev/null 2>/dev/null
}

# The prefix for user id $1; $2 is a program to try it with.
become() {
	local kvm groups=--clear-groups
	local -a user

	[ "$(id -u)" -eq 0 ] || die "-u needs root"
	command -v setpriv >/dev/null || die "-u needs setpriv (util-linux)"
	kvm=$(stat -c %g /dev/kvm 2>/dev/null || echo 0)
	[ "$kvm" -eq 0 ] || groups=--groups=$kvm
	place=$(mktemp -d)
	trap 'rm -rf "$place/home"; rmdir "$place/tree" "$place"' EXIT
	mkdir -m 755 "$place/tree"
	mkdir -m 700 "$place/home"
	chown "$1:$1" "$place/home"
	chmod 711 "$place"
	user=(setpriv "--reuid=$1" "--regid=$1" "$groups" --inh-caps=-all
		env -u USER -u LOGNAME -u XDG_RUNTIME_DIR "HOME=$place/home" "TMPDIR=$place/home")
	prefix=("${user[@]}")
	reaches "$PWD" "$2" && return
	# shellcheck disable=SC2016
	prefix=(unshare --mount --propagation private bash -c
		'mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@"' bash "$PWD" "$place/tree" "${user[@]}")
	reaches "$place/tree" "$2" && return
	die "user id $1 cannot read this tree, and nothing is copied: chmod -R go+rX '$PWD' first"
}

# ---- one program ----

# `NAME: reason` of each cmocka test that the log $1 shows as skipped.
skips_in() {
	awk '/^\[==========\] [0-9]+ test\(s\) run/ { exit }
	     /^\[ RUN      \]/ { why = "no reason given"; next }
	     /^\[  SKIPPED \]/ { sub(/^\[  SKIPPED \] /, ""); print $0 ": " why; next }
	     { why = $0 }' "$1"
}

report_failure() { # NAME WHY LOG SECONDS
	printf 'FAIL %s (%s s): %s; %s ends with\n' "$1" "$4" "$2" "$3"
	tail -n 25 "$3" | sed 's/^/     /'
	failed=$((failed + 1))
}

report_success() { # NAME LOG SECONDS
	local tests skips

	tests=$(grep -c '^\[       OK \]' "$2" || true)
	mapfile -t skips < <(skips_in "$2")
	if [ "$tests" -eq 0 ] && [ "${#skips[@]}" -gt 0 ]; then
		printf 'skip %s\n' "$1"
		skipped=$((skipped + 1))
	else
		printf 'ok   %s (%s s%s)\n' "$1" "$3" "$([ "$tests" -eq 0 ] || echo ", $tests tests")"
		passed=$((passed + 1))
		[ "${#skips[@]}" -eq 0 ] || partly=$((partly + ${#skips[@]}))
	fi
	[ "${#skips[@]}" -eq 0 ] || printf '     skipped %s\n' "${skips[@]}"
}

run_one() {
	local name log status=0 begin took

	name=$(basename "$1")
	log=build/log/$label/$name.log
	begin=$(date +%s%N)
	timeout -k 5 "$limit" "${prefix[@]}" "$1" </dev/null >"$log" 2>&1 || status=$?
	took=$((($(date +%s%N) - begin) / 10000000))
	took=$((took / 100)).$(printf %02d $((took % 100)))
	# cmocka's exit status is the number of tests that failed: 77 need not mean skipped.
	if [ "$status" -eq 77 ] && ! grep -q '^\[  FAILED  \]' "$log"; then
		printf 'skip %s\n     %s\n' "$name" "$(tail -n 1 "$log" | grep . || echo "no reason given")"
		skipped=$((skipped + 1))
	elif [ "$status" -eq 0 ]; then
		report_success "$name" "$log" "$took"
	elif [ "$status" -eq 124 ]; then
		report_failure "$name" "ended, the limit is $limit s" "$log" "$took"
	elif [ "$status" -gt 128 ] && kill -l "$status" >/dev/null 2>&1; then
		report_failure "$name" "killed by SIG$(kill -l "$status")" "$log" "$took"
	else
		report_failure "$name" "exit status $status" "$log" "$took"
	fi
}

summary() {
	[ "$partly" -eq 0 ] || echo "$partly tests were skipped within programs that passed"
	echo "$passed passed, $failed failed, $skipped skipped"
}

# ---- all ----

total() {
	local p f s w

	for label in "$@"; do
		read -r p f s w <"build/log/$label/counts" || die "nothing ran as $label"
		passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s)) partly=$((partly + w))
	done
	summary
}

if [ "${1-}" = --total ]; then
	shift
	total "$@"
	[ "$failed" -eq 0 ]
	exit
fi
while getopts l:t:u: option; do
	case $option in
	l) label=$OPTARG ;;
	t) limit=$OPTARG ;;
	u) uid=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
if [ $# -eq 0 ] || ! [[ $limit =~ ^[1-9][0-9]*$ && $label =~ ^[a-z0-9-]+$ ]]; then
	usage
fi
if [ -n "$uid" ]; then
	become "$uid" "$1"
fi
mkdir -p "build/log/$label"
rm -f "build/log/$label"/*
for program in "$@"; do
	run_one "$program"
done
echo "$passed $failed $skipped $partly" >"build/log/$label/counts"
summary
[ "$failed" -eq 0 ]
