/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon (virtio 1.2 section 5.5).  Pages that the driver gives away (inflate) or says that it
 * does not use just now (reporting) are told to the VMM, page ranges at a time, which gives them back to
 * the host.  This program only finds out which they are: the VMM does not read rings.
 *
 * A request is published when the VMM has answered that all its pages are released, and not before:
 * the driver may use a reported page again at once, and a release that came then would take what it
 * has written.  Run again by a successor it is harmless, as long as it was not published: nobody has
 * written to these pages meanwhile.
 *
 * What cannot be a page of the guest's memory is passed over; the guest loses nothing but the use of it.
 *
 * Of guest memory this program writes nothing but used rings, which virtq.c marks in the dirty log.  Released
 * pages are not marked, though they read as zeros from then on: their content is nobody's.
 *
 * Statistics (5.5.6.3): the driver's one buffer is read when it comes and held; POLL gives it back, the
 * driver fills it anew.  It is not published while it is held, so a successor finds it again.
 */
#include <linux/errno.h>

#include "devmodel/abi/kinds.h"
#include "devmodel/balloon/state.h"
#include "devmodel/common/dev.h"

enum role { ROLE_INFLATE, ROLE_DEFLATE, ROLE_STATS, ROLE_REPORTING, ROLE_NONE };

/* Pages one after the other in one region. */
struct span {
	uint64_t gpa;
	uint64_t bytes; /* 0: none */
	uint32_t region;
};

struct balloon {
	uint32_t unsynced; /* RELEASEs that no ANSWER covers */
	struct span span;  /* not told yet */
	uint16_t held;     /* head of the statistics buffer .. */
	bool holds;        /* .. if there is one .. */
	bool give_back;    /* .. which was asked for */
};

_Static_assert(sizeof(struct balloon) <= DEV_PRIVATE_BYTES, "dev.h");

/* What a statistics buffer is made of. */
#define STAT_TAG_BYTES 2u
#define STAT_VALUE_BYTES 8u

static struct balloon *balloon(struct dev *dev)
{
	return (struct balloon *)dev->priv.bytes;
}

/* Section 5.5.2: queues beyond the second are numbered by the features that were negotiated. */
static enum role balloon_role(const struct dev *dev, const struct virtq *q)
{
	const bool stats = dev->features >> VIRTIO_BALLOON_F_STATS_VQ & 1;
	const bool reporting = dev->features >> VIRTIO_BALLOON_F_REPORTING & 1;

	if (q->number < 2)
		return q->number == 0 ? ROLE_INFLATE : ROLE_DEFLATE;
	if (stats && q->number == 2)
		return ROLE_STATS;
	return reporting && q->number == (stats ? 3 : 2) ? ROLE_REPORTING : ROLE_NONE;
}

/* ---- releasing ---- */

static int balloon_sync(struct dev *dev)
{
	struct balloon *b = balloon(dev);

	if (b->unsynced == 0)
		return 0;
	b->unsynced = 0;
	return dev_sync(dev);
}

/* What one RELEASE may say: the VMM is held up by it. */
static uint64_t balloon_piece(const struct dev *dev, const struct span *s)
{
	const uint64_t page = dev->launch->region_page[s->region];
	const uint64_t most = (uint64_t)RELEASE_PAGES_MAX * RELEASE_PAGE;
	const uint64_t step = page > most ? page : most;
	const uint64_t left = step - s->gpa % step;

	return left < s->bytes ? left : s->bytes;
}

/* Tells of the span and forgets it. */
static int balloon_flush(struct dev *dev)
{
	struct balloon *b = balloon(dev);
	struct span *s = &b->span;
	int ret = 0;

	while (s->bytes != 0 && ret == 0) {
		const uint64_t bytes = balloon_piece(dev, s);

		ret = dev_report(dev, REPORT_RELEASE, (uint32_t)(bytes / RELEASE_PAGE), s->gpa);
		if (ret == 0 && ++b->unsynced == RELEASES_PER_SYNC)
			ret = balloon_sync(dev);
		s->gpa += bytes;
		s->bytes -= bytes;
	}
	s->bytes = 0;
	return ret;
}

