#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check.sh [-l LABEL] [-j JOBS] BUILD        searches replace.pml, and the same with mistakes in it
# check.sh -c BUILD                          writes cells.txt: the table's cells that the model uses
#
# BUILD/model/NAME holds what a search made, BUILD being where table.o and names are.  Logs, counts
# and the last line are those of tests/run.sh.  With -l model-long the long searches, else the others.
set -eu -o pipefail
cd "$(dirname "$0")/../.."

# NAME, what is searched for, and the bounds (replace.pml).  safety: no assertion fails.  ends: there is
# no endless run either.
cases() {
	cat <<-END
		liar            safety  LIARS=1 HANDOFFS=1 STOPS=1 REQUESTS=0
		handoff         safety  HANDOFFS=1 REQUESTS=2
		handoff-event   safety  HANDOFFS=1 REQUESTS=2 EVENT_IDX
		fault           safety  FAULTS=1 REQUESTS=2
		fault-event     safety  FAULTS=1 REQUESTS=2 EVENT_IDX
		fault-rest      safety  FAULTS=1 REQUESTS=1 RESTS=1
		fault-traced    safety  FAULTS=1 REQUESTS=1 FOREIGN_TRACER=1
		stop            safety  STOPS=1 REQUESTS=1
		liar-traced     safety  LIARS=1 HANDOFFS=1 REQUESTS=0 FOREIGN_TRACER=1
		vmm             safety  LIARS=1 STOPS=1 REQUESTS=0 VMM_MAY_DIE
		change          safety  CHANGES=1 REQUESTS=1
		change-fault    safety  CHANGES=1 FAULTS=1 REQUESTS=0
		change-handoff  safety  CHANGES=1 HANDOFFS=1 REQUESTS=0
		change-liar     safety  CHANGES=1 LIARS=1 REQUESTS=0
		change-stop     safety  CHANGES=1 STOPS=1 REQUESTS=0
		handoff-ends    ends    HANDOFFS=1 REQUESTS=1
		fault-ends      ends    FAULTS=1 REQUESTS=1
		stop-ends       ends    STOPS=1 REQUESTS=1
	END
}

long_cases() {
	cat <<-END
		two-faults      safety  FAULTS=2 REQUESTS=1
		two-rests       safety  FAULTS=2 REQUESTS=1 RESTS=1
		two-handoffs    safety  HANDOFFS=2 REQUESTS=1
		handoff-fault   safety  HANDOFFS=1 FAULTS=1 REQUESTS=1
		handoff-stop    safety  HANDOFFS=1 STOPS=1 REQUESTS=1
		handoff-vmm     safety  HANDOFFS=1 REQUESTS=1 VMM_MAY_DIE
		handoff-ends    ends    HANDOFFS=1 REQUESTS=2
		fault-ends      ends    FAULTS=1 REQUESTS=2 EVENT_IDX
	END
}

# A mistake of the model (MUTANT_NAME), or in a cell of the table (DEVICE or BOX, state, event, then
# action and next state instead), and the case that has to find it.
mutants() {
	cat <<-END
		NO_SCAN                fault
		NO_SIGNAL              fault
		KICKS_STAY_OFF         fault
		NO_SECOND_LOOK         fault
		LOOKS_BEFORE_PUBLISHING fault
		PUBLISHED_BEFORE_DONE  fault
		ANSWERED_TWICE         fault
		RESUMES_AT_AUDITED     fault
		RESUMES_AT_AVAIL       fault
		NO_LOOK                handoff
		KILL_IS_A_FENCE        liar-traced
		NO_NONCE               liar
		ANY_READ               liar
		STOP_IS_SIGSTOP        liar
		HELD_AND_SIGSTOP       vmm
		NO_EXITKILL            vmm
		GONE_IS_MOVED          change
		STANDBY_FORGOTTEN      change
		NOBODY_MOVES           change
		STANDBY_UNHEARD        change-handoff
		LISTENER_RELEASED      liar
		BOX:QUIESCING,PARKED,FENCED,FENCED    liar
		BOX:ACTIVE,CONDEMN,FENCED,FENCED      stop
		BOX:ACTIVE,EXITED,REAP,DEAD           fault
		BOX:FENCED,RETIRE,NONE,FENCED         handoff
		DEVICE:STARTING,SUSPECT,NONE,STARTING fault
		DEVICE:FENCING,FENCED,NONE,FENCING    fault
		DEVICE:STALLED,FENCED,NONE,STALLED    handoff
		DEVICE:ACTIVE,READY,NONE,ACTIVE       handoff
	END
}

