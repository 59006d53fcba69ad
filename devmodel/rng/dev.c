/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-entropy (virtio 1.2 section 5.4): fills the driver's buffers from backend 0, an entropy
 * source that the VMM has opened.
 *
 * A source may give less than it was asked for; the driver is then told how much it got.  It must
 * get at least a byte (section 5.4.6.1), and a driver that gets none asks again at once: so a
 * request for which the source gave nothing stays where it is and is tried again, on the timer
 * where there is one, and at the next kick.
 *
 * How the bucket starts is the same as for blk (devmodel/blk/dev.c).
 */
#include <linux/errno.h>

#include "devmodel/abi/kinds.h"
#include "devmodel/common/dev.h"
#include "devmodel/common/rate.h"
#include "devmodel/common/sys.h"
#include "devmodel/rng/state.h"

#define RNG_RETRY_NS 100000000ull

_Static_assert(sizeof(struct rate_bucket) <= DEV_PRIVATE_BYTES, "dev.h");

STATE_SCHEMA(rng_data, RNG_DATA);

static const struct rate_limit *rng_limit(const struct dev *dev)
{
	return &dev->launch->config.rng.bandwidth;
}

static struct rate_bucket *rng_bucket(struct dev *dev)
{
	return (struct rate_bucket *)dev->priv.bytes;
}

static struct rng_data *rng_data(struct dev *dev)
{
	return (struct rng_data *)dev->state[STATE_DATA].bytes;
}

static bool rng_has_timer(const struct dev *dev)
{
	return dev->launch->fd_timer != dev->launch->fd_held;
}

/* Fills up to `want` bytes of the segments; stops where the source does. Returns what was got. */
static uint32_t rng_fill(const struct dev *dev, const struct virtq *q,
			 const struct virtq_chain *chain, uint32_t want)
{
	const struct virtq_segment *seg = chain->seg + chain->readable;
	const uint32_t segments = (uint32_t)chain->segments - chain->readable;
	uint32_t done = 0;

	for (uint32_t i = 0; i < segments && done < want; i++) {
		uint32_t len = seg[i].len < want - done ? seg[i].len : want - done;
		long n;

		if (!len)
			continue;
		dirty_mark(q->log, seg[i].data, len);
		do
			n = sys_read(dev->launch->fd_backend, seg[i].data, len);
		while (n == -EINTR);
		dirty_mark(q->log, seg[i].data, len);
		if (n > 0)
			done += (uint32_t)n;
		if (n != (long)len)
			break;
	}
	return done;
}

/* 0: the request may pass; else the nanoseconds that it must wait. */
static uint64_t rng_wait(struct dev *dev, uint32_t want)
{
	if (!rate_limited(rng_limit(dev)))
		return 0;
	return rate_wait(rng_limit(dev), rng_bucket(dev), want, rate_now());
}

static enum serve_result rng_block(const struct dev *dev, uint64_t ns)
{
	if (rng_has_timer(dev))
		rate_timer_set(dev->launch->fd_timer, ns);
	return SERVE_BLOCKED;
}

static enum serve_result rng_serve(struct dev *dev, struct virtq *q)
{
	struct virtq_chain chain __attribute__((uninitialized)); /* 4 KiB: peek fills what counts */
	uint32_t want, got;
	uint64_t wait;
	int found = virtq_peek(q, &chain);

	if (!found)
		return SERVE_IDLE;
	if (found > 0 && !chain.write_bytes)
		found = virtq_break(q, RING_ERROR_SHORT);
	if (found < 0)
		return SERVE_BROKEN;
	want = chain.write_bytes < RNG_REQUEST_MAX ? (uint32_t)chain.write_bytes : RNG_REQUEST_MAX;
	wait = rng_wait(dev, want);
	if (wait)
		return rng_block(dev, wait);
	got = rng_fill(dev, q, &chain, want);
	if (!got)
		return rng_block(dev, RNG_RETRY_NS);
	rate_take(rng_limit(dev), rng_bucket(dev), got);
	virtq_push(q, chain.head, got);
	return SERVE_DONE;
}

static int rng_init(struct dev *dev)
{
	if (!dev->launch->backends || rate_check(rng_limit(dev)))
		return -EINVAL;
	return rate_limited(rng_limit(dev)) && !rng_has_timer(dev) ? -EINVAL : 0;
}

/* Each field's range is all there is to check: rate_restore() makes any level harmless. */
static int rng_check(const struct dev *dev)
{
	(void)dev;
	return 0;
}

static void rng_activate(struct dev *dev)
{
	const struct rate_limit *limit = rng_limit(dev);
	const struct rng_data *data = rng_data(dev);

	if (!rate_limited(limit))
		return;
	if (data->carried)
		rate_restore(limit, rng_bucket(dev), rate_now(), data->bandwidth_used,
			     data->bandwidth_burst, RNG_REQUEST_MAX);
	else if (dev_first_start(dev))
		rate_fill(limit, rng_bucket(dev), rate_now());
	else
		rate_empty(limit, rng_bucket(dev), rate_now());
}

static void rng_host_event(struct dev *dev, unsigned int j)
{
	if (j == DEV_EVENT_TIMER)
		rate_timer_clear(dev->launch->fd_timer);
}

static void rng_quiesce(struct dev *dev)
{
	*rng_data(dev) = (struct rng_data){
		.bandwidth_used = rng_bucket(dev)->used,
		.bandwidth_burst = rng_bucket(dev)->burst,
		.carried = 1,
	};
}

const struct dev_ops dev_program = {
	.name = "rng",
	.kind = DEV_KIND_RNG,
	.state = { [STATE_DATA] = &rng_data_schema },
	.init = rng_init,
	.check = rng_check,
	.activate = rng_activate,
	.serve = rng_serve,
	.host_event = rng_host_event,
	.quiesce = rng_quiesce,
};