/* The driver gives pages one by one, and mostly up or down in a row. */
static int balloon_add(struct dev *dev, const struct span *more)
{
	struct span *s = &balloon(dev)->span;
	const bool same = s->bytes != 0 && s->region == more->region;
	int ret = 0;

	if (same && more->gpa == s->gpa + s->bytes) {
		s->bytes += more->bytes;
	} else if (same && more->gpa + more->bytes == s->gpa) {
		s->gpa = more->gpa;
		s->bytes += more->bytes;
	} else {
		ret = balloon_flush(dev);
		*s = *more;
	}
	return ret;
}

/* ---- inflate ---- */

/* Bytes of the device-readable part, one after the other, each read once. */
struct reader {
	const struct virtq_chain *chain;
	uint32_t seg;
	uint32_t at;
};

static bool reader_byte(struct reader *r, uint8_t *byte)
{
	while (r->seg < r->chain->readable && r->at == r->chain->seg[r->seg].len) {
		r->seg++;
		r->at = 0;
	}
	if (r->seg == r->chain->readable)
		return false;
	*byte = *(const volatile uint8_t *)&r->chain->seg[r->seg].data[r->at++];
	return true;
}

/* Little-endian.  False: there are not so many bytes. */
static bool reader_take(struct reader *r, unsigned int bytes, uint64_t *value)
{
	uint8_t byte;

	*value = 0;
	for (unsigned int i = 0; i < bytes; i++) {
		if (!reader_byte(r, &byte))
			return false;
		*value |= (uint64_t)byte << (8 * i);
	}
	return true;
}

/* False: no page of guest memory. */
static bool balloon_page(const struct dev *dev, uint64_t pfn, struct span *page)
{
	const struct mem_map *map = &dev->launch->map;
	const uint64_t gpa = pfn * RELEASE_PAGE;

	for (uint32_t i = 0; i < map->count; i++) {
		const struct mem_region *r = &map->regions[i];

		if (gpa >= r->gpa && gpa - r->gpa < r->bytes &&
		    r->bytes - (gpa - r->gpa) >= RELEASE_PAGE) {
			*page = (struct span){ gpa, RELEASE_PAGE, i };
			return true;
		}
	}
	return false;
}

static int balloon_take_pfns(struct dev *dev, const struct virtq_chain *chain)
{
	struct reader reader = { .chain = chain };
	struct span page;
	uint64_t pfn;
	int ret = 0;

	for (uint32_t i = 0; i < BALLOON_PFNS_MAX && ret == 0; i++) {
		if (!reader_take(&reader, 4, &pfn))
			break;
		if (balloon_page(dev, pfn, &page))
			ret = balloon_add(dev, &page);
	}
	return ret;
}

/* ---- reporting ---- */

/* The whole pages of a segment, of which it is known that it lies within one region. */
static struct span balloon_segment(const struct dev *dev, const struct virtq_segment *seg)
{
	const struct mem_map *map = &dev->launch->map;
	const uint64_t addr = (uintptr_t)seg->data;

	for (uint32_t i = 0; i < map->count && seg->len != 0; i++) {
		const struct mem_region *r = &map->regions[i];

		/* One comparison, also for what lies below: which way it goes does not depend on where
		 * the regions were put. */
		if (addr - r->addr >= r->bytes)
			continue;
		const uint64_t gpa = r->gpa + (addr - r->addr);
		const uint64_t first = (gpa + RELEASE_PAGE - 1) / RELEASE_PAGE * RELEASE_PAGE;
		const uint64_t end = (gpa + seg->len) / RELEASE_PAGE * RELEASE_PAGE;

		return (struct span){ first, end > first ? end - first : 0, i };
	}
	return (struct span){ 0 };
}

static int balloon_take_segments(struct dev *dev, const struct virtq_chain *chain)
{
	uint64_t left = BALLOON_REPORT_MAX;
	int ret = 0;

	for (uint32_t i = chain->readable; i < chain->segments && ret == 0; i++) {
		struct span s = balloon_segment(dev, &chain->seg[i]);

		if (s.bytes > left)
			s.bytes = left;
		left -= s.bytes;
		if (s.bytes != 0)
			ret = balloon_add(dev, &s);
	}
	return ret;
}

