/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory that a load may put buffers into for as long as it is there, like a guest's that was
 * plugged and will be ejected: one thread gives it and takes it back, another's requests lie in it.
 */
#ifndef MAYFLY_RIG_LENTMEM_H
#define MAYFLY_RIG_LENTMEM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct lentmem {
	pthread_mutex_t lock;
	pthread_cond_t unused;
	uint64_t gpa;
	uint64_t bytes; /* 0: there is none */
	uint32_t users;
};

void lentmem_init(struct lentmem *lent);
void lentmem_destroy(struct lentmem *lent);

/* There is none yet. */
void lentmem_give(struct lentmem *lent, uint64_t gpa, uint64_t bytes);
/* Nobody begins to use it any more; waits for who does: so the load must be stepped or drained meanwhile.
 * 0; -ETIMEDOUT: somebody still does after timeout_ms. */
int lentmem_take_back(struct lentmem *lent, uint32_t timeout_ms);

/* For the load.  True: it is there, where it lies is told, and it stays until lentmem_done(). */
bool lentmem_use(struct lentmem *lent, uint64_t *gpa, uint64_t *bytes);
void lentmem_done(struct lentmem *lent);

#endif
