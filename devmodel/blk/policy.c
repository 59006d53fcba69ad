/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What blk may do besides policy_common: move data between guest memory and the image, within it.
 *
 * Offset and length are bounded apart (a filter cannot add), so a call at the last sector may reach
 * up to BLK_REQUEST_MAX beyond the end: reads end there by themselves, writes and holes are stopped
 * by RLIMIT_FSIZE or do not grow the file.
 */
#include "devmodel/common/policies.h"

#include <asm/unistd.h>
#include <linux/falloc.h>

#include "devmodel/abi/config.h"

#define IMAGE POLICY_IS_FD(BACKEND) /* number 0 */
#define ZERO_MAX_BYTES (BLK_ZERO_MAX_SECTORS * BLK_SECTOR)

static const struct policy_rule rules[] = {
	{ .name = "pread64",
	  .nr = __NR_pread64,
	  .reason = "read requests",
	  .tests = { IMAGE, POLICY_AT_MOST(2, BLK_REQUEST_MAX), POLICY_WITHIN(3, IMAGE_LAST) } },
	{ .name = "pwrite64",
	  .nr = __NR_pwrite64,
	  .reason = "write requests, and zeros where the file system has no ZERO_RANGE",
	  .when = POLICY_IF_WRITABLE,
	  .tests = { IMAGE, POLICY_AT_MOST(2, BLK_REQUEST_MAX), POLICY_WITHIN(3, IMAGE_LAST) } },
	{ .name = "fdatasync",
	  .nr = __NR_fdatasync,
	  .reason = "flush requests",
	  .when = POLICY_IF_FLUSH,
	  .tests = { IMAGE } },
	{ .name = "fallocate",
	  .nr = __NR_fallocate,
	  .reason = "discards, and zeroing that may unmap; in no other mode: COLLAPSE_RANGE and"
		    " INSERT_RANGE move data, mode 0 grows the file",
	  .when = POLICY_IF_WRITABLE,
	  .tests = { IMAGE, POLICY_IS(1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
		     POLICY_WITHIN(2, IMAGE_LAST), POLICY_AT_MOST(3, ZERO_MAX_BYTES) } },
	{ .name = "fallocate",
	  .nr = __NR_fallocate,
	  .reason = "zeroing that must not unmap",
	  .when = POLICY_IF_WRITABLE,
	  .tests = { IMAGE, POLICY_IS(1, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE),
		     POLICY_WITHIN(2, IMAGE_LAST), POLICY_AT_MOST(3, ZERO_MAX_BYTES) } },
};

const struct policy policy_blk = POLICY_TABLE(rules);
