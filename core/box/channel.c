/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket.  A report is 16 bytes, exactly; more, fewer or too often is suspicion.  No
 * control-message buffer is offered, so a descriptor sent by a sandbox is dropped by the kernel.
 */
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

#include "core/box/internal.h"
#include "core/cc.h"

#define REPORTS_PER_SECOND 64 /* without errands, of which errand.c bounds number and cost */

/* ECONNRESET, once: it ended with a message of ours unread.  What it said before is there, and must be
 * heard now: its end is the next that this thread will be told. */
static ssize_t receive(const struct box *box, struct box_report *report)
{
	const int flags = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_TRUNC;
	const ssize_t n = recv(box->control, report, sizeof(*report), flags);

	return n < 0 && errno == ECONNRESET ? recv(box->control, report, sizeof(*report), flags)
					    : n;
}

int channel_receive(struct box *box, struct box_report *report)
{
	const ssize_t n = receive(box, report);
	const uint64_t now = now_ns();

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
	/* 0 is the end of the stream, or an empty message, which the policy forbids: either way
	 * nothing more is to be had here, and the pidfd tells of a death. */
	if (n == 0)
		return -EPIPE;
	if (n >= (ssize_t)sizeof(*report)) /* of fewer bytes the rest is not its */
		autopsy_note(&box->messages,
			     &(struct autopsy_message){ now, false, report->type, report->value,
							report->detail });
	if (n != sizeof(*report) || !report_is_known(report->type))
		return -EPROTO;
	if (errand_is(report->type))
		return 1;
	if (now - box->reports_since > NS_PER_S) {
		box->reports_since = now;
		box->reports = 0;
	}
	return ++box->reports <= REPORTS_PER_SECOND ? 1 : -EPROTO;
}

int channel_send(struct box *box, const void *message, size_t bytes)
{
	const struct ctl_header *header = message;
	const struct autopsy_message said = { now_ns(), true, header->type, header->value, 0 };
	const ssize_t n = send(box->control, message, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);

	/* Without its other end: a box that is dying, of which listener and pidfd tell why in a moment.
	 * One that only closed it answers nothing any more, and meets a deadline. */
	if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
		return 0;
	if (n != (ssize_t)bytes)
		return -EPROTO;
	autopsy_note(&box->messages, &said);
	/* After the message: a box that sees the bell must find it. */
	if (box->page != NULL)
		__atomic_fetch_add(&box->page->bell, 1, __ATOMIC_RELEASE);
	return 0;
}
