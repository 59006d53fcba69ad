# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# copy-l1.sh: what copy.sh runs in L1.  /files has what it gave: QEMU and its ROMs, python and its library, this folder.
set -eu -o pipefail
mkdir -p /build/nested/kernel /share "${LIBRARY%/*}"
ln -s /l2/vmlinuz /build/nested/kernel/vmlinuz
ln -s /l2/initrd /build/nested/guest.cpio
# QEMU looks for ROMs beside its own folder.
ln -s /files/qemu /files/seabios /share
ln -s "/files/${LIBRARY##*/}" "$LIBRARY"
export PATH=/files:$PATH MAYFLY=/mayfly/mayfly
exec python3 -B /files/vhost/migrate.py
