/* SPDX-License-Identifier: Apache-2.0 */
#include "core/vhost/message.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "core/cc.h"

#define NONE 0
#define U64 sizeof(uint64_t)
#define STATE sizeof(struct vhost_user_vring_state)
#define ADDR sizeof(struct vhost_user_vring_addr)
#define MEMORY sizeof(struct vhost_user_memory)
#define REGION sizeof(struct vhost_user_single_region)
#define LOG sizeof(struct vhost_user_log)
#define CONFIG sizeof(struct vhost_user_config)
#define INFLIGHT sizeof(struct vhost_user_inflight)
#define TRANSFER sizeof(struct vhost_user_device_state)
#define F(NAME) (1ull << VHOST_USER_PROTOCOL_F_##NAME) /* not of what CONFIG is here */

/* What is served: name, payload from, to, descriptors from, to, needs, has an answer of its own. */
#define RULE(NAME, min_, max_, fds_min_, fds_max_, needs_, answers_)                               \
	[VHOST_USER_##NAME] = { true, (min_), (max_), (fds_min_), (fds_max_), (needs_), (answers_) }

static const struct rule {
	bool served;
	uint16_t min, max;
	uint8_t fds_min, fds_max;
	uint64_t needs;
	bool answers;
} rules[VHOST_USER_REQUEST_COUNT] = {
	/* clang-format off */
	RULE(GET_FEATURES,          NONE, NONE, 0, 0, 0, true),
	RULE(SET_FEATURES,          U64, U64, 0, 0, 0, false),
	RULE(SET_OWNER,             NONE, NONE, 0, 0, 0, false),
	RULE(RESET_OWNER,           NONE, NONE, 0, 0, 0, false),
	RULE(SET_MEM_TABLE,         MEMORY, VHOST_USER_PAYLOAD_MAX, 0, VHOST_USER_MEM_TABLE_MAX, 0, false),
	RULE(SET_LOG_BASE,          LOG, LOG, 1, 1, F(LOG_SHMFD), true),
	RULE(SET_VRING_NUM,         STATE, STATE, 0, 0, 0, false),
	RULE(SET_VRING_ADDR,        ADDR, ADDR, 0, 0, 0, false),
	RULE(SET_VRING_BASE,        STATE, STATE, 0, 0, 0, false),
	RULE(GET_VRING_BASE,        STATE, STATE, 0, 0, 0, true),
	RULE(SET_VRING_KICK,        U64, U64, 0, 1, 0, false),
	RULE(SET_VRING_CALL,        U64, U64, 0, 1, 0, false),
	RULE(SET_VRING_ERR,         U64, U64, 0, 1, 0, false),
	RULE(GET_PROTOCOL_FEATURES, NONE, NONE, 0, 0, 0, true),
	RULE(SET_PROTOCOL_FEATURES, U64, U64, 0, 0, 0, false),
	RULE(GET_QUEUE_NUM,         NONE, NONE, 0, 0, F(MQ), true),
	RULE(SET_VRING_ENABLE,      STATE, STATE, 0, 0, 0, false),
	RULE(SET_BACKEND_REQ_FD,    NONE, U64, 1, 1, F(BACKEND_REQ), false),
	RULE(GET_CONFIG,            CONFIG, CONFIG + VHOST_USER_CONFIG_MAX, 0, 0, F(CONFIG), true),
	RULE(SET_CONFIG,            CONFIG, CONFIG + VHOST_USER_CONFIG_MAX, 0, 0, F(CONFIG), false),
	RULE(GET_INFLIGHT_FD,       VHOST_USER_INFLIGHT_SPEC_BYTES, INFLIGHT, 0, 0, F(INFLIGHT_SHMFD), true),
	RULE(SET_INFLIGHT_FD,       VHOST_USER_INFLIGHT_SPEC_BYTES, INFLIGHT, 1, 1, F(INFLIGHT_SHMFD), false),
	RULE(GET_MAX_MEM_SLOTS,     NONE, NONE, 0, 0, F(CONFIGURE_MEM_SLOTS), true),
	RULE(ADD_MEM_REG,           REGION, REGION, 1, 1, F(CONFIGURE_MEM_SLOTS), false),
	RULE(REM_MEM_REG,           REGION, REGION, 0, 1, F(CONFIGURE_MEM_SLOTS), false),
	RULE(SET_DEVICE_STATE_FD,   TRANSFER, TRANSFER, 1, 1, F(DEVICE_STATE), true),
	RULE(CHECK_DEVICE_STATE,    NONE, NONE, 0, 0, F(DEVICE_STATE), true),
	/* clang-format on */
};

static int fail(int ret, const char **why, const char *text)
{
	*why = text;
	return ret;
}

static const struct rule *rule_of(uint32_t request)
{
	return request < ARRAY_SIZE(rules) ? &rules[request] : &rules[0];
}

const char *message_name(uint32_t request)
{
	static const char *const names[] = {
#define MESSAGE_NAME(NAME, number) [number] = #NAME,
		VHOST_REQUESTS(MESSAGE_NAME)
#undef MESSAGE_NAME
	};

	return request != 0 && request < ARRAY_SIZE(names) ? names[request] : "unknown request";
}

int message_check_header(const struct vhost_user_header *header, const char **why)
{
	const uint32_t known = VHOST_USER_VERSION_MASK | VHOST_USER_NEED_REPLY;

	if ((header->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION)
		return fail(-EPROTO, why, "not version 1 of the protocol");
	if ((header->flags & ~known) != 0)
		return fail(-EPROTO, why, "flags that a front-end does not send");
	if (header->size > VHOST_USER_PAYLOAD_MAX)
		return fail(-EPROTO, why, "a payload longer than any");
	return 0;
}

int message_check(const struct vhost_message *message, uint64_t protocol, const char **why)
{
	const struct rule *rule = rule_of(message->header.request);

	if (!rule->served)
		return fail(-EOPNOTSUPP, why, "not served here");
	if (message->header.size < rule->min || message->header.size > rule->max)
		return fail(-EPROTO, why, "a payload of the wrong size");
	if (message->fd_count < rule->fds_min || message->fd_count > rule->fds_max)
		return fail(-EPROTO, why, "the wrong number of descriptors");
	if ((rule->needs & ~protocol) != 0)
		return fail(-EOPNOTSUPP, why, "its protocol feature was not negotiated");
	return 0;
}

bool message_has_answer(uint32_t request)
{
	return rule_of(request)->answers;
}

bool message_wants_ack(const struct vhost_message *message, uint64_t protocol)
{
	return (message->header.flags & VHOST_USER_NEED_REPLY) != 0 &&
	       (protocol & VHOST_USER_PROTOCOL_BIT(REPLY_ACK)) != 0 &&
	       !message_has_answer(message->header.request);
}

int message_take_fd(struct vhost_message *message, uint32_t index)
{
	const int fd = message->fds[index];

	message->fds[index] = -1;
	return fd;
}

void message_close(struct vhost_message *message)
{
	for (uint32_t i = 0; i < message->fd_count; i++)
		cc_close(&message->fds[i]);
	message->fd_count = 0;
}

void message_answer(const struct vhost_message *message, uint32_t bytes, struct vhost_message *out)
{
	memset(out, 0, sizeof(*out));
	out->header = (struct vhost_user_header){
		.request = message->header.request,
		.flags = VHOST_USER_VERSION | VHOST_USER_REPLY,
		.size = bytes,
	};
}
