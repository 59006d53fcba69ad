/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a box that serves is to be suspected, from what can be seen of it now and then.  Pure: no
 * system call, no clock; box/patrol.c looks, and does what the verdict says.
 *
 * Time is counted so that nobody is blamed for what he cannot help: of a box that runs, the CPU time
 * that it was given, on a host however busy; of one that sleeps where it need not, the time that
 * passed; of one that the kernel holds in a call to its backend, or without which it cannot go on
 * (a page that is slow to come), none.
 */
#ifndef MAYFLY_CORE_BOX_SUSPECT_H
#define MAYFLY_CORE_BOX_SUSPECT_H

#include <stdbool.h>
#include <stdint.h>

struct suspect_limits {
	uint32_t hang_ms;  /* 0: never suspect a hang */
	uint32_t storm_ms; /* 0: never suspect a storm */
};

/* Where a box was seen: NAME, meaning. */
#define SUSPECT_PLACES(X)                                                                          \
	X(RUNNING, "on a CPU, or waiting for one")                                                 \
	X(ASLEEP, "waiting for an event, or stopped: a message would have it go on, or should")    \
	X(BACKEND, "held by the kernel: in a call to its backend, or for a page")

enum suspect_place {
#define SUSPECT_PLACE_ENUM(NAME, text) SUSPECT_##NAME,
	SUSPECT_PLACES(SUSPECT_PLACE_ENUM)
#undef SUSPECT_PLACE_ENUM
		SUSPECT_PLACE_COUNT
};

struct suspect_sample {
	uint64_t now_ns;
	uint64_t cpu_ns;    /* used so far */
	uint64_t waited_ns; /* so far, for a CPU, ready to run; 0 where the kernel does not tell */
	enum suspect_place place;
	bool answered; /* the last PING, or none was sent yet */
	bool progress; /* something was completed since the last sample */
	bool work;     /* a request of the driver's waits to be completed */
	bool patient;  /* it may let requests wait: its rate is limited, or it waits for us */
};

/* What has come together since it last did well; all zero for a new generation. */
struct suspect_record {
	uint64_t now_ns, cpu_ns, waited_ns; /* of the last sample; now_ns 0: none yet */
	uint64_t silent_ns;                 /* a PING is unanswered */
	uint64_t idle_ns;                   /* work was left undone */
	uint64_t vain_ns;                   /* ran hard and did nothing, with nothing to do */
	uint64_t slow_ns;                   /* was held by the kernel */
	bool slow_told;
};

enum suspect_verdict {
	SUSPECT_NOTHING,
	SUSPECT_NUDGE, /* work is left undone by one that sleeps: kick it, in case nobody did */
	SUSPECT_SLOW,  /* an event, no suspicion: its backend takes longer than hang_ms */
	SUSPECT_HANG,
	SUSPECT_STORM,
};

enum suspect_verdict suspect_judge(struct suspect_record *record,
				   const struct suspect_limits *limits,
				   const struct suspect_sample *sample);

/* How often to look, so that hang_ms and storm_ms mean something; 0: nothing is to be looked for. */
uint32_t suspect_period_ms(const struct suspect_limits *limits);

#endif
