/* SPDX-License-Identifier: Apache-2.0 */
#include "hotplug/balloon.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "core/cc.h"
#include "core/log.h"
#include "devmodel/abi/message.h"
#include "hotplug/release.h"

_Static_assert(BALLOON_STAT_COUNT <= 32, "a bit each");
_Static_assert(BALLOON_STAT_COUNT <= STATS_PER_POLL, "a buffer has room for all");

const char *balloon_stat_name(uint32_t tag)
{
	static const char *const names[] = {
#define NUMBER_NAME(tag, name) [tag] = #name,
		BALLOON_NUMBERS(NUMBER_NAME)
#undef NUMBER_NAME
	};

	return names[tag];
}

void balloon_init(struct balloon *b)
{
	memset(b, 0, sizeof(*b));
	pthread_mutex_init(&b->lock, NULL);
}

void balloon_fini(struct balloon *b)
{
	pthread_mutex_destroy(&b->lock);
}

int balloon_release(struct balloon *b, const struct box_memory *memory, uint64_t gpa,
		    uint32_t pages)
{
	struct release_hole hole;
	int64_t released;
	const int ret = release_find(memory, gpa, pages, &hole);

	if (ret != 0)
		return ret;
	released = release_punch(&hole);
	if (released < 0 && !b->complained) {
		b->complained = true;
		log_warn("balloon: the host does not take guest memory back: %s",
			 strerror((int)-released));
	}
	released = released < 0 ? 0 : released;
	pthread_mutex_lock(&b->lock);
	b->figures.released_bytes += (uint64_t)released;
	b->figures.kept_bytes += (uint64_t)pages * RELEASE_PAGE - (uint64_t)released;
	pthread_mutex_unlock(&b->lock);
	return 0;
}

int balloon_stat(struct balloon *b, uint32_t tag, uint64_t value)
{
	if (tag >= BALLOON_STAT_COUNT)
		return -EPROTO;
	pthread_mutex_lock(&b->lock);
	b->figures.known |= 1u << tag;
	b->figures.number[tag] = value;
	pthread_mutex_unlock(&b->lock);
	return 0;
}

void balloon_forget(struct balloon *b)
{
	pthread_mutex_lock(&b->lock);
	b->figures.known = 0;
	pthread_mutex_unlock(&b->lock);
}

void balloon_figures(struct balloon *b, struct balloon_figures *figures)
{
	pthread_mutex_lock(&b->lock);
	*figures = b->figures;
	pthread_mutex_unlock(&b->lock);
}

/* ---- asking ---- */

static void poll_arm(struct balloon *b)
{
	if (b->every_s != 0)
		loop_arm(b->loop, &b->timer, now_ns() + b->every_s * NS_PER_S);
}

static void poll_fire(struct loop_timer *timer)
{
	struct balloon *b = container_of(timer, struct balloon, timer);

	device_poll(b->dev);
	poll_arm(b);
}

void balloon_poll_start(struct balloon *b, struct loop *loop, struct device *dev, uint32_t every_s)
{
	b->loop = loop;
	b->dev = dev;
	b->timer = (struct loop_timer){ .fire = poll_fire };
	b->every_s = every_s;
	poll_arm(b);
}

void balloon_poll_every(struct balloon *b, uint32_t every_s)
{
	if (b->loop == NULL)
		return; /* the loop begins with what is configured then */
	b->every_s = every_s;
	loop_disarm(b->loop, &b->timer);
	poll_arm(b);
}

void balloon_poll_stop(struct balloon *b)
{
	if (b->loop != NULL)
		loop_disarm(b->loop, &b->timer);
}
