/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One vhost-user message and what is known of each before anybody acts on it: how long its payload may be, how
 * many descriptors come with it, which protocol features it needs, whether it has an answer of its own.  Pure:
 * no system call but the close of descriptors.
 */
#ifndef MAYFLY_CORE_VHOST_MESSAGE_H
#define MAYFLY_CORE_VHOST_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/vhost/protocol.h"

/* Protocol features that are offered.  Not STATUS: QEMU 7.2 writes 0 there before it asks for the bases. */
#define VHOST_PROTOCOL_OFFER                                                                       \
	(VHOST_USER_PROTOCOL_BIT(MQ) | VHOST_USER_PROTOCOL_BIT(LOG_SHMFD) |                        \
	 VHOST_USER_PROTOCOL_BIT(REPLY_ACK) | VHOST_USER_PROTOCOL_BIT(BACKEND_REQ) |               \
	 VHOST_USER_PROTOCOL_BIT(CONFIG) | VHOST_USER_PROTOCOL_BIT(INFLIGHT_SHMFD) |               \
	 VHOST_USER_PROTOCOL_BIT(CONFIGURE_MEM_SLOTS) | VHOST_USER_PROTOCOL_BIT(DEVICE_STATE))

/* Payloads of a head and what follows it: no flexible arrays, which clang has at the end of a struct only. */
struct vhost_memory_payload {
	struct vhost_user_memory head;
	struct vhost_user_region regions[VHOST_USER_MEM_TABLE_MAX];
};
struct vhost_config_payload {
	struct vhost_user_config head;
	uint8_t space[VHOST_USER_CONFIG_MAX];
};

struct vhost_message {
	struct vhost_user_header header;
	union {
		uint64_t u64;
		struct vhost_user_vring_state state;
		struct vhost_user_vring_addr addr;
		struct vhost_memory_payload memory;
		struct vhost_user_single_region region;
		struct vhost_user_log log;
		struct vhost_config_payload config;
		struct vhost_user_inflight inflight;
		struct vhost_user_device_state transfer;
		uint8_t bytes[VHOST_USER_PAYLOAD_MAX];
	} payload;                   /* header.size of it, the rest zeroes */
	int fds[VHOST_USER_FDS_MAX]; /* owned; -1: taken over by somebody */
	uint32_t fd_count;
};

/* "SET_FEATURES"; of a number that nobody knows: "request N". */
const char *message_name(uint32_t request);

/* A header alone, before anything is read by what it says.  0; -EPROTO with *why (static text): there is no
 * going on with this connection. */
int message_check_header(const struct vhost_user_header *header, const char **why);
/* A whole message, with the protocol features that were negotiated.  0; with *why (static text): -EPROTO its
 * size, its descriptors; -EOPNOTSUPP a request that is not served, or was not negotiated. */
int message_check(const struct vhost_message *message, uint64_t protocol, const char **why);

/* It is answered by a message of the same name, asked for or not. */
bool message_has_answer(uint32_t request);
/* The front-end waits for an acknowledgement. */
bool message_wants_ack(const struct vhost_message *message, uint64_t protocol);

/* Takes a descriptor out. */
int message_take_fd(struct vhost_message *message, uint32_t index);
/* Closes what nobody took. */
void message_close(struct vhost_message *message);

/* An answer to it, of so many bytes of payload, which are zeroes. */
void message_answer(const struct vhost_message *message, uint32_t bytes, struct vhost_message *out);

#endif
