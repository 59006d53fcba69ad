/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What vhost-user looks like on its socket.  Numbers, bits and layouts are those of QEMU's
 * docs/interop/vhost-user.rst, whose sections are named below; which of them a back-end of ours
 * offers is not said here.  Everything is in native byte order (little-endian: mayfly runs on x86-64)
 * and comes from a peer that is not trusted.
 *
 * A message is a header and header.size bytes of payload, back to back on a stream socket;
 * descriptors ride on its first byte.  The front-end asks, the back-end answers with the same
 * request number and VHOST_USER_REPLY; a second socket, which the front-end hands over by
 * SET_BACKEND_REQ_FD, carries the same the other way round.
 */
#ifndef MAYFLY_VHOST_PROTOCOL_H
#define MAYFLY_VHOST_PROTOCOL_H

#include <stdint.h>

/* ---- requests: "Front-end message types" ---- */

/* NAME, number.  POSTCOPY, CRYPTO, GPU and the like are here for their names only: a log that says
 * "GPU_SET_SOCKET" beats one that says 33. */
#define VHOST_REQUESTS(X)                                                                          \
	X(GET_FEATURES, 1)                                                                         \
	X(SET_FEATURES, 2)                                                                         \
	X(SET_OWNER, 3)                                                                            \
	X(RESET_OWNER, 4)                                                                          \
	X(SET_MEM_TABLE, 5)                                                                        \
	X(SET_LOG_BASE, 6)                                                                         \
	X(SET_LOG_FD, 7)                                                                           \
	X(SET_VRING_NUM, 8)                                                                        \
	X(SET_VRING_ADDR, 9)                                                                       \
	X(SET_VRING_BASE, 10)                                                                      \
	X(GET_VRING_BASE, 11)                                                                      \
	X(SET_VRING_KICK, 12)                                                                      \
	X(SET_VRING_CALL, 13)                                                                      \
	X(SET_VRING_ERR, 14)                                                                       \
	X(GET_PROTOCOL_FEATURES, 15)                                                               \
	X(SET_PROTOCOL_FEATURES, 16)                                                               \
	X(GET_QUEUE_NUM, 17)                                                                       \
	X(SET_VRING_ENABLE, 18)                                                                    \
	X(SEND_RARP, 19)                                                                           \
	X(NET_SET_MTU, 20)                                                                         \
	X(SET_BACKEND_REQ_FD, 21)                                                                  \
	X(IOTLB_MSG, 22)                                                                           \
	X(SET_VRING_ENDIAN, 23)                                                                    \
	X(GET_CONFIG, 24)                                                                          \
	X(SET_CONFIG, 25)                                                                          \
	X(CREATE_CRYPTO_SESSION, 26)                                                               \
	X(CLOSE_CRYPTO_SESSION, 27)                                                                \
	X(POSTCOPY_ADVISE, 28)                                                                     \
	X(POSTCOPY_LISTEN, 29)                                                                     \
	X(POSTCOPY_END, 30)                                                                        \
	X(GET_INFLIGHT_FD, 31)                                                                     \
	X(SET_INFLIGHT_FD, 32)                                                                     \
	X(GPU_SET_SOCKET, 33)                                                                      \
	X(RESET_DEVICE, 34)                                                                        \
	X(VRING_KICK, 35)                                                                          \
	X(GET_MAX_MEM_SLOTS, 36)                                                                   \
	X(ADD_MEM_REG, 37)                                                                         \
	X(REM_MEM_REG, 38)                                                                         \
	X(SET_STATUS, 39)                                                                          \
	X(GET_STATUS, 40)                                                                          \
	X(GET_SHARED_OBJECT, 41)                                                                   \
	X(SET_DEVICE_STATE_FD, 42)                                                                 \
	X(CHECK_DEVICE_STATE, 43)

enum vhost_user_request {
#define VHOST_USER_ENUM(NAME, number) VHOST_USER_##NAME = (number),
	VHOST_REQUESTS(VHOST_USER_ENUM)
#undef VHOST_USER_ENUM
		VHOST_USER_REQUEST_COUNT
};

/* They follow on each other from 1, so that a table may be indexed by them. */
#define VHOST_USER_ONE(NAME, number) +1
_Static_assert(1 VHOST_REQUESTS(VHOST_USER_ONE) == VHOST_USER_REQUEST_COUNT, "no gap, no double");
#undef VHOST_USER_ONE

/* The other channel: "Back-end message types". */
#define VHOST_BACKEND_REQUESTS(X)                                                                  \
	X(IOTLB_MSG, 1)                                                                            \
	X(CONFIG_CHANGE_MSG, 2)                                                                    \
	X(VRING_HOST_NOTIFIER_MSG, 3)                                                              \
	X(VRING_CALL, 4)                                                                           \
	X(VRING_ERR, 5)                                                                            \
	X(SHARED_OBJECT_ADD, 6)                                                                    \
	X(SHARED_OBJECT_REMOVE, 7)                                                                 \
	X(SHARED_OBJECT_LOOKUP, 8)