/* ---- statistics ---- */

static int balloon_take_stats(struct dev *dev, const struct virtq_chain *chain)
{
	struct reader reader = { .chain = chain };
	uint64_t tag, value;
	int ret = 0;

	for (uint32_t i = 0; i < STATS_PER_POLL && ret == 0; i++) {
		if (!reader_take(&reader, STAT_TAG_BYTES, &tag) ||
		    !reader_take(&reader, STAT_VALUE_BYTES, &value))
			break;
		if (tag < BALLOON_STAT_COUNT)
			ret = dev_report(dev, REPORT_STAT, (uint32_t)tag, value);
	}
	return ret;
}

static enum serve_result balloon_stats(struct dev *dev, struct virtq *q)
{
	struct virtq_chain chain __attribute__((uninitialized));
	struct balloon *b = balloon(dev);

	if (!b->holds) {
		const int found = virtq_peek(q, &chain);

		if (found <= 0)
			return found == 0 ? SERVE_IDLE : SERVE_BROKEN;
		if (balloon_take_stats(dev, &chain) != 0)
			return SERVE_ENDED;
		b->held = chain.head;
		b->holds = true;
	}
	if (!b->give_back)
		return SERVE_BLOCKED;
	b->holds = b->give_back = false;
	virtq_push(q, b->held, 0);
	return SERVE_DONE;
}

static void balloon_poll(struct dev *dev)
{
	balloon(dev)->give_back = balloon(dev)->holds;
}

/* ---- hooks ---- */

/* 0, or -errno: this generation ends. */
static int balloon_take(struct dev *dev, enum role role, const struct virtq_chain *chain)
{
	int ret = 0;

	if (role == ROLE_INFLATE)
		ret = balloon_take_pfns(dev, chain);
	else if (role == ROLE_REPORTING)
		ret = balloon_take_segments(dev, chain);
	if (ret == 0)
		ret = balloon_flush(dev);
	return ret == 0 ? balloon_sync(dev) : ret;
}

static enum serve_result balloon_serve(struct dev *dev, struct virtq *q)
{
	struct virtq_chain chain __attribute__((uninitialized)); /* 4 KiB: peek fills what counts */
	const enum role role = balloon_role(dev, q);

	if (role == ROLE_STATS)
		return balloon_stats(dev, q);
	if (role == ROLE_NONE)
		return SERVE_IDLE;
	const int found = virtq_peek(q, &chain);

	if (found <= 0)
		return found == 0 ? SERVE_IDLE : SERVE_BROKEN;
	if (balloon_take(dev, role, &chain) != 0)
		return SERVE_ENDED;
	virtq_push(q, chain.head, 0);
	return SERVE_DONE;
}

/* There is no error to answer with: the pages are not released, and the driver need not know. */
static enum serve_result balloon_refuse(struct dev *dev, struct virtq *q)
{
	struct virtq_chain chain __attribute__((uninitialized));
	const enum role role = balloon_role(dev, q);

	if (role == ROLE_STATS || role == ROLE_NONE)
		return SERVE_BLOCKED;
	const int found = virtq_peek(q, &chain);

	if (found <= 0)
		return found == 0 ? SERVE_IDLE : SERVE_BROKEN;
	virtq_push(q, chain.head, 0);
	return SERVE_DONE;
}

static int balloon_init(struct dev *dev)
{
	return dev->launch->queues >= 2 ? 0 : -EINVAL;
}

static int balloon_check(const struct dev *dev)
{
	(void)dev; /* nothing is carried */
	return 0;
}

const struct dev_ops dev_program = {
	.name = "balloon",
	.kind = DEV_KIND_BALLOON,
	.init = balloon_init,
	.check = balloon_check,
	.serve = balloon_serve,
	.refuse = balloon_refuse,
	.poll = balloon_poll,
};
