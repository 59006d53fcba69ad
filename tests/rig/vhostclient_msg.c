/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of a vhostclient: each kind of them, and each that is more than its kind. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/cc.h"
#include "tests/rig/vhostclient.h"

/* ---- by kind ---- */

static bool answers(const struct vhostclient_message *m, uint32_t request)
{
	return m->header.request == request &&
	       m->header.flags == (VHOST_USER_VERSION | VHOST_USER_REPLY);
}

int vhostclient_ask(struct vhostclient *c, struct vhostclient_message *m, const int *fds,
		    uint32_t fd_count, int *fd)
{
	const uint32_t request = m->header.request;
	uint32_t got = fd != NULL;
	int ret = vhostclient_send(c, m, fds, fd_count);

	if (fd != NULL)
		*fd = -1;
	if (ret == 0)
		ret = vhostclient_receive(c, m, fd, fd != NULL ? &got : NULL);
	if (ret != 0 || answers(m, request))
		return ret;
	if (fd != NULL)
		cc_close(fd);
	return -EPROTO;
}

/* Takes the payload of an answer that must have exactly so many bytes. */
static int take(const struct vhostclient_message *m, void *payload, size_t bytes)
{
	if (m->header.size != bytes)
		return -EPROTO;
	memcpy(payload, m->payload, bytes);
	return 0;
}

static bool about_memory(uint32_t request)
{
	return request == VHOST_USER_SET_MEM_TABLE || request == VHOST_USER_ADD_MEM_REG ||
	       request == VHOST_USER_REM_MEM_REG;
}

static bool acknowledged(const struct vhostclient *c, uint32_t request)
{
	if (!(c->protocol & VHOST_USER_PROTOCOL_BIT(REPLY_ACK)))
		return false;
	return c->acks == VHOSTCLIENT_ACK_ALL ||
	       (c->acks == VHOSTCLIENT_ACK_MEMORY && about_memory(request));
}

int vhostclient_tell(struct vhostclient *c, uint32_t request, const void *payload, size_t bytes,
		     const int *fds, uint32_t fd_count)
{
	struct vhostclient_message m;
	uint64_t refused = 0;
	int ret;

	vhostclient_fill(&m, request, payload, bytes);
	if (!acknowledged(c, request))
		return vhostclient_send(c, &m, fds, fd_count);
	m.header.flags |= VHOST_USER_NEED_REPLY;
	ret = vhostclient_ask(c, &m, fds, fd_count, NULL);
	if (ret == 0)
		ret = take(&m, &refused, sizeof(refused));
	return ret == 0 && refused != 0 ? -EREMOTEIO : ret;
}

int vhostclient_get(struct vhostclient *c, uint32_t request, uint64_t *value)
{
	struct vhostclient_message m;
	int ret;

	vhostclient_fill(&m, request, NULL, 0);
	ret = vhostclient_ask(c, &m, NULL, 0, NULL);
	return ret != 0 ? ret : take(&m, value, sizeof(*value));
}

int vhostclient_set(struct vhostclient *c, uint32_t request, uint64_t value)
{
	return vhostclient_tell(c, request, &value, sizeof(value), NULL, 0);
}

int vhostclient_set_state(struct vhostclient *c, uint32_t request, uint32_t queue, uint32_t num)
{
	const struct vhost_user_vring_state state = { .index = queue, .num = num };

	return vhostclient_tell(c, request, &state, sizeof(state), NULL, 0);
}

int vhostclient_set_eventfd(struct vhostclient *c, uint32_t request, uint32_t queue, int fd)
{
	const uint64_t value = queue | (fd < 0 ? VHOST_USER_VRING_NOFD : 0);

	return vhostclient_tell(c, request, &value, sizeof(value), &fd, fd < 0 ? 0 : 1);
}

int vhostclient_sync(struct vhostclient *c)
{
	uint64_t features;

	return vhostclient_get_features(c, &features);
}

/* ---- rings ---- */

int vhostclient_get_vring_base(struct vhostclient *c, uint32_t queue, uint32_t *base)
{
	struct vhost_user_vring_state state = { .index = queue };
	struct vhostclient_message m;
	int ret;

	vhostclient_fill(&m, VHOST_USER_GET_VRING_BASE, &state, sizeof(state));
	ret = vhostclient_ask(c, &m, NULL, 0, NULL);
	if (ret == 0)
		ret = take(&m, &state, sizeof(state));
	if (ret == 0 && state.index != queue)
		ret = -EPROTO;
	*base = ret == 0 ? state.num : 0;
	return ret;
}

int vhostclient_set_vring_addr(struct vhostclient *c, const struct vhost_user_vring_addr *addr)
{
	return vhostclient_tell(c, VHOST_USER_SET_VRING_ADDR, addr, sizeof(*addr), NULL, 0);
}

/* ---- memory ---- */

int vhostclient_set_mem_table(struct vhostclient *c, const struct vhost_user_region *regions,
			      const int *fds, uint32_t count)
{
	const struct vhost_user_memory memory = { .count = count };
	uint8_t payload[VHOST_USER_PAYLOAD_MAX];

	if (count > VHOST_USER_MEM_TABLE_MAX)
		return -ENOSPC;
	memcpy(payload, &memory, sizeof(memory));
	memcpy(payload + sizeof(memory), regions, count * sizeof(*regions));
	return vhostclient_tell(c, VHOST_USER_SET_MEM_TABLE, payload,
				sizeof(memory) + count * sizeof(*regions), fds, count);
}

