/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk (virtio 1.2 section 5.2) on one raw image, backend 0.
 *
 * A request is taken apart first, wholly in locals (blk_parse), then judged against the image and
 * the configuration without touching either (blk_judge), then weighed against the rate limits, then
 * carried out, then answered and published.  Nothing is begun that could be half done when the
 * judgement fails, and nothing of a request outlives serve(): a successor runs it again.
 *
 * Data goes between image and guest memory directly, a system call for each run of segments that
 * are adjacent in memory.  The sealed process may use offsets up to the image's last sector only,
 * so every call begins at a sector and moves whole units (a sector, or what O_DIRECT wants if
 * that is more); a request whose segments are cut otherwise goes through a bounce buffer, whole.
 *
 * Rate limits.  A request that must wait is left where it is, with the timer set; serve() peeks it
 * again later.  The buckets start in one of three ways (blk_activate):
 *   a record was carried          as the predecessor left them
 *   every queue starts at index 0 full, with the burst: a first start.  A reset by the driver looks
 *                                 the same; the VMM limits how often that may happen
 *   else                          empty, no burst: a fault must not be a way to tokens
 * (A clean start after exactly 65536 * k requests passes for a first start.)
 */
#include <linux/errno.h>
#include <linux/falloc.h>

#include "devmodel/abi/kinds.h"
#include "devmodel/blk/state.h"
#include "devmodel/common/dev.h"
#include "devmodel/common/mem.h"
#include "devmodel/common/rate.h"
#include "devmodel/common/sys.h"

/* Section 5.2.6. */
enum {
	BLK_T_IN = 0,
	BLK_T_OUT = 1,
	BLK_T_FLUSH = 4,
	BLK_T_GET_ID = 8,
	BLK_T_DISCARD = 11,
	BLK_T_WRITE_ZEROES = 13,
};
enum blk_status { BLK_S_OK, BLK_S_IOERR, BLK_S_UNSUPP };

#define BLK_ZEROES_UNMAP 1u

