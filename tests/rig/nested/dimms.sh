#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# dimms.sh: `make check-dimms`.  A stock kernel under the VMM's machine in the nested rig, whose DIMMs come and go.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rig/nested/lib.sh disable=SC1091
. "$here/lib.sh"

test=$TOP/build/tests/host/test_dimm_guest
[ -x "$test" ] || die "$test is missing: make check-dimms"
"$here/nested.sh" --cpus 1 --timeout 900 "$here/dimms-run.sh" "$test" "$here/dimm-init.sh"