static int tell_region(struct vhostclient *c, uint32_t request,
		       const struct vhost_user_region *region, int fd)
{
	const struct vhost_user_single_region single = { .region = *region };

	return vhostclient_tell(c, request, &single, sizeof(single), &fd, fd < 0 ? 0 : 1);
}

int vhostclient_add_mem_reg(struct vhostclient *c, const struct vhost_user_region *region, int fd)
{
	return tell_region(c, VHOST_USER_ADD_MEM_REG, region, fd);
}

int vhostclient_rem_mem_reg(struct vhostclient *c, const struct vhost_user_region *region, int fd)
{
	return tell_region(c, VHOST_USER_REM_MEM_REG, region, fd);
}

int vhostclient_set_log_base(struct vhostclient *c, uint64_t bytes, uint64_t offset, int fd)
{
	const struct vhost_user_log log = { .bytes = bytes, .mmap_offset = offset };
	struct vhostclient_message m;

	if (!(c->protocol & VHOST_USER_PROTOCOL_BIT(LOG_SHMFD)))
		return vhostclient_tell(c, VHOST_USER_SET_LOG_BASE, &log, sizeof(log), &fd, 1);
	vhostclient_fill(&m, VHOST_USER_SET_LOG_BASE, &log, sizeof(log));
	return vhostclient_ask(c, &m, &fd, 1, NULL); /* its payload means nothing */
}

/* ---- configuration space ---- */

int vhostclient_get_config(struct vhostclient *c, uint32_t offset, void *space, uint32_t bytes)
{
	const struct vhost_user_config config = { .offset = offset, .bytes = bytes };
	struct vhostclient_message m;
	int ret;

	CHECK(bytes <= VHOST_USER_CONFIG_MAX);
	vhostclient_fill(&m, VHOST_USER_GET_CONFIG, &config, sizeof(config));
	memset(m.payload + sizeof(config), 0, bytes);
	m.header.size += bytes;
	ret = vhostclient_ask(c, &m, NULL, 0, NULL);
	if (ret != 0)
		return ret;
	if (m.header.size == 0)
		return -EREMOTEIO;
	if (m.header.size != sizeof(config) + bytes)
		return -EPROTO;
	memcpy(space, m.payload + sizeof(config), bytes);
	return 0;
}

int vhostclient_set_config(struct vhostclient *c, uint32_t offset, const void *space,
			   uint32_t bytes, uint32_t flags)
{
	const struct vhost_user_config config = { .offset = offset,
						  .bytes = bytes,
						  .flags = flags };
	uint8_t payload[sizeof(config) + VHOST_USER_CONFIG_MAX];

	CHECK(bytes <= VHOST_USER_CONFIG_MAX);
	memcpy(payload, &config, sizeof(config));
	memcpy(payload + sizeof(config), space, bytes);
	return vhostclient_tell(c, VHOST_USER_SET_CONFIG, payload, sizeof(config) + bytes, NULL, 0);
}

/* ---- state ---- */

int vhostclient_get_inflight_fd(struct vhostclient *c, struct vhost_user_inflight *d, int *fd)
{
	struct vhostclient_message m;
	int ret;

	vhostclient_fill(&m, VHOST_USER_GET_INFLIGHT_FD, d, sizeof(*d));
	ret = vhostclient_ask(c, &m, NULL, 0, fd);
	if (ret == 0)
		ret = take(&m, d, sizeof(*d));
	if (ret == 0 && (*fd < 0 || d->mmap_bytes == 0))
		ret = -EREMOTEIO;
	if (ret != 0)
		cc_close(fd);
	return ret;
}

int vhostclient_set_inflight_fd(struct vhostclient *c, const struct vhost_user_inflight *d, int fd)
{
	return vhostclient_tell(c, VHOST_USER_SET_INFLIGHT_FD, d, sizeof(*d), &fd, 1);
}

int vhostclient_set_backend_req_fd(struct vhostclient *c, int fd)
{
	return vhostclient_tell(c, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &fd, 1);
}

int vhostclient_set_device_state_fd(struct vhostclient *c, uint32_t direction, int fd, int *back)
{
	const struct vhost_user_device_state state = { .direction = direction,
						       .phase = VHOST_USER_STATE_STOPPED };
	struct vhostclient_message m;
	uint64_t value = 0;
	int ret;

	vhostclient_fill(&m, VHOST_USER_SET_DEVICE_STATE_FD, &state, sizeof(state));
	ret = vhostclient_ask(c, &m, &fd, 1, back);
	if (ret == 0)
		ret = take(&m, &value, sizeof(value));
	if (ret == 0 && (value & VHOST_USER_STATE_ERROR_MASK) != 0)
		ret = -EREMOTEIO;
	else if (ret == 0 && (*back < 0) != ((value & VHOST_USER_STATE_NOFD) != 0))
		ret = -EPROTO;
	if (ret != 0)
		cc_close(back);
	return ret;
}
