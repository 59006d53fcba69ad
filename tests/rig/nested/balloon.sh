#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# balloon.sh: `make check-balloon`.  A stock kernel's balloon driver under mayfly, in the nested rig.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rig/nested/lib.sh disable=SC1091
. "$here/lib.sh"

[ -x "$TOP/build/mayfly" ] || die "build/mayfly is missing: make"
keep=$TOP/build/balloon
mkdir -p "$keep" 2>/dev/null || true
out=()
[ ! -w "$keep" ] || out=(--out "$keep")
"$here/nested.sh" --timeout "${BALLOON_TIMEOUT:-900}" ${out[@]+"${out[@]}"} "$here/balloon-run.sh" \
	"$here/balloon-init.sh"