enum vhost_user_backend_request {
#define VHOST_USER_ENUM(NAME, number) VHOST_USER_BACKEND_##NAME = (number),
	VHOST_BACKEND_REQUESTS(VHOST_USER_ENUM)
#undef VHOST_USER_ENUM
		VHOST_USER_BACKEND_REQUEST_COUNT
};

/* ---- features ---- */

/* Bits of GET_FEATURES beside the device's own ("Communication", "Migration").  The first is no
 * feature that a driver may see. */
#define VHOST_USER_F_PROTOCOL_FEATURES 30
#define VHOST_F_LOG_ALL 26

/* NAME, bit: "Protocol features". */
#define VHOST_PROTOCOL_FEATURES(X)                                                                 \
	X(MQ, 0)                                                                                   \
	X(LOG_SHMFD, 1)                                                                            \
	X(RARP, 2)                                                                                 \
	X(REPLY_ACK, 3)                                                                            \
	X(NET_MTU, 4)                                                                              \
	X(BACKEND_REQ, 5)                                                                          \
	X(CROSS_ENDIAN, 6)                                                                         \
	X(CRYPTO_SESSION, 7)                                                                       \
	X(PAGEFAULT, 8)                                                                            \
	X(CONFIG, 9)                                                                               \
	X(BACKEND_SEND_FD, 10)                                                                     \
	X(HOST_NOTIFIER, 11)                                                                       \
	X(INFLIGHT_SHMFD, 12)                                                                      \
	X(RESET_DEVICE, 13)                                                                        \
	X(INBAND_NOTIFICATIONS, 14)                                                                \
	X(CONFIGURE_MEM_SLOTS, 15)                                                                 \
	X(STATUS, 16)                                                                              \
	X(XEN_MMAP, 17)                                                                            \
	X(SHARED_OBJECT, 18)                                                                       \
	X(DEVICE_STATE, 19)                                                                        \
	X(GET_VRING_BASE_INFLIGHT, 20)

enum vhost_user_protocol_feature {
#define VHOST_USER_ENUM(NAME, bit) VHOST_USER_PROTOCOL_F_##NAME = (bit),
	VHOST_PROTOCOL_FEATURES(VHOST_USER_ENUM)
#undef VHOST_USER_ENUM
};

/* VHOST_USER_PROTOCOL_BIT(MQ): as it stands in a mask. */
#define VHOST_USER_PROTOCOL_BIT(NAME) (1ull << VHOST_USER_PROTOCOL_F_##NAME)

/* ---- header: "Message Specification" ---- */

struct vhost_user_header {
	uint32_t request;
	uint32_t flags; /* VHOST_USER_VERSION, VHOST_USER_REPLY, VHOST_USER_NEED_REPLY */
	uint32_t size;  /* bytes of payload */
};
_Static_assert(sizeof(struct vhost_user_header) == 12, "vhost-user.rst, Header");

#define VHOST_USER_VERSION_MASK 3u
#define VHOST_USER_VERSION 1u
#define VHOST_USER_REPLY 4u
/* With REPLY_ACK: a message that has no answer of its own gets a u64, 0 for success
 * ("VHOST_USER_PROTOCOL_F_REPLY_ACK").  QEMU takes an answer only when its flags are exactly
 * VERSION | REPLY. */
#define VHOST_USER_NEED_REPLY 8u

/* ---- payloads: "Payload" ---- */

/* A single u64: (GET|SET)_FEATURES, (GET|SET)_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_MAX_MEM_SLOTS,
 * SET_VRING_(KICK|CALL|ERR), and every acknowledgement.  Of the third kind, a descriptor comes with
 * it unless NOFD says that there is none. */
#define VHOST_USER_VRING_IDX_MASK 0xffull
#define VHOST_USER_VRING_NOFD 0x100ull

/* "A vring state description": SET_VRING_(NUM|BASE|ENABLE), GET_VRING_BASE and its answer. */
struct vhost_user_vring_state {
	uint32_t index;
	uint32_t num;
};
_Static_assert(sizeof(struct vhost_user_vring_state) == 8, "vhost-user.rst, vring state");

/* "A vring address description": SET_VRING_ADDR.  User addresses, to be looked up in the memory
 * regions: the front-end's own pointers. */
struct vhost_user_vring_addr {
	uint32_t index;
	uint32_t flags; /* VHOST_USER_VRING_LOG */
	uint64_t desc_user_addr;
	uint64_t used_user_addr;
	uint64_t avail_user_addr;
	uint64_t log_guest_addr; /* of the used ring, for the log of dirty pages */
};
_Static_assert(sizeof(struct vhost_user_vring_addr) == 40, "vhost-user.rst, vring address");

#define VHOST_USER_VRING_LOG 1u

/* "Memory regions description". */
struct vhost_user_region {
	uint64_t guest_addr;
	uint64_t bytes;
	uint64_t user_addr;   /* where the front-end has it */
	uint64_t mmap_offset; /* of its first byte in the descriptor that comes with it */
};
_Static_assert(sizeof(struct vhost_user_region) == 32, "vhost-user.rst, Memory regions");

