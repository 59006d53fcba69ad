/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front-end of vhost-user (core/vhost/protocol.h) without a VM: one connection to any back-end,
 * guest memory from guestmem.h, rings from ringdrv.h.  Three layers, each usable beside the next:
 *
 *   vhostclient_send(), vhostclient_receive()   any bytes with any descriptors, also wrong ones
 *   vhostclient_set_vring_num() and so on       the messages by name, answers checked
 *   vhostclient_start(), vhostclient_stop()     what QEMU 7.2 does, in its order
 *
 *   vhostclient_init(&c);
 *   vhostclient_connect(&c, path, timeout_ns);
 *   vhostclient_negotiate(&c, 1);                       // c.offered says what rings may have
 *   ringdrv_init(&ring, &mem, &(struct ringdrv_config){ .features = .. });
 *   vhostclient_start(&c, &mem, &ring, 1);
 *   ...                                                 // the ring runs; ringdrv.h, blkload.h
 *   vhostclient_stop(&c, NULL);
 *   vhostclient_free(&c);
 *
 * Functions block, no longer than c.timeout_ns for each answer.  They return 0 or -errno:
 * -ETIMEDOUT: none came; -ECONNRESET: the back-end hung up; -EPROTO: it answered what is no answer
 * to that; -EREMOTEIO: it refused; -errno of the system.  Not thread-safe; rings may run on other
 * threads meanwhile.
 */
#ifndef MAYFLY_RIG_VHOSTCLIENT_H
#define MAYFLY_RIG_VHOSTCLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/vhost/protocol.h"
#include "devmodel/abi/message.h"
#include "tests/rig/guestmem.h"
#include "tests/rig/ringdrv.h"

#define VHOSTCLIENT_TIMEOUT_NS 20000000000ull

/* What QEMU 7.2 asks of virtio-blk's: virtio 1.2 section 5.2.4 as far as the write zeroes. */
#define VHOSTCLIENT_CONFIG_BYTES 60

/* On which messages an acknowledgement is asked for, where REPLY_ACK was negotiated. */
enum vhostclient_acks {
	VHOSTCLIENT_ACK_ALL,    /* as Cloud Hypervisor does */
	VHOSTCLIENT_ACK_MEMORY, /* as QEMU does */
	VHOSTCLIENT_ACK_NONE,
};

struct vhostclient {
	/* To be changed between init and connect. */
	uint64_t timeout_ns;
	uint64_t wanted;          /* features beside those of the rings: VIRTIO_BLK_F_*, .. */
	uint64_t wanted_protocol; /* protocol features; init: what QEMU 7.2 knows of what this
				   * client plays its part in */
	enum vhostclient_acks acks;
	/* To be read. */
	int sock;          /* -1: not connected */
	int sock_backend;  /* this side's end of what SET_BACKEND_REQ_FD handed over, or -1 */
	uint64_t offered;  /* GET_FEATURES */
	uint64_t features; /* of them negotiated */
	uint64_t offered_protocol;
	uint64_t protocol;                     /* of them negotiated */
	uint64_t queue_num;                    /* GET_QUEUE_NUM; 0: not asked, no MQ */
	uint64_t mem_slots;                    /* GET_MAX_MEM_SLOTS; 0: not asked */
	uint8_t config[VHOST_USER_CONFIG_MAX]; /* GET_CONFIG, its first VHOSTCLIENT_CONFIG_BYTES */
	int fd_inflight; /* GET_INFLIGHT_FD; -1: none.  Outlives the connection */
	struct vhost_user_inflight inflight;
	/* Its own. */
	bool negotiated;
	int fd_masked; /* what rings call before there is a driver: nobody listens */
	struct ringdrv_queue *rings;
	uint32_t ring_count;
	uint16_t bases[BOX_QUEUES_MAX]; /* where each ring goes on ... */
	bool bases_known;               /* ... once it has been stopped; else at first_idx */
	uint32_t region_count;          /* of guest memory, as the back-end was last told */
	struct vhost_user_region regions[MEM_REGIONS_MAX];
};

void vhostclient_init(struct vhostclient *c);
/* Closes all; may be called twice.  Rings and guest memory stay the caller's. */
void vhostclient_free(struct vhostclient *c);

/* Waits while nobody listens there, or nothing has the name, for a test that has just started the
 * server. -ETIMEDOUT; -errno of connect(2); -EISCONN: drop first. */
int vhostclient_connect(struct vhostclient *c, const char *path, uint64_t timeout_ns);

/* Hangs up, or takes note that the back-end has.  What the next start hands over is what QEMU hands
 * over then: the buffer of requests in flight, and rings that go on at their used index. */
void vhostclient_drop(struct vhostclient *c);

/* ---- any message ---- */

struct vhostclient_message {
	struct vhost_user_header header;
	uint8_t payload[VHOST_USER_PAYLOAD_MAX]; /* right behind the header, as on the wire */
};
_Static_assert(offsetof(struct vhostclient_message, payload) == sizeof(struct vhost_user_header),
	       "a message is sent as it lies in memory");

