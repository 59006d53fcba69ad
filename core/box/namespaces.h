/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The namespaces of boxes, which the spawner has and they inherit.  A process that lives no longer than it
 * takes makes them, and the spawner enters: a process that Landlock confines may not mount, and the
 * spawner has to be born into the VMM's Landlock domain, or the VMM could not look at its children.
 */
#ifndef MAYFLY_CORE_BOX_NAMESPACES_H
#define MAYFLY_CORE_BOX_NAMESPACES_H

#include <stdbool.h>

#define NAMESPACES_MAX 6

struct namespaces {
	int fds[NAMESPACES_MAX]; /* in the order to enter them */
	int count;
};

/* user: an ordinary user's, who needs one of these first.  Blocks for the making.  0, or -errno with
 * *what naming the step (static text); nothing is left then. */
int namespaces_make(struct namespaces *ns, bool user, const char **what);
void namespaces_free(struct namespaces *ns);

/* The calling process, which has one thread. 0 or -errno. */
int namespaces_join(const struct namespaces *ns);

#endif