struct blk_header {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

struct blk_range { /* of discard and write-zeroes */
	uint64_t sector;
	uint32_t sectors;
	uint32_t flags;
};

struct blk_request {
	struct blk_header header;
	struct blk_range range;
	struct virtq_segment *seg; /* data, in the chain */
	uint32_t segments;
	uint64_t bytes;  /* of data */
	uint8_t *status; /* in guest memory */
	const struct dirty_log *log;
};

/* What this generation holds and nobody inherits as it is. */
struct blk_live {
	struct rate_bucket bandwidth;
	struct rate_bucket ops;
};

_Static_assert(sizeof(struct blk_live) <= DEV_PRIVATE_BYTES, "dev.h");
_Static_assert(sizeof(struct blk_header) == 16, "virtio 1.2 section 5.2.6");
_Static_assert(sizeof(struct blk_range) == 16, "virtio 1.2 section 5.2.6");

STATE_SCHEMA(blk_data, BLK_DATA);

/* Pages of .bss are nobody's until touched: the bounce buffer costs memory only where a driver
 * makes it needed, and the zeros, which are only read, never do. */
#define BLK_ALIGN_MAX 4096
#define BLK_BUFFER_BYTES (16u << 10)
static uint8_t bounce[BLK_BUFFER_BYTES] __attribute__((aligned(BLK_ALIGN_MAX)));
static uint8_t zeros[BLK_BUFFER_BYTES] __attribute__((aligned(BLK_ALIGN_MAX)));

static const struct blk_config *blk_config(const struct dev *dev)
{
	return &dev->launch->config.blk;
}

static struct blk_live *blk_live(struct dev *dev)
{
	return (struct blk_live *)dev->priv.bytes;
}

static struct blk_data *blk_data(struct dev *dev)
{
	return (struct blk_data *)dev->state[STATE_DATA].bytes;
}

static int blk_image(const struct dev *dev)
{
	return dev->launch->fd_backend;
}

/* The least that one call moves, and what its offset is a multiple of. */
static uint32_t blk_unit(const struct blk_config *cfg)
{
	return cfg->flags & BLK_DIRECT && cfg->align > BLK_SECTOR ? cfg->align : BLK_SECTOR;
}

static bool blk_limited(const struct blk_config *cfg)
{
	return rate_limited(&cfg->bandwidth) || rate_limited(&cfg->ops);
}

/* Guest memory, by parts. */

/* Takes the first piece off the segments up to `end`, *n bytes, at most len: what is left of them is what
 * comes after.  NULL: nothing is.  *seg goes on from one call to the next. */
static uint8_t *segments_next(struct virtq_segment **seg, const struct virtq_segment *end,
			      uint32_t len, uint32_t *n)
{
	for (; *seg < end && len; (*seg)++) {
		struct virtq_segment *s = *seg;
		uint8_t *data = s->data;

		if (!s->len)
			continue;
		*n = s->len < len ? s->len : len;
		s->data += *n;
		s->len -= *n;
		return data;
	}
	return NULL;
}

/* Copies up to len bytes from the front of segments to buf, and takes them off these.  Returns the
 * bytes copied. */
static uint32_t segments_take(struct virtq_segment *seg, uint32_t segments, void *buf, uint32_t len)
{
	const struct virtq_segment *end = seg + segments;
	const uint8_t *data;
	uint32_t done, n;

	for (done = 0; (data = segments_next(&seg, end, len - done, &n)) != NULL; done += n)
		memcpy((uint8_t *)buf + done, data, n);
	return done;
}

/* The same from buf to a request's data. */
static uint32_t data_give(const struct blk_request *req, const uint8_t *buf, uint32_t len)
{
	struct virtq_segment *seg = req->seg;
	const struct virtq_segment *end = seg + req->segments;
	uint32_t done, n;
	uint8_t *data;

	for (done = 0; (data = segments_next(&seg, end, len - done, &n)) != NULL; done += n) {
		dirty_mark(req->log, data, n);
		memcpy(data, buf + done, n);
		dirty_mark(req->log, data, n);
	}
	return done;
}

/* Takes the last byte off segments that have one. */
static uint8_t *segments_last(struct virtq_segment *seg, uint32_t segments)
{
	while (!seg[segments - 1].len)
		segments--;
	seg += segments - 1;
	seg->len--;
	return seg->data + seg->len;
}

/* Joins what is adjacent in memory and drops what is empty.  The caller knows that the sum of all
 * lengths fits.  Returns how many are left. */
static uint32_t segments_merge(struct virtq_segment *seg, uint32_t segments)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < segments; i++) {
		if (!seg[i].len)
			continue;
		if (n && seg[n - 1].data + seg[n - 1].len == seg[i].data)
			seg[n - 1].len += seg[i].len;
		else
			seg[n++] = seg[i];
	}
	return n;
}

static bool segments_aligned(const struct virtq_segment *seg, uint32_t segments, uint32_t align,
			     uint32_t unit)
{
	for (uint32_t i = 0; i < segments; i++) {
		if ((uintptr_t)seg[i].data % align || seg[i].len % unit)
			return false;
	}
	return true;
}

/* The image. */

/* One run of memory.  The bytes moved: all of them, or what went well before the failure. */
static uint32_t image_io(const struct dev *dev, bool write, uint8_t *buf, uint32_t len,
			 uint64_t off)
{
	uint32_t unit = blk_unit(blk_config(dev));
	uint32_t done = 0;

	while (done < len) {
		uint32_t left = len - done;
		long n = write ? sys_pwrite(blk_image(dev), buf + done, left, off + done)
			       : sys_pread(blk_image(dev), buf + done, left, off + done);

		if (n == (long)left)
			return len;
		if (n == -EINTR)
			continue;
		/* A short count goes on at a unit; less than one, or the end of the file, is
		 * failure. */
		if (n < (long)unit)
			break;
		done += (uint32_t)n / unit * unit;
	}
	return done;
}

static uint32_t image_direct(const struct dev *dev, const struct blk_request *req, bool write)
{
	const struct dirty_log *log = write ? NULL : req->log;
	uint64_t off = req->header.sector * BLK_SECTOR;
	uint32_t done = 0;

	for (uint32_t i = 0; i < req->segments; i++) {
		uint32_t n;

		dirty_mark(log, req->seg[i].data, req->seg[i].len);
		n = image_io(dev, write, req->seg[i].data, req->seg[i].len, off + done);
		dirty_mark(log, req->seg[i].data, req->seg[i].len);
		done += n;
		if (n != req->seg[i].len)
			break;
	}
	return done;
}

