/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-mem device on the host rig: the release program under the real supervisor, hotplug/virtio_mem
 * for the VMM's truth, answered on the supervisor's thread, and one request at a time from a driver of
 * ours.  There is no memory behind the region: what is plugged is a matter of the bitmap alone.
 */
#ifndef MAYFLY_RIG_MEMRIG_H
#define MAYFLY_RIG_MEMRIG_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "devmodel/abi/mem.h"
#include "hotplug/virtio_mem.h"
#include "tests/rig/boxrig.h"
#include "tests/rig/watch.h"

#define MEMRIG_ADDR (1ull << 40)
#define MEMRIG_BLOCK (2ull << 20)
#define MEMRIG_BLOCKS 512u
#define MEMRIG_GUARD 16

struct memrig {
	struct ringdrv_queue ring;
	struct device *dev;
	struct watch watch;
	uint64_t gpa; /* of the request; the response and a guard follow */
	struct mem_req *req;
	uint16_t pad; /* of the next requests */
	bool plain;   /* they are two segments, else four */
	uint8_t *resp;

	pthread_mutex_t lock; /* all below, which the supervisor's thread works on */
	struct vmem v;
	bool hold;                          /* questions are not answered .. */
	struct device_question held;        /* .. this is the last of them */
	uint64_t questions, repeated, late; /* asked; of these again; answered too late */
};

/* Made, `requested` blocks are requested and all are mapped, and started.  Of `like` budget, window and limits
 * count.  0 or -errno; in any case memrig_destroy(). */
int memrig_create(struct boxrig *rig, struct memrig *m, uint64_t requested,
		  const struct device_spec *like);
/* As a driver that resets the device and begins anew. 0 or -errno. */
int memrig_restart(struct memrig *m);
void memrig_destroy(struct memrig *m);

/* Puts a request on the ring, in several segments each way; `block` counts from the region's begin. */
int memrig_add(struct memrig *m, uint16_t type, uint64_t block, uint16_t blocks, uint64_t token);
/* The same and published, kicked, waited for. 0, -ETIMEDOUT or as memrig_answer(). */
int memrig_do(struct memrig *m, uint16_t type, uint64_t block, uint16_t blocks,
	      struct mem_resp *resp);
/* What it was answered, once it was. -EBADMSG: the device wrote where it should not. */
int memrig_answer(const struct memrig *m, const struct ringdrv_done *done, struct mem_resp *resp);

/* The question that is held gets its answer. 0 or as device_answer_question(). */
int memrig_release(struct memrig *m);

#endif
