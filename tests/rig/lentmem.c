/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/rig/lentmem.h"

#include "core/cond.h"

void lentmem_init(struct lentmem *lent)
{
	*lent = (struct lentmem){ 0 };
	pthread_mutex_init(&lent->lock, NULL);
	cond_init(&lent->unused);
}

void lentmem_destroy(struct lentmem *lent)
{
	pthread_cond_destroy(&lent->unused);
	pthread_mutex_destroy(&lent->lock);
}

void lentmem_give(struct lentmem *lent, uint64_t gpa, uint64_t bytes)
{
	pthread_mutex_lock(&lent->lock);
	lent->gpa = gpa;
	lent->bytes = bytes;
	pthread_mutex_unlock(&lent->lock);
}

int lentmem_take_back(struct lentmem *lent, uint32_t timeout_ms)
{
	const uint64_t end = now_ns() + timeout_ms * NS_PER_MS;
	int ret = 0;

	pthread_mutex_lock(&lent->lock);
	lent->bytes = 0;
	while (ret == 0 && lent->users != 0)
		ret = cond_wait_until(&lent->unused, &lent->lock, end);
	pthread_mutex_unlock(&lent->lock);
	return ret;
}

bool lentmem_use(struct lentmem *lent, uint64_t *gpa, uint64_t *bytes)
{
	pthread_mutex_lock(&lent->lock);
	const bool there = lent->bytes != 0;

	if (there) {
		*gpa = lent->gpa;
		*bytes = lent->bytes;
		lent->users++;
	}
	pthread_mutex_unlock(&lent->lock);
	return there;
}

void lentmem_done(struct lentmem *lent)
{
	pthread_mutex_lock(&lent->lock);
	if (--lent->users == 0)
		pthread_cond_signal(&lent->unused);
	pthread_mutex_unlock(&lent->lock);
}
