/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the main loop would misbehave if it were told to.  Only the faulty set of programs has it in it
 * (MAYFLY_FAULTY; mk/faulty.mk); in all others nothing is left of these calls.
 */
#ifndef MAYFLY_DEVMODEL_COMMON_FAULTY_H
#define MAYFLY_DEVMODEL_COMMON_FAULTY_H

#include <asm/errno.h>

#include "devmodel/common/dev.h"

#ifdef MAYFLY_FAULTY
/* A message that the loop does not know, n bytes. 0, or -EPROTO. */
int faulty_message(struct dev *dev, const void *message, long n);
/* At activation: the first request of this queue (1 more than its place; 0: none) is deadly. */
void faulty_doom(struct dev *dev, uint32_t queue);
/* Before a request of q is looked for. */
void faulty_serve(const struct virtq *q);
/* The records are written, PARKED is not said. */
void faulty_record(struct dev *dev);
/* PARKED was said.  Returns if that is to be true. */
void faulty_parked(struct dev *dev);
#else
static inline int faulty_message(struct dev *dev, const void *message, long n)
{
	(void)dev, (void)message, (void)n;
	return -EPROTO;
}

static inline void faulty_doom(struct dev *dev, uint32_t queue)
{
	(void)dev, (void)queue;
}

static inline void faulty_serve(const struct virtq *q)
{
	(void)q;
}

static inline void faulty_record(struct dev *dev)
{
	(void)dev;
}

static inline void faulty_parked(struct dev *dev)
{
	(void)dev;
}
#endif

#endif
