/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks in a front-end's log of written pages that are ours to make: a ring that stops being served has no
 * successor that would mark what its last server may have written and not marked, being killed in between.
 */
#ifndef MAYFLY_CORE_VHOST_MARKS_H
#define MAYFLY_CORE_VHOST_MARKS_H

#include <stdint.h>

#include "core/vhost/frontend.h"

/* The used part of this ring.  What lies beyond the log's end is not marked, and nothing where the file is shorter
 * by now than it was.  Does not block. */
void marks_used(const struct vhost_log_area *log, const struct ctl_queue *queue);

#endif