usage() {
	sed -n '3,4s/^# //p' "$0" >&2
	exit 2
}

die() {
	echo "check.sh: $*" >&2
	exit 1
}

# ---- one search ----

# The bounds of case $1.
bounds_of() {
	cases | awk -v name="$1" '$1 == name { for (i = 3; i <= NF; i++) printf "%s ", $i }'
}

# search NAME HOW DEFINITION..: 0 with the result in BUILD/model/NAME/out.
search() {
	local dir=$build/model/$1 how=$2 word
	local -a model=() change=() pan=(-DSAFETY) run=(-E -m20000)

	shift 2
	[ "$how" = safety ] || pan=(-DNP) run+=(-l)
	for word in "$@"; do
		case $word in
		CHANGED_*) change+=("-D$word") ;;
		*) model+=("-D$word") ;;
		esac
	done
	rm -rf "$dir"
	mkdir -p "$dir"
	gcc -E -x c "${model[@]}" -I"$build/model" tests/model/replace.pml -o "$dir/model" || return
	(cd "$dir" && spin -a model >spin.log) || { cat "$dir/spin.log"; return 1; }
	gcc "$optimize" -w -I. -DMEMLIM=12000 "${pan[@]}" "${change[@]}" -o "$dir/pan" "$dir/pan.c" "$build/model/table.o" || return
	(cd "$dir" && CELLS=$PWD/cells ./pan "${run[@]}" >out) || return
	rm "$dir"/pan.*
}

# ---- what it has to come to ----

judge_case() { # NAME HOW BOUND..
	local out=$build/model/$1/out

	search "$@" || return
	cat "$out"
	grep -q 'errors: 0' "$out" && ! grep -q 'Search not completed\|max search depth too small' "$out"
}

judge_mutant() { # NAME CASE
	local mistake=MUTANT_$1 name=${1//[:,]/-}

	case $1 in
	*:*) mistake="CHANGED_${1%%:*}=${1#*:}" ;;
	esac
	[ "$2" = liar ] || optimize=-O0 # soon found
	# shellcheck disable=SC2046 # a list of words
	search "$name" safety "$mistake" $(bounds_of "$2") || return
	cat "$build/model/$name/out"
	grep -q 'assertion violated' "$build/model/$name/out" &&
		test -s "$build/model/$name/model.trail"
}

# All cells that the searches before came by.
cells_found() {
	cases | while read -r name _; do
		cat "$build/model/$name/cells"
	done | sort -u
}

judge_cells() {
	cells_found | diff -u tests/model/cells.txt - ||
		{ echo "what the protocol rests on has changed: read it, then make model-cells"; return 1; }
}

# ---- all ----

# one WHAT NAME ARGS..: prints a line, as tests/run.sh does.  A process of its own.
one() {
	local what=$1 name=${2//[:,]/-} log begin=$SECONDS

	shift
	log=build/log/$label/$name.log
	if "judge_$what" "$@" >"$log" 2>&1; then
		echo "ok   $what $name ($((SECONDS - begin)) s)"
	else
		echo "FAIL $what $name; $log ends with"
		tail -n 25 "$log" | sed 's/^/     /'
	fi
}

all() {
	if [ "$label" = model-long ]; then
		long_cases | sed 's/^/case /'
	else
		{ cases | sed 's/^/case /'; mutants | sed 's/^/mutant /'; }
	fi | xargs -P "$jobs" -L 1 "$0" -l "$label" -1 "$build"
	[ "$label" = model-long ] || one cells cells
}

label=model jobs=2 mode=all optimize=-O1
while getopts l:j:c1 option; do
	case $option in
	l) label=$OPTARG ;;
	j) jobs=$OPTARG ;;
	c) mode=cells ;;
	1) mode=one ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[ $# -ge 1 ] || usage
build=$1
shift
command -v spin >/dev/null || die "spin is missing: make deps"
case $mode in
one)
	one "$@"
	exit
	;;
cells)
	cells_found >tests/model/cells.txt
	exit
	;;
esac
mkdir -p "build/log/$label"
rm -f "build/log/$label"/*
all | tee "build/log/$label/results"
passed=$(grep -c '^ok ' "build/log/$label/results" || true)
failed=$(grep -c '^FAIL ' "build/log/$label/results" || true)
echo "$passed $failed 0 0" >"build/log/$label/counts"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
