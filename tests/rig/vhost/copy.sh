#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# copy.sh: `make demo-vhost-copy`: migrate.py in L1 of the nested rig, where QEMU has KVM, so that the guest's memory can be
# copied.  What the devices write while that goes on arrives only if they mark it in QEMU's log.
#
#   VHOST_MOVES=N   how often the guest moves (3; a minute each)
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/rig/nested/lib.sh disable=SC1091
. "$here/../nested/lib.sh"

[ -x "$TOP/build/mayfly" ] || die "build/mayfly is missing: make"
python=/usr/bin/python3 # Debian's: it looks for its library where that is put in L1
library=$($python -c 'import os; print(os.path.dirname(os.__file__))')
exec "$here/../nested/nested.sh" --mem 5000 --timeout 1200 \
	--env "LIBRARY=$library" --env VHOST_COPY=1 --env VHOST_ACCEL=kvm --env VHOST_MEMORY=320 \
	--env "VHOST_MOVES=${VHOST_MOVES:-3}" --env VHOST_RATE=2 --env VHOST_SLOW=5 \
	"$here/copy-l1.sh" "$(tool qemu-system-x86_64)" /usr/share/qemu /usr/share/seabios "$python" "$library" "$here"
