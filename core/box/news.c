/* SPDX-License-Identifier: Apache-2.0 */
#include "core/box/news.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/cc.h"

struct news_reader {
	struct news *news;
	int wake;      /* -1: the place is free */
	uint64_t next; /* seq */
};

struct news {
	pthread_mutex_t lock;
	uint64_t next; /* seq of the next that is posted */
	bool ended;
	struct news_event kept[NEWS_KEPT];
	struct news_reader readers[NEWS_READERS_MAX];
};

int news_create(struct news **out)
{
	struct news *news = calloc(1, sizeof(*news));

	if (news == NULL)
		return -ENOMEM;
	pthread_mutex_init(&news->lock, NULL);
	news->next = 1;
	for (uint32_t i = 0; i < NEWS_READERS_MAX; i++)
		news->readers[i].wake = -1;
	*out = news;
	return 0;
}

void news_destroy(struct news *news)
{
	if (news == NULL)
		return;
	for (uint32_t i = 0; i < NEWS_READERS_MAX; i++)
		CHECK(news->readers[i].wake < 0);
	pthread_mutex_destroy(&news->lock);
	free(news);
}

/* ---- who tells ---- */

static void wake_all(const struct news *news)
{
	const uint64_t one = 1;

	for (uint32_t i = 0; i < NEWS_READERS_MAX; i++) {
		const int wake = news->readers[i].wake;

		if (wake >= 0 && write(wake, &one, sizeof(one)) < 0)
			CHECK(errno == EAGAIN); /* full: then it is awake */
	}
}

void news_post(struct news *news, const struct news_event *event)
{
	static const bool wakes[] = {
#define NEWS_WAKES(NAME, name, wakes, text) wakes,
		NEWS_EVENTS(NEWS_WAKES)
#undef NEWS_WAKES
	};
	struct news_event *kept;
	struct timespec now;

	if (news == NULL)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	pthread_mutex_lock(&news->lock);
	kept = &news->kept[news->next % NEWS_KEPT];
	*kept = *event;
	kept->seq = news->next++;
	kept->t_us = now_ns() / NS_PER_US;
	kept->wall_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
	if (wakes[event->kind])
		wake_all(news);
	pthread_mutex_unlock(&news->lock);
}

void news_end(struct news *news)
{
	pthread_mutex_lock(&news->lock);
	news->ended = true;
	wake_all(news);
	pthread_mutex_unlock(&news->lock);
}

/* ---- who reads ---- */

static struct news_reader *free_place(struct news *news)
{
	for (uint32_t i = 0; i < NEWS_READERS_MAX; i++) {
		if (news->readers[i].wake < 0)
			return &news->readers[i];
	}
	return NULL;
}

int news_subscribe(struct news *news, struct news_reader **out)
{
	/* It begins readable, for one that comes after the end. */
	cleanup_fd int wake = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	struct news_reader *reader;

	if (wake < 0)
		return -errno;
	pthread_mutex_lock(&news->lock);
	reader = free_place(news);
	if (reader != NULL)
		*reader = (struct news_reader){ news, cc_take_fd(&wake), news->next };
	pthread_mutex_unlock(&news->lock);
	*out = reader;
	return reader != NULL ? 0 : -EBUSY;
}

void news_unsubscribe(struct news_reader *reader)
{
	struct news *news = reader->news;

	pthread_mutex_lock(&news->lock);
	cc_close(&reader->wake);
	pthread_mutex_unlock(&news->lock);
}

int news_wake_fd(const struct news_reader *reader)
{
	return reader->wake;
}

/* Under the lock. */
static int take(struct news_reader *reader, struct news_event *event, uint64_t *lost)
{
	const struct news *news = reader->news;
	const uint64_t behind = news->next - reader->next;

	if (behind == 0)
		return news->ended ? -EPIPE : 0;
	if (behind > NEWS_KEPT) {
		*lost = behind - NEWS_KEPT;
		reader->next += *lost;
		return -EOVERFLOW;
	}
	*event = news->kept[reader->next++ % NEWS_KEPT];
	return 1;
}

int news_take(struct news_reader *reader, struct news_event *event, uint64_t *lost)
{
	uint64_t count;
	int ret;

	pthread_mutex_lock(&reader->news->lock);
	ret = take(reader, event, lost);
	/* Emptied only here, so that what is told after this wakes again. */
	if (ret == 0 && read(reader->wake, &count, sizeof(count)) < 0)
		CHECK(errno == EAGAIN);
	pthread_mutex_unlock(&reader->news->lock);
	return ret;
}