static uint32_t image_bounced(const struct dev *dev, const struct blk_request *req, bool write)
{
	uint64_t off = req->header.sector * BLK_SECTOR;
	uint32_t len = (uint32_t)req->bytes;
	uint32_t done = 0;

	while (done < len) {
		uint32_t part = len - done < BLK_BUFFER_BYTES ? len - done : BLK_BUFFER_BYTES;
		uint32_t n;

		if (write)
			segments_take(req->seg, req->segments, bounce, part);
		n = image_io(dev, write, bounce, part, off + done);
		if (!write)
			data_give(req, bounce, n);
		done += n;
		if (n != part)
			break;
	}
	return done;
}

static enum blk_status image_transfer(const struct dev *dev, struct blk_request *req, bool write,
				      uint32_t *done)
{
	const struct blk_config *cfg = blk_config(dev);
	uint32_t align = cfg->flags & BLK_DIRECT ? cfg->align : 1;

	req->segments = segments_merge(req->seg, req->segments);
	if (segments_aligned(req->seg, req->segments, align, blk_unit(cfg)))
		*done = image_direct(dev, req, write);
	else
		*done = image_bounced(dev, req, write);
	return *done == req->bytes ? BLK_S_OK : BLK_S_IOERR;
}

static long image_fallocate(const struct dev *dev, int mode, const struct blk_range *range)
{
	long ret;

	do
		ret = sys_fallocate(blk_image(dev), mode | FALLOC_FL_KEEP_SIZE,
				    range->sector * BLK_SECTOR,
				    (uint64_t)range->sectors * BLK_SECTOR);
	while (ret == -EINTR);
	return ret;
}

static enum blk_status image_discard(const struct dev *dev, const struct blk_range *range)
{
	long ret = image_fallocate(dev, FALLOC_FL_PUNCH_HOLE, range);

	if (ret == -EOPNOTSUPP)
		return BLK_S_UNSUPP;
	return ret ? BLK_S_IOERR : BLK_S_OK;
}

static enum blk_status image_zero(const struct dev *dev, const struct blk_range *range)
{
	bool unmap = range->flags & BLK_ZEROES_UNMAP;
	long ret = image_fallocate(dev, unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE, range);
	uint32_t len = range->sectors * BLK_SECTOR;
	uint32_t done = 0;

	if (ret != -EOPNOTSUPP)
		return ret ? BLK_S_IOERR : BLK_S_OK;
	while (done < len) {
		uint32_t part = len - done < BLK_BUFFER_BYTES ? len - done : BLK_BUFFER_BYTES;

		if (image_io(dev, true, zeros, part, range->sector * BLK_SECTOR + done) != part)
			return BLK_S_IOERR;
		done += part;
	}
	return BLK_S_OK;
}

/* The request. */

static bool blk_has_range(const struct blk_request *req)
{
	return req->header.type == BLK_T_DISCARD || req->header.type == BLK_T_WRITE_ZEROES;
}

/* Takes the chain apart: header, status byte, data.  The header may be cut anywhere; the status is
 * the last writable byte.  -EINVAL: too short for either, q->error is set. */
static int blk_parse(struct virtq *q, struct virtq_chain *chain, struct blk_request *req)
{
	struct virtq_segment *writable = chain->seg + chain->readable;
	uint32_t writables = (uint32_t)chain->segments - chain->readable;

	if (chain->read_bytes < sizeof(req->header) || !chain->write_bytes)
		return virtq_break(q, RING_ERROR_SHORT);
	req->log = q->log;
	segments_take(chain->seg, chain->readable, &req->header, sizeof(req->header));
	req->status = segments_last(writable, writables);
	if (req->header.type == BLK_T_IN || req->header.type == BLK_T_GET_ID) {
		req->seg = writable;
		req->segments = writables;
		req->bytes = chain->write_bytes - 1;
	} else {
		req->seg = chain->seg;
		req->segments = chain->readable;
		req->bytes = chain->read_bytes - sizeof(req->header);
	}
	if (blk_has_range(req))
		segments_take(req->seg, req->segments, &req->range, sizeof(req->range));
	return 0;
}

static enum blk_status judge_span(const struct blk_config *cfg, uint64_t sector, uint64_t sectors)
{
	uint64_t all = cfg->bytes / BLK_SECTOR;

	return sector <= all && sectors <= all - sector ? BLK_S_OK : BLK_S_IOERR;
}

