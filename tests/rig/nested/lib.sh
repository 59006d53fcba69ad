# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What the scripts of the nested rig share.  Sourced by them; sets TOP, NESTED and PATH.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
NESTED=$TOP/build/nested
PATH=$PATH:/usr/sbin:/sbin
: "${DEFERRED:=}"

say() {
	echo "nested: $*" >&2
}

die() {
	say "$*"
	exit 1
}

# at_exit COMMAND: run when the script ends, whichever way, last one first.
at_exit() {
	DEFERRED="$*; $DEFERRED"
	# shellcheck disable=SC2064 # now, not then
	trap "$DEFERRED" EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap 'exit 129' HUP
}

# scratch NAME: sets NAME to a new directory that goes with the script.
scratch() {
	local dir

	dir=$(mktemp -d "${TMPDIR:-/tmp}/mayfly-nested.XXXXXX")
	at_exit "rm -rf '$dir'"
	printf -v "$1" '%s' "$dir"
}

# tool NAME: the program's path, from this system or from what fetch.sh unpacked.
tool() {
	local dir

	command -v "$1" && return
	for dir in usr/sbin sbin usr/bin bin; do
		[ -x "$NESTED/pkg/$dir/$1" ] && echo "$NESTED/pkg/$dir/$1" && return
	done
	return 1
}

# What a dynamic program needs besides itself: its libraries and loader, one path a line.
libraries() {
	ldd "$1" 2>/dev/null | sed -nE 's,^[[:space:]]*([^ ]+ => )?(/[^ ]+) \(0x.*,\2,p'
}

# copy_program FILE ROOT TO: into ROOT/TO, what it needs to the same paths below ROOT.
copy_program() {
	local file=$1 root=$2 to=$3 lib

	mkdir -p "$root/$(dirname "$to")"
	cp -L "$file" "$root/$to"
	while read -r lib; do
		[ -e "$root$lib" ] && continue
		mkdir -p "$root$(dirname "$lib")"
		cp -L "$lib" "$root$lib"
	done < <(libraries "$file")
}

# pack DIR FILE: as an initial file system.  The kernel takes several of them one after the other.
pack() {
	(cd "$1" && find . -print0 | sort -z | cpio --quiet -0 -o -H newc -R 0:0) >"$2.new"
	mv "$2.new" "$2"
}
