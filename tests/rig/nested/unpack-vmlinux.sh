#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# unpack-vmlinux.sh BZIMAGE OUT: writes the kernel proper, an ELF file, that a bzImage carries packed
# by LZ4, as Debian's do.  Where it lies in the file its setup header says (Documentation/arch/x86/
# boot.rst: setup_sects, payload_offset, payload_length).
set -eu -o pipefail
# shellcheck source=tests/rig/nested/lib.sh disable=SC1091
. "$(dirname "$0")/lib.sh"

[ $# -eq 2 ] || die "usage: unpack-vmlinux.sh BZIMAGE OUT"
tool lz4 >/dev/null || die "no lz4: make deps"

# number OFFSET BYTES: of the file, little-endian.
number() {
	od -An -v -j "$1" -N "$2" -t "u$2" "$image" | tr -d ' '
}

image=$1
[ "$(number $((0x202)) 4)" = $((0x53726448)) ] || die "$image is no bzImage"
sects=$(number $((0x1f1)) 1)
at=$((((sects == 0 ? 4 : sects) + 1) * 512 + $(number $((0x248)) 4)))
bytes=$(number $((0x24c)) 4)
[ "$(number $at 4)" = $((0x184c2102)) ] || die "$image: its payload is not packed by LZ4"
# Behind the packed bytes stand 4 more: how many it unpacks to.
{ tail -c +$((at + 1)) "$image" || [ $? -eq 141 ]; } | head -c $((bytes - 4)) | "$(tool lz4)" -dc >"$2.new"
[ "$(stat -c %s "$2.new")" = "$(number $((at + bytes - 4)) 4)" ] || die "$image: not unpacked as a whole"
mv "$2.new" "$2"