/* A header (VERSION, no other flag) and payload.  bytes > VHOST_USER_PAYLOAD_MAX: aborts. */
void vhostclient_fill(struct vhostclient_message *m, uint32_t request, const void *payload,
		      size_t bytes);

/* The header, and as much payload as it says.  -EMSGSIZE: more than there is room for. */
int vhostclient_send(struct vhostclient *c, const struct vhostclient_message *m, const int *fds,
		     uint32_t fd_count);
/* Bytes from .. to - 1 of a message, whatever its header says of its length; descriptors, up to 253
 * (the kernel's limit), go with the first of them.  For hostile tests: a message in two pieces, one that
 * ends early, a header that lies. */
int vhostclient_send_part(struct vhostclient *c, const struct vhostclient_message *m, size_t from,
			  size_t to, const int *fds, uint32_t fd_count);

/* What the back-end sends next; *fd_count: room for descriptors, then those that came (close-on-exec, the
 * caller's).  More than there is room for are closed: -EPROTO.  fds may be NULL: no room. */
int vhostclient_receive(struct vhostclient *c, struct vhostclient_message *m, int *fds,
			uint32_t *fd_count);
/* 0 when the back-end has hung up, or does within timeout_ns; -EBUSY: it says something first. */
int vhostclient_wait_closed(struct vhostclient *c, uint64_t timeout_ns);

/* ---- messages by kind ---- */

/* One that has an answer: *m is sent and becomes the answer, of the same request, of VERSION | REPLY
 * and nothing else. *fd, if fd is not NULL, is the descriptor that came with it or -1; else none may. */
int vhostclient_ask(struct vhostclient *c, struct vhostclient_message *m, const int *fds,
		    uint32_t fd_count, int *fd);
/* One that has none; acknowledged as c->acks says. */
int vhostclient_tell(struct vhostclient *c, uint32_t request, const void *payload, size_t bytes,
		     const int *fds, uint32_t fd_count);
/* An answer of 8 bytes to a request without payload. */
int vhostclient_get(struct vhostclient *c, uint32_t request, uint64_t *value);
int vhostclient_set(struct vhostclient *c, uint32_t request, uint64_t value);
/* SET_VRING_(NUM|BASE|ENABLE). */
int vhostclient_set_state(struct vhostclient *c, uint32_t request, uint32_t queue, uint32_t num);
/* SET_VRING_(KICK|CALL|ERR); fd -1: NOFD. */
int vhostclient_set_eventfd(struct vhostclient *c, uint32_t request, uint32_t queue, int fd);
/* All that was sent before is done: a round trip, for what is not acknowledged. */
int vhostclient_sync(struct vhostclient *c);

/* ---- messages by name ---- */

/* vhostclient_get_features(c, &value), .. */
#define VHOSTCLIENT_GETS(X)                                                                        \
	X(get_features, GET_FEATURES)                                                              \
	X(get_protocol_features, GET_PROTOCOL_FEATURES)                                            \
	X(get_queue_num, GET_QUEUE_NUM)                                                            \
	X(get_max_mem_slots, GET_MAX_MEM_SLOTS)                                                    \
	X(check_device_state, CHECK_DEVICE_STATE) /* value 0: good */

/* vhostclient_set_features(c, value), .. */
#define VHOSTCLIENT_SETS(X)                                                                        \
	X(set_features, SET_FEATURES)                                                              \
	X(set_protocol_features, SET_PROTOCOL_FEATURES)

/* vhostclient_set_owner(c), .. */
#define VHOSTCLIENT_BARE(X)                                                                        \
	X(set_owner, SET_OWNER)                                                                    \
	X(reset_owner, RESET_OWNER)                                                                \
	X(reset_device, RESET_DEVICE)

/* vhostclient_set_vring_num(c, queue, num), .. */
#define VHOSTCLIENT_STATES(X)                                                                      \
	X(set_vring_num, SET_VRING_NUM)                                                            \
	X(set_vring_base, SET_VRING_BASE)                                                          \
	X(set_vring_enable, SET_VRING_ENABLE)

/* vhostclient_set_vring_kick(c, queue, fd), .. */
#define VHOSTCLIENT_EVENTFDS(X)                                                                    \
	X(set_vring_kick, SET_VRING_KICK)                                                          \
	X(set_vring_call, SET_VRING_CALL)                                                          \
	X(set_vring_err, SET_VRING_ERR)

