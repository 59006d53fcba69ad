/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every kind may do: hear the VMM and answer it, wait, take kicks, signal the driver, exit.
 *
 * Buffers are pointers into the box's own memory, which no filter can follow: what they may do
 * there is bounded by the mapping and by the lengths below.  The kernel checks the direction of
 * each descriptor itself where it can; where both are possible (an eventfd), the rule does.
 */
#include "devmodel/common/policies.h"

#include <asm/unistd.h>
#include <stddef.h>
#include <time.h>

#include "devmodel/abi/message.h"

static const struct policy_rule rules[] = {
	{ .name = "read",
	  .nr = __NR_read,
	  .reason = "control messages; the only thing a standby or parked box ever does",
	  .tests = { POLICY_IS_FD(CONTROL), POLICY_AT_MOST(2, CTL_BYTES_MAX) } },
	{ .name = "write",
	  .nr = __NR_write,
	  .reason = "reports: always one struct box_report, so a flood is counted by the message",
	  .tests = { POLICY_IS_FD(CONTROL), POLICY_IS(2, sizeof(struct box_report)) } },
	{ .name = "read",
	  .nr = __NR_read,
	  .reason = "takes a kick; never writes one, or it could wake its successor",
	  .tests = { POLICY_IS_FD(KICK), POLICY_IS(2, sizeof(uint64_t)) } },
	{ .name = "write",
	  .nr = __NR_write,
	  .reason = "signals the driver; never reads, or it could take signals back",
	  .tests = { POLICY_IS_FD(CALL), POLICY_IS(2, sizeof(uint64_t)) } },
	{ .name = "ppoll",
	  .nr = __NR_ppoll,
	  .reason = "the main loop's wait; no time-out, or a stop would end in restart_syscall; no"
		    " mask, so the size of one does not matter",
	  .tests = { POLICY_IS_THE(1, POLL_COUNT), POLICY_IS(2, 0), POLICY_IS(3, 0) } },
	{ .name = "clock_gettime",
	  .nr = __NR_clock_gettime,
	  .reason = "rate limits; one clock, which tells nothing of the wall",
	  .when = POLICY_IF_TIMER,
	  .tests = { POLICY_IS(0, CLOCK_MONOTONIC) } },
	{ .name = "timerfd_settime",
	  .nr = __NR_timerfd_settime,
	  .reason = "wakes the main loop when tokens are there; relative, old value not asked for",
	  .when = POLICY_IF_TIMER,
	  .tests = { POLICY_IS_FD(TIMER), POLICY_IS(1, 0), POLICY_IS(3, 0) } },
	{ .name = "read",
	  .nr = __NR_read,
	  .reason = "takes note that the timer fired",
	  .when = POLICY_IF_TIMER,
	  .tests = { POLICY_IS_FD(TIMER), POLICY_IS(2, sizeof(uint64_t)) } },
	{ .name = "close",
	  .nr = __NR_close,
	  .reason = "the last step of the seal: the listener; after it the number is nobody's",
	  .tests = { POLICY_IS_FD(LISTENER) } },
	{ .name = "exit_group",
	  .nr = __NR_exit_group,
	  .reason = "to end is always allowed, and its code is believed by nobody" },
};

const struct policy policy_common = POLICY_TABLE(rules);

const struct policy *policy_of(uint32_t kind)
{
	static const struct policy *const policies[DEV_KIND_COUNT] = {
		[DEV_KIND_BLK] = &policy_blk,         [DEV_KIND_RNG] = &policy_rng,
		[DEV_KIND_CONSOLE] = &policy_console, [DEV_KIND_SERIAL] = &policy_serial,
		[DEV_KIND_MEM] = &policy_mem,         [DEV_KIND_BALLOON] = &policy_balloon,
	};

	return kind < DEV_KIND_COUNT ? policies[kind] : NULL;
}