/* SET_MEM_TABLE: `count` regions follow, as many descriptors as regions, in their order.  The
 * specification has room for 8, which QEMU keeps to; Cloud Hypervisor sends up to 32. */
struct vhost_user_memory {
	uint32_t count;
	uint32_t padding;
};
_Static_assert(sizeof(struct vhost_user_memory) == 8, "vhost-user.rst, Memory regions");

#define VHOST_USER_MEM_TABLE_SPEC 8
#define VHOST_USER_MEM_TABLE_MAX 32

/* "Single memory region description": ADD_MEM_REG with one descriptor; REM_MEM_REG, which names a
 * region by all but its offset, with none, or with one to be closed unused. */
struct vhost_user_single_region {
	uint64_t padding;
	struct vhost_user_region region;
};
_Static_assert(sizeof(struct vhost_user_single_region) == 40, "vhost-user.rst, Single region");

/* "Log description": SET_LOG_BASE with a descriptor, where LOG_SHMFD was negotiated. */
struct vhost_user_log {
	uint64_t bytes;
	uint64_t mmap_offset;
};
_Static_assert(sizeof(struct vhost_user_log) == 16, "vhost-user.rst, Log description");

#define VHOST_USER_LOG_PAGE 4096u /* a bit each: "Migration" */

/* "Virtio device config space": GET_CONFIG and its answer, SET_CONFIG; `bytes` of the space
 * follow.  An answer without payload is an error. */
struct vhost_user_config {
	uint32_t offset;
	uint32_t bytes;
	uint32_t flags; /* VHOST_USER_CONFIG_* */
};
_Static_assert(sizeof(struct vhost_user_config) == 12, "vhost-user.rst, config space");

#define VHOST_USER_CONFIG_MAX 256u     /* QEMU's; the specification has no limit */
#define VHOST_USER_CONFIG_WRITABLE 0u  /* SET_CONFIG: only what the driver may write */
#define VHOST_USER_CONFIG_MIGRATION 1u /* SET_CONFIG: anything */

/* "Inflight description": GET_INFLIGHT_FD, whose answer has the descriptor, and SET_INFLIGHT_FD.
 * The specification ends at queue_size; QEMU and rust-vmm send sizeof() of a C struct, which is
 * padded, and QEMU refuses an answer of another size. */
struct vhost_user_inflight {
	uint64_t mmap_bytes;
	uint64_t mmap_offset;
	uint16_t queues;
	uint16_t queue_size;
	uint32_t padding;
};
_Static_assert(sizeof(struct vhost_user_inflight) == 24, "VhostUserInflight of QEMU");

#define VHOST_USER_INFLIGHT_SPEC_BYTES 20u

/* "Device state transfer parameters": SET_DEVICE_STATE_FD with a descriptor.  Its answer is a u64
 * whose low byte is an error and in which NOFD says that the front-end's descriptor is used. */
struct vhost_user_device_state {
	uint32_t direction; /* VHOST_USER_STATE_SAVE, VHOST_USER_STATE_LOAD */
	uint32_t phase;     /* VHOST_USER_STATE_STOPPED */
};
_Static_assert(sizeof(struct vhost_user_device_state) == 8, "vhost-user.rst, device state");

#define VHOST_USER_STATE_SAVE 0u
#define VHOST_USER_STATE_LOAD 1u
#define VHOST_USER_STATE_STOPPED 0u
#define VHOST_USER_STATE_ERROR_MASK 0xffull
#define VHOST_USER_STATE_NOFD 0x100ull

/* The longest payload of all of these, and the most descriptors: a receiver's caps. */
#define VHOST_USER_PAYLOAD_MAX                                                                     \
	(sizeof(struct vhost_user_memory) +                                                        \
	 VHOST_USER_MEM_TABLE_MAX * sizeof(struct vhost_user_region))
#define VHOST_USER_FDS_MAX VHOST_USER_MEM_TABLE_MAX
_Static_assert(VHOST_USER_PAYLOAD_MAX >= sizeof(struct vhost_user_config) + VHOST_USER_CONFIG_MAX,
	       "the longest payload is the memory table");

/* ---- the buffer of requests in flight: "Inflight I/O tracking", split virtqueues ---- */

struct vhost_user_inflight_desc {
	uint8_t inflight; /* of the request whose head this is */
	uint8_t padding[5];
	uint16_t next;    /* in the list of the last batch, which begins at last_batch_head */
	uint64_t counter; /* the order in which they were taken */
};
_Static_assert(sizeof(struct vhost_user_inflight_desc) == 16, "vhost-user.rst, DescStateSplit");

/* Of one queue.  Where in the buffer each queue's begins is the back-end's own affair. */
struct vhost_user_inflight_queue {
	uint64_t features; /* 0 */
	uint16_t version;  /* VHOST_USER_INFLIGHT_VERSION; 0: never used */
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
	struct vhost_user_inflight_desc desc[]; /* desc_num of them */
};
_Static_assert(sizeof(struct vhost_user_inflight_queue) == 16, "vhost-user.rst, QueueRegionSplit");

#define VHOST_USER_INFLIGHT_VERSION 1u

#endif