#define VHOSTCLIENT_GET(name, REQUEST)                                                             \
	static inline int vhostclient_##name(struct vhostclient *c, uint64_t *value)               \
	{                                                                                          \
		return vhostclient_get(c, VHOST_USER_##REQUEST, value);                            \
	}
VHOSTCLIENT_GETS(VHOSTCLIENT_GET)
#undef VHOSTCLIENT_GET

#define VHOSTCLIENT_SET(name, REQUEST)                                                             \
	static inline int vhostclient_##name(struct vhostclient *c, uint64_t value)                \
	{                                                                                          \
		return vhostclient_set(c, VHOST_USER_##REQUEST, value);                            \
	}
VHOSTCLIENT_SETS(VHOSTCLIENT_SET)
#undef VHOSTCLIENT_SET

#define VHOSTCLIENT_TELL(name, REQUEST)                                                            \
	static inline int vhostclient_##name(struct vhostclient *c)                                \
	{                                                                                          \
		return vhostclient_tell(c, VHOST_USER_##REQUEST, NULL, 0, NULL, 0);                \
	}
VHOSTCLIENT_BARE(VHOSTCLIENT_TELL)
#undef VHOSTCLIENT_TELL

#define VHOSTCLIENT_STATE(name, REQUEST)                                                           \
	static inline int vhostclient_##name(struct vhostclient *c, uint32_t queue, uint32_t num)  \
	{                                                                                          \
		return vhostclient_set_state(c, VHOST_USER_##REQUEST, queue, num);                 \
	}
VHOSTCLIENT_STATES(VHOSTCLIENT_STATE)
#undef VHOSTCLIENT_STATE

#define VHOSTCLIENT_EVENTFD(name, REQUEST)                                                         \
	static inline int vhostclient_##name(struct vhostclient *c, uint32_t queue, int fd)        \
	{                                                                                          \
		return vhostclient_set_eventfd(c, VHOST_USER_##REQUEST, queue, fd);                \
	}
VHOSTCLIENT_EVENTFDS(VHOSTCLIENT_EVENTFD)
#undef VHOSTCLIENT_EVENTFD

/* Stops that ring; *base: the next avail index. */
int vhostclient_get_vring_base(struct vhostclient *c, uint32_t queue, uint32_t *base);
int vhostclient_set_vring_addr(struct vhostclient *c, const struct vhost_user_vring_addr *addr);

/* count at most VHOST_USER_MEM_TABLE_MAX, with a descriptor for each. */
int vhostclient_set_mem_table(struct vhostclient *c, const struct vhost_user_region *regions,
			      const int *fds, uint32_t count);
int vhostclient_add_mem_reg(struct vhostclient *c, const struct vhost_user_region *region, int fd);
/* fd -1: none, as it should be. */
int vhostclient_rem_mem_reg(struct vhostclient *c, const struct vhost_user_region *region, int fd);

/* bytes <= VHOST_USER_CONFIG_MAX.  -EREMOTEIO: an answer without payload. */
int vhostclient_get_config(struct vhostclient *c, uint32_t offset, void *space, uint32_t bytes);
int vhostclient_set_config(struct vhostclient *c, uint32_t offset, const void *space,
			   uint32_t bytes, uint32_t flags);

/* *d says how many queues of which size are wanted, and then what came; *fd becomes the caller's. */
int vhostclient_get_inflight_fd(struct vhostclient *c, struct vhost_user_inflight *d, int *fd);
int vhostclient_set_inflight_fd(struct vhostclient *c, const struct vhost_user_inflight *d, int fd);

/* The back-end's end of a socket pair; stays the caller's, as every descriptor that is sent. */
int vhostclient_set_backend_req_fd(struct vhostclient *c, int fd);
/* Waits for the answer where LOG_SHMFD was negotiated. */
int vhostclient_set_log_base(struct vhostclient *c, uint64_t bytes, uint64_t offset, int fd);
/* *back: the descriptor to use in place of fd, or -1. */
int vhostclient_set_device_state_fd(struct vhostclient *c, uint32_t direction, int fd, int *back);

/* The other channel: what the back-end asks next, and the answer to it where it wants one. */
int vhostclient_backend_receive(struct vhostclient *c, struct vhostclient_message *m);
int vhostclient_backend_answer(struct vhostclient *c, const struct vhostclient_message *m,
			       uint64_t value);

/* ---- as QEMU 7.2 does it ---- */

/* What it does as soon as it is connected, for a device of so many queues: features, protocol
 * features, limits, the back-end's channel, owner, configuration space.  -ENOTSUP: the back-end has
 * no protocol features or fewer queues. */
int vhostclient_negotiate(struct vhostclient *c, uint32_t queues);

/* What it does when the driver is ready: negotiates if that has not been done, hands over features, the
 * buffer of requests in flight, memory and rings, and enables them; once it returns, the back-end has
 * taken all of it in.  Rings have one set of features, and must not be freed before stop or drop.
 * Besides -ENOTSUP: a ring has a feature that is not offered. */
int vhostclient_start(struct vhostclient *c, const struct guestmem *mem,
		      struct ringdrv_queue *rings, uint32_t count);

/* Tells the back-end how guest memory is now, whether rings run or not: with CONFIGURE_MEM_SLOTS what went,
 * then what came, a region at a time; else the whole table.  -ENOSPC: more than it takes. */
int vhostclient_set_memory(struct vhostclient *c, const struct guestmem *mem);

/* Where the next start goes on: bases that another front-end's stop has given, as a migration brings them. */
void vhostclient_set_bases(struct vhostclient *c, const uint32_t *bases, uint32_t count);

/* Disables and stops every ring; another start goes on where they were.  bases, if not NULL, gets the
 * avail index of each. */
int vhostclient_stop(struct vhostclient *c, uint32_t *bases);

#endif
