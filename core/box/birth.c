/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a box comes into being, and what is left to give back when it is gone: state page, control
 * socket, launch record, the request to the spawner and its reply.  Everything that a box holds is
 * made here or in box.c's box_take_listener(), and given back in box_release() and nowhere else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "core/log.h"
#include "core/memfd.h"

/* A page of its own, which it can neither grow nor shrink under the VMM's eyes. */
static int box_make_page(struct box *box)
{
	struct stat st;
	void *page;

	box->child_state =
		memfd_make("state", 0, STATE_PAGE_BYTES, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (box->child_state < 0)
		return box->child_state;
	if (fstat(box->child_state, &st) != 0)
		return -errno;
	page = mmap(NULL, STATE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		    box->child_state, 0);
	if (page == MAP_FAILED)
		return -errno;
	box->page = page;
	box->state_ino = st.st_ino;
	return 0;
}

static int box_make_socket(struct box *box)
{
	struct stat st;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -errno;
	box->control = pair[0];
	box->child_socket = pair[1];
	if (fstat(box->child_socket, &st) != 0)
		return -errno;
	box->control_ino = st.st_ino;
	return 0;
}

/* By which its map is known again when another epoch has come, whose regions are other files. */
static int box_note_regions(struct box *box)
{
	const struct box_memory *memory = &box->gen->dev->sup->memory;
	struct stat st;

	for (uint32_t i = 0; i < box->launch->map.count; i++) {
		if (fstat(memory->fds[i], &st) != 0)
			return -errno;
		box->region_ino[i] = st.st_ino;
	}
	return 0;
}

/* The same of the log.  A page of it that the file has not would be the death of every box that has
 * something to mark there; one without that page is not to be had. */
static int box_note_log(struct box *box)
{
	const struct launch_record *l = box->launch;
	struct stat st;

	if (l->log_bytes == 0)
		return 0;
	if (fstat(box->gen->dev->sup->memory.log_fd, &st) != 0)
		return -errno;
	if (l->log_offset % 4096 != 0 || l->log_offset > (uint64_t)st.st_size ||
	    l->log_bytes > (uint64_t)st.st_size - l->log_offset)
		return -EINVAL;
	box->log_ino = st.st_ino;
	return 0;
}

static int box_request(struct box *box)
{
	struct supervisor *sup = box->gen->dev->sup;
	int fds[SPAWN_FDS_MAX];
	uint32_t n;
	int ret;

	launch_fill(box, box->launch);
	ret = box_note_regions(box);
	if (ret == 0)
		ret = box_note_log(box);
	if (ret != 0)
		return ret;
	if (send(box->control, box->launch, sizeof(*box->launch), MSG_DONTWAIT | MSG_NOSIGNAL) !=
	    sizeof(*box->launch))
		return -errno;
	n = launch_fds(box, box->launch, fds);
	box->spawned_ns = now_ns();
	return spawner_request(sup->spawner, box->cookie, box->gen->dev->spec.kind, fds, n);
}

void box_release(struct box *box)
{
	struct loop *loop = box->gen->dev->sup->loop;

	loop_disarm(loop, &box->deadline);
	loop_disarm(loop, &box->look);
	ask_end(box);
	loop_disarm(loop, &box->errands.answer);
	loop_remove(loop, &box->on_pidfd);
	loop_remove(loop, &box->on_control);
	loop_remove(loop, &box->on_listener);
	cc_close(&box->pidfd);
	cc_close(&box->control);
	cc_close(&box->child_socket);
	cc_close(&box->child_state);
	cc_close(&box->listener);
	cc_close(&box->proc_dir);
	cc_close(&box->proc_syscall);
	if (box->page != NULL)
		munmap(box->page, STATE_PAGE_BYTES);
	box->page = NULL;
	box->pid = 0;
}

int box_spawn(struct box *box)
{
	int ret = 0;

	box->cookie = ++box->gen->dev->sup->cookies;
	box->launch = malloc(sizeof(*box->launch));
	if (box->launch == NULL)
		ret = -ENOMEM;
	if (ret == 0)
		ret = box_make_page(box);
	if (ret == 0)
		ret = box_make_socket(box);
	if (ret == 0)
		ret = box_request(box);
	if (ret != 0) {
		box_release(box);
		box->state = BOX_DEAD;
		return ret;
	}
	loop_arm(box->gen->dev->sup->loop, &box->deadline,
		 now_ns() + box_deadline_ms(BOX_SPAWNING) * NS_PER_MS);
	return 0;
}

void box_spawned(struct box *box, const struct spawn_reply *reply)
{
	char path[32];

	/* The child has its own copies now. */
	cc_close(&box->child_socket);
	cc_close(&box->child_state);
	if (reply->pidfd < 0) {
		log_error("%s: cannot start a device process: %s", box->gen->dev->spec.id,
			  strerror(reply->error));
		box_raise(box, BOX_EV_SPAWN_FAILED);
		return;
	}
	box->pidfd = reply->pidfd;
	box->pid = reply->pid;
	snprintf(path, sizeof(path), "/proc/%d", box->pid);
	box->proc_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (box->proc_dir >= 0)
		box->proc_syscall = openat(box->proc_dir, "syscall", O_RDONLY | O_CLOEXEC);
	if (reply->error != 0)
		log_error("%s: the device program cannot be executed: %s", box->gen->dev->spec.id,
			  strerror(reply->error));
	box_raise(box, BOX_EV_SPAWNED);
}