static enum blk_status judge_range(const struct blk_config *cfg, const struct blk_request *req)
{
	uint32_t known = req->header.type == BLK_T_WRITE_ZEROES ? BLK_ZEROES_UNMAP : 0;

	/* One segment is all that the configuration space offers. */
	if (req->bytes != sizeof(req->range) || (req->range.flags & ~known))
		return BLK_S_UNSUPP;
	if (req->range.sectors > BLK_ZERO_MAX_SECTORS)
		return BLK_S_IOERR;
	return judge_span(cfg, req->range.sector, req->range.sectors);
}

/* Whether a request may be begun; pure.  Any status but OK is the answer. */
static enum blk_status blk_judge(const struct blk_config *cfg, const struct blk_request *req)
{
	bool writes = req->header.type == BLK_T_OUT || blk_has_range(req);

	if (writes && cfg->flags & BLK_READONLY)
		return BLK_S_IOERR;
	switch (req->header.type) {
	case BLK_T_IN:
	case BLK_T_OUT:
		if (req->bytes > BLK_REQUEST_MAX || req->bytes % BLK_SECTOR)
			return BLK_S_IOERR;
		return judge_span(cfg, req->header.sector, req->bytes / BLK_SECTOR);
	case BLK_T_FLUSH:
		return cfg->flags & BLK_FLUSH ? BLK_S_OK : BLK_S_UNSUPP;
	case BLK_T_GET_ID:
		return BLK_S_OK;
	case BLK_T_DISCARD:
	case BLK_T_WRITE_ZEROES:
		return judge_range(cfg, req);
	default:
		return BLK_S_UNSUPP;
	}
}

static enum blk_status blk_flush(const struct dev *dev)
{
	long ret;

	do
		ret = sys_fdatasync(blk_image(dev));
	while (ret == -EINTR);
	return ret ? BLK_S_IOERR : BLK_S_OK;
}

/* Carries out what was judged OK.  *done: bytes written to guest memory. */
static enum blk_status blk_carry_out(const struct dev *dev, struct blk_request *req, uint32_t *done)
{
	uint8_t id[BLK_ID_BYTES];
	uint32_t ignored;

	switch (req->header.type) {
	case BLK_T_IN:
		return image_transfer(dev, req, false, done);
	case BLK_T_OUT:
		return image_transfer(dev, req, true, &ignored);
	case BLK_T_FLUSH:
		return blk_flush(dev);
	case BLK_T_GET_ID:
		memcpy(id, blk_config(dev)->id, sizeof(id));
		*done = data_give(req, id, sizeof(id));
		return BLK_S_OK;
	default: /* fallocate of nothing is EINVAL, and nothing is what was asked for */
		if (!req->range.sectors)
			return BLK_S_OK;
		return req->header.type == BLK_T_DISCARD ? image_discard(dev, &req->range)
							 : image_zero(dev, &req->range);
	}
}

/* What a request weighs in bytes.  Zeroing may turn out to be writing; a discard never does. */
static uint64_t blk_weight(const struct blk_request *req)
{
	switch (req->header.type) {
	case BLK_T_IN:
	case BLK_T_OUT:
		return req->bytes;
	case BLK_T_WRITE_ZEROES:
		return (uint64_t)req->range.sectors * BLK_SECTOR;
	default:
		return 0;
	}
}

/* True: the request has its tokens.  False: it must wait, the timer is set. */
static bool blk_admit(struct dev *dev, uint64_t bytes)
{
	const struct blk_config *cfg = blk_config(dev);
	struct blk_live *live = blk_live(dev);
	uint64_t now, wait, wait_ops;

	if (!blk_limited(cfg))
		return true;
	now = rate_now();
	wait = rate_wait(&cfg->bandwidth, &live->bandwidth, bytes, now);
	wait_ops = rate_wait(&cfg->ops, &live->ops, 1, now);
	wait = wait > wait_ops ? wait : wait_ops;
	if (wait) {
		rate_timer_set(dev->launch->fd_timer, wait);
		return false;
	}
	rate_take(&cfg->bandwidth, &live->bandwidth, bytes);
	rate_take(&cfg->ops, &live->ops, 1);
	return true;
}

