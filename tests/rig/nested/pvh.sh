#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pvh.sh: `make check-pvh`.  Boots a stock kernel by the PVH protocol under mayfly, in the nested rig:
# the ELF file that Debian's bzImage carries.  PVH_CPUS=N as pvh-run.sh has it.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rig/nested/lib.sh disable=SC1091
. "$here/lib.sh"

[ -x "$TOP/build/mayfly" ] || die "build/mayfly is missing: make"
"$here/fetch.sh"
scratch work
"$here/unpack-vmlinux.sh" "$NESTED/kernel/vmlinuz" "${work:?}/vmlinux"
keep=$TOP/build/pvh
mkdir -p "$keep" 2>/dev/null || true
out=()
[ ! -w "$keep" ] || out=(--out "$keep")
"$here/nested.sh" --timeout 600 ${out[@]+"${out[@]}"} --env "PVH_CPUS=${PVH_CPUS:-2}" \
	"$here/pvh-run.sh" "$work/vmlinux" "$here/pvh-init.sh"
