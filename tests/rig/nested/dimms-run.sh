#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# dimms-run.sh: what dimms.sh runs in L1 of the nested rig.
set -u -o pipefail

mkdir -p overlay
cp /files/dimm-init.sh overlay/init
(cd overlay && echo init | cpio -o -H newc 2>/dev/null) >overlay.cpio
cat /l2/initrd overlay.cpio >initrd
MAYFLY_TEST_KERNEL=/l2/vmlinuz MAYFLY_TEST_INITRD=initrd timeout 800 /files/test_dimm_guest