static enum serve_result blk_answer(struct virtq *q, uint16_t head, const struct blk_request *req,
				    enum blk_status status, uint32_t done)
{
	dirty_mark(req->log, req->status, 1);
	*req->status = (uint8_t)status;
	dirty_mark(req->log, req->status, 1);
	virtq_push(q, head, done + 1);
	return SERVE_DONE;
}

static enum serve_result blk_serve(struct dev *dev, struct virtq *q)
{
	struct virtq_chain chain __attribute__((uninitialized)); /* 4 KiB: peek fills what counts */
	struct blk_request req = { 0 };
	enum blk_status status;
	uint32_t done = 0;
	int got = virtq_peek(q, &chain);

	if (!got)
		return SERVE_IDLE;
	if (got < 0 || blk_parse(q, &chain, &req))
		return SERVE_BROKEN;
	status = blk_judge(blk_config(dev), &req);
	/* A request that is refused costs no bytes, but one operation. */
	if (!blk_admit(dev, status == BLK_S_OK ? blk_weight(&req) : 0))
		return SERVE_BLOCKED;
	if (status == BLK_S_OK)
		status = blk_carry_out(dev, &req, &done);
	return blk_answer(q, chain.head, &req, status, done);
}

static enum serve_result blk_refuse(struct dev *dev, struct virtq *q)
{
	struct virtq_chain chain __attribute__((uninitialized));
	struct blk_request req = { 0 };
	const int got = virtq_peek(q, &chain);

	(void)dev;
	if (!got)
		return SERVE_IDLE;
	if (got < 0 || blk_parse(q, &chain, &req))
		return SERVE_BROKEN;
	return blk_answer(q, chain.head, &req, BLK_S_IOERR, 0);
}

/* Life. */

static int blk_init(struct dev *dev)
{
	const struct blk_config *cfg = blk_config(dev);
	const struct launch_record *launch = dev->launch;

	if (!launch->backends || !cfg->bytes || cfg->bytes % BLK_SECTOR)
		return -EINVAL;
	if (cfg->flags & BLK_DIRECT &&
	    (!cfg->align || cfg->align > BLK_ALIGN_MAX || (cfg->align & (cfg->align - 1))))
		return -EINVAL;
	if (rate_check(&cfg->bandwidth) || rate_check(&cfg->ops))
		return -EINVAL;
	return blk_limited(cfg) && launch->fd_timer == launch->fd_held ? -EINVAL : 0;
}

/* Each field's range is all there is to check: rate_restore() makes any level harmless. */
static int blk_check(const struct dev *dev)
{
	(void)dev;
	return 0;
}

static void blk_activate(struct dev *dev)
{
	const struct blk_config *cfg = blk_config(dev);
	const struct blk_data *data = blk_data(dev);
	struct blk_live *live = blk_live(dev);
	uint64_t now;

	if (!blk_limited(cfg))
		return;
	now = rate_now();
	if (data->carried) {
		rate_restore(&cfg->bandwidth, &live->bandwidth, now, data->bandwidth_used,
			     data->bandwidth_burst, BLK_REQUEST_MAX);
		rate_restore(&cfg->ops, &live->ops, now, data->ops_used, data->ops_burst, 1);
	} else if (dev_first_start(dev)) {
		rate_fill(&cfg->bandwidth, &live->bandwidth, now);
		rate_fill(&cfg->ops, &live->ops, now);
	} else {
		rate_empty(&cfg->bandwidth, &live->bandwidth, now);
		rate_empty(&cfg->ops, &live->ops, now);
	}
}

static void blk_host_event(struct dev *dev, unsigned int j)
{
	if (j == DEV_EVENT_TIMER)
		rate_timer_clear(dev->launch->fd_timer);
}

static void blk_quiesce(struct dev *dev)
{
	const struct blk_live *live = blk_live(dev);

	*blk_data(dev) = (struct blk_data){
		.bandwidth_used = live->bandwidth.used,
		.bandwidth_burst = live->bandwidth.burst,
		.ops_used = live->ops.used,
		.ops_burst = live->ops.burst,
		.carried = 1,
	};
}

const struct dev_ops dev_program = {
	.name = "blk",
	.kind = DEV_KIND_BLK,
	.state = { [STATE_DATA] = &blk_data_schema },
	.init = blk_init,
	.check = blk_check,
	.activate = blk_activate,
	.serve = blk_serve,
	.refuse = blk_refuse,
	.host_event = blk_host_event,
	.quiesce = blk_quiesce,
};
