#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# omit.sh [BUILD]   leaves out one layer of the seal after the other and requires that it is noticed
#
# For each layer the blk program is built without it (make FLAVOUR=omit-LAYER), and BUILD's (build)
# test_layers tried on it.  It must fail, and say of which layer: in the line with which the VMM
# refuses the standby, or, for what cannot be seen from outside, in a line `layer NAME:` of its own
# and of no other.  Where the tree cannot be written, programs that were built before are used.
#
# Exit status 1 when a missing layer went unnoticed, 77 when nothing could be tried.
set -eu -o pipefail
cd "$(dirname "$0")/../.."

build=${1-build}
passed=0 failed=0 skipped=0

# FLAVOUR;what must be said, a regular expression;who can see it (nothing: everybody)
#
# Without no_new_privs the next layer cannot be put on by a process that has no capabilities, and is
# the one that says so; with capabilities left, too, the VMM sees which it is.
table=(
	"maps;a mapping that the launch record does not list;"
	"fds;a descriptor that the launch record does not list;"
	"bounding;the capability bounding set;"
	"ids;the user id;root"
	"pdeathsig;^(ERROR: )?layer pdeathsig:;"
	"caps;permitted capabilities;"
	"nnp;the seal failed at layer (landlock|seccomp);"
	"nnp-caps;no_new_privs is off;"
	"rlimits;a resource limit;"
	"landlock;^(ERROR: )?layer landlock:;root"
	"mseal;^(ERROR: )?layer mseal:;root"
	"mdwe;^(ERROR: )?layer mdwe:;root"
	"dumpable;^(ERROR: )?layer dumpable:;user"
	"seccomp;the (seccomp listener was never offered|agreed forbidden call was never seen);"
	"listener;a descriptor that the launch record does not list;"
	"namespaces;a namespace of the host;"
)

ok() {
	printf 'ok   %s\n' "$*"
	passed=$((passed + 1))
}

bad() {
	printf 'FAIL %s\n' "$*"
	failed=$((failed + 1))
}

skip() {
	printf 'skip %s\n' "$*"
	skipped=$((skipped + 1))
}

flavours() {
	printf '%s\n' "${table[@]}" | cut -d';' -f1
}

# Namespaces are the spawner's part: what leaves them out is BUILD's omit_namespaces, a test_layers
# with another spawner linked in.
build_all() {
	# Not this make's jobs: they are run side by side here.
	unset MAKEFLAGS MFLAGS
	flavours | grep -vx namespaces | xargs -P "$(nproc)" -I{} \
		make -s CC=gcc FLAVOUR=omit-{} build/omit-{}/dev/mayfly-blk >/dev/null
}

# Every layer that there is stands in the table.
check_complete() {
	local name

	while read -r name; do
		flavours | grep -qx "$name" || bad "$name: not in the table of this script"
	done < <(sed -n 's/^\tX([A-Z]*, \([a-z]*\), .*/\1/p' devmodel/abi/seal.h)
}

# What test_layers says of the programs in build/omit-$1; its exit status.
try() {
	if [ "$1" = namespaces ]; then
		timeout 60 "$build/tests/escape/omit_namespaces" blk 2>&1
	else
		MAYFLY_PROGRAMS=build/omit-$1/dev timeout 60 "$build/tests/escape/test_layers" blk 2>&1
	fi
}

# Lines of other layers than the one that is missing.
others() {
	grep -E '^(ERROR: )?layer [a-z]+:' <<<"$2" | grep -v "layer ${1%%-*}:" || true
}

try_one() { # FLAVOUR PATTERN NEEDS
	local out line status=0

	if [ "$3" = root ] && [ "$(id -u)" -ne 0 ]; then
		skip "omit-$1: only root can see it"
		return
	elif [ "$3" = user ] && [ "$(id -u)" -eq 0 ]; then
		skip "omit-$1: as root the change of user does the same"
		return
	fi
	case $1 in
	landlock | mseal | mdwe | listener)
		if ! grep -qw "$1" <<<"$layers"; then
			skip "omit-$1: this kernel has no $1"
			return
		fi
		;;
	esac
	out=$(try "$1") || status=$?
	line=$(grep -E -m1 -- "$2" <<<"$out" || true)
	if [ "$status" -eq 0 ]; then
		bad "omit-$1: nobody noticed"
	elif [ -z "$line" ] || [ -n "$(others "$1" "$out")" ]; then
		bad "omit-$1: noticed, but not named:"
		tail -n 15 <<<"$out" | sed 's/^/     /'
	else
		ok "omit-$1: $line"
	fi
}

[ ! -w build ] || build_all
check_complete
# The whole seal first: what is not green cannot go red.
status=0
whole=$("$build/tests/escape/test_layers" blk 2>&1) || status=$?
layers=$(grep '^layers here:' <<<"$whole" || true)
if [ "$status" -eq 77 ]; then
	tail -n 1 <<<"$whole"
	exit 77
fi
[ "$status" -eq 0 ] || bad "test_layers fails with the whole seal"
for row in "${table[@]}"; do
	IFS=';' read -r flavour pattern needs <<<"$row"
	try_one "$flavour" "$pattern" "$needs"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
