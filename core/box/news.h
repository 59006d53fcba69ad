/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to devices, told to whoever listens (GET /events).  The last NEWS_KEPT events are kept in a
 * ring; each reader has its place in it.  Who tells never waits for who reads: a reader that is further
 * behind has lost what is no longer there, and is told how much.  Any thread may tell, and read.
 */
#ifndef MAYFLY_CORE_BOX_NEWS_H
#define MAYFLY_CORE_BOX_NEWS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/box/box.h"

#define NEWS_KEPT 256
#define NEWS_READERS_MAX 16

/* NAME, name as the API shows it, whether it wakes readers, meaning.  What begins a pause does not: the
 * guest waits, and a reader would take a CPU.  Another event always follows soon. */
#define NEWS_EVENTS(X)                                                                             \
	X(SUSPECT, "suspect", 0, "a generation gave reason: it is fenced; reason")                 \
	X(REPLACED, "replaced", 1, "another generation serves; as the answer to /replace")         \
	X(RESTING, "resting", 1, "it died often: the next waits; wait_ms")                         \
	X(STALLED, "stalled", 1, "its fence is overdue, and waited for")                           \
	X(SLOW, "slow", 1, "a call on its backend takes longer than hang_ms")                      \
	X(POISONED, "poisoned", 1, "a request is answered with an error; queue")                   \
	X(BROKEN, "broken", 1, "NEEDS_RESET is shown; why")                                        \
	X(QUARANTINED, "quarantined", 1, "given up; why")                                          \
	X(REVIVED, "revived", 1, "by the operator")                                                \
	X(RESET, "reset", 1, "by its driver, and complete")                                        \
	X(STANDBY_LOST, "standby-lost", 1, "a standby died or could not be made")                  \
	X(AUTOPSY, "autopsy", 1, "one was written")                                                \
	X(FAULT, "fault", 1, "somebody injected it; fault")                                        \
	X(MACHINE, "machine", 1, "of the VM itself; state")

enum news_kind {
#define NEWS_ENUM(NAME, name, wakes, text) NEWS_##NAME,
	NEWS_EVENTS(NEWS_ENUM)
#undef NEWS_ENUM
		NEWS_KIND_COUNT
};

struct news_event {
	uint64_t seq;     /* from 1, never reused; set by news_post(), as is .. */
	uint64_t t_us;    /* .. CLOCK_MONOTONIC, and .. */
	uint64_t wall_ns; /* .. CLOCK_REALTIME */
	enum news_kind kind;
	char device[DEVICE_ID_MAX + 1]; /* empty: the VM */
	uint64_t generation;            /* 0: none */
	const char *text; /* static: reason, why, fault, state, whichever the kind has; or NULL */
	uint32_t number;  /* queue, wait_ms */
	struct replacement replacement; /* REPLACED */
};

struct news;
struct news_reader;

/* 0 or -ENOMEM. */
int news_create(struct news **out);
/* There are no readers any more. */
void news_destroy(struct news *news);

/* news NULL: nobody could listen. Does not block. */
void news_post(struct news *news, const struct news_event *event);
/* Every reader comes to the end; so does each that begins later. */
void news_end(struct news *news);

/* Begins with the next event. 0; -EBUSY: NEWS_READERS_MAX are there; -errno of eventfd(2). */
int news_subscribe(struct news *news, struct news_reader **out);
void news_unsubscribe(struct news_reader *reader);
/* Readable when news_take() has something new to say.  Borrowed. */
int news_wake_fd(const struct news_reader *reader);
/* The next event. 1: *event; 0: none now; -EOVERFLOW: *lost events are no longer there; -EPIPE: the end,
 * all was taken.  Does not block. */
int news_take(struct news_reader *reader, struct news_event *event, uint64_t *lost);

#endif
