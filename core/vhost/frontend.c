/* SPDX-License-Identifier: Apache-2.0 */
#include "core/vhost/frontend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "core/cc.h"
#include "core/vhost/inflight.h"
#include "core/vhost/memfile.h"
#include "devmodel/abi/virtio.h"

#define TRANSPORT_BITS (1ull << VHOST_USER_F_PROTOCOL_FEATURES | 1ull << VHOST_F_LOG_ALL)
#define LOG_BYTES_MAX (1ull << 37) /* a bit for each page there can be */

static int fail(struct frontend_result *r, int ret, const char *why)
{
	r->why = why;
	return ret;
}

void frontend_init(struct frontend *fe, const struct vhost_offer *offer)
{
	*fe = (struct frontend){ .offer = offer, .channel = -1, .log = { .fd = -1 } };
	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++)
		fe->rings[i].kick.fd = fe->rings[i].call.fd = fe->rings[i].err.fd = -1;
}

void frontend_clear(struct frontend *fe)
{
	regions_clear(&fe->regions);
	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++) {
		cc_close(&fe->rings[i].kick.fd);
		cc_close(&fe->rings[i].call.fd);
		cc_close(&fe->rings[i].err.fd);
	}
	cc_close(&fe->log.fd);
	cc_close(&fe->channel);
	frontend_init(fe, fe->offer);
}

/* ---- features ---- */

static int get_features(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	message_answer(m, sizeof(uint64_t), &r->out);
	r->out.payload.u64 = fe->offer->features | TRANSPORT_BITS;
	return 0;
}

static int set_features(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	if ((m->payload.u64 & ~(fe->offer->features | TRANSPORT_BITS)) != 0)
		return fail(r, -EINVAL, "features that were not offered");
	fe->features = m->payload.u64;
	fe->has_features = true;
	return 0;
}

/* QEMU warns of a device that offers a configuration and has none. */
static uint64_t protocol_offer(const struct frontend *fe)
{
	return fe->offer->config_bytes != 0
		       ? VHOST_PROTOCOL_OFFER
		       : VHOST_PROTOCOL_OFFER & ~VHOST_USER_PROTOCOL_BIT(CONFIG);
}

static int get_protocol(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	message_answer(m, sizeof(uint64_t), &r->out);
	r->out.payload.u64 = protocol_offer(fe);
	return 0;
}

static int set_protocol(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	if ((m->payload.u64 & ~protocol_offer(fe)) != 0)
		return fail(r, -EINVAL, "protocol features that were not offered");
	fe->protocol = m->payload.u64;
	return 0;
}

static int get_queue_num(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	message_answer(m, sizeof(uint64_t), &r->out);
	r->out.payload.u64 = fe->offer->queues;
	return 0;
}

static int set_owner(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	(void)fe, (void)m, (void)r;
	return 0; /* who is connected owns it */
}

uint64_t frontend_features(const struct frontend *fe)
{
	return fe->features & ~TRANSPORT_BITS;
}

/* ---- memory ---- */

static int add_region(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	return regions_add(&fe->regions, &m->payload.region.region, message_take_fd(m, 0), &r->why);
}

static int remove_region(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	if (regions_remove(&fe->regions, &m->payload.region.region) == 0)
		return 0;
	return fail(r, -ENOENT, "no region is exactly that one");
}

static int set_table(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	const struct vhost_memory_payload *memory = &m->payload.memory;
	const uint32_t count = memory->head.count;
	struct vhost_regions table = { .count = 0 };
	int ret = 0;

	if (count > VHOST_USER_MEM_TABLE_MAX || count != m->fd_count ||
	    m->header.size != sizeof(memory->head) + count * sizeof(memory->regions[0]))
		return fail(r, -EINVAL, "a table whose regions, descriptors and length differ");
	for (uint32_t i = 0; i < count && ret == 0; i++)
		ret = regions_add(&table, &memory->regions[i], message_take_fd(m, i), &r->why);
	if (ret != 0) {
		regions_clear(&table);
		return ret;
	}
	regions_clear(&fe->regions);
	fe->regions = table;
	return 0;
}

static int get_slots(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	(void)fe;
	message_answer(m, sizeof(uint64_t), &r->out);
	r->out.payload.u64 = VHOST_REGIONS_MAX;
	return 0;
}

void frontend_save(const struct frontend *fe, struct frontend_saved *saved)
{
	saved->regions.count = 0;
	regions_copy(&saved->regions, &fe->regions);
}

void frontend_undo(struct frontend *fe, struct frontend_saved *saved)
{
	regions_clear(&fe->regions);
	fe->regions = saved->regions;
	saved->regions.count = 0;
}

void frontend_forget(struct frontend_saved *saved)
{
	regions_clear(&saved->regions);
}

/* ---- the log of written pages ---- */

static int set_log(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	const struct vhost_user_log *log = &m->payload.log;
	uint64_t page_bytes;

	if (log->bytes == 0 || log->bytes > LOG_BYTES_MAX || log->mmap_offset % 4096 != 0 ||
	    log->mmap_offset > INT64_MAX - log->bytes)
		return fail(r, -EINVAL, "a log of no size, or at no page");
	if (memfile_check(m->fds[0], log->mmap_offset + log->bytes, &page_bytes, &r->why) != 0)
		return -EBADF;
	cc_close(&fe->log.fd);
	fe->log = (struct vhost_log_area){ .fd = message_take_fd(m, 0),
					   .serial = ++fe->serials,
					   .offset = log->mmap_offset,
					   .bytes = log->bytes };
	message_answer(m, sizeof(uint64_t), &r->out);
	return 0;
}

bool frontend_logs(const struct frontend *fe)
{
	return fe->log.fd >= 0 && (fe->features >> VHOST_F_LOG_ALL & 1) != 0;
}

/* ---- rings ---- */

static struct vhost_ring *find_ring(struct frontend *fe, uint64_t index, struct frontend_result *r)
{
	if (index < fe->offer->queues)
		return &fe->rings[index];
	r->why = "no ring of that number";
	return NULL;
}

static int set_num(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	const uint32_t size = m->payload.state.num;
	struct vhost_ring *ring = find_ring(fe, m->payload.state.index, r);

	if (ring == NULL)
		return -EINVAL;
	if (size == 0 || size > VIRTQ_SIZE_MAX || (size & (size - 1)) != 0)
		return fail(r, -EINVAL, "a size that is no power of two from 1 to 1024");
	ring->size = size;
	return 0;
}

static int set_addr(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	struct vhost_ring *ring = find_ring(fe, m->payload.addr.index, r);

	if (ring == NULL)
		return -EINVAL;
	if ((m->payload.addr.flags & ~VHOST_USER_VRING_LOG) != 0)
		return fail(r, -EINVAL, "flags that nobody knows");
	if (m->payload.addr.desc_user_addr % 16 != 0 || m->payload.addr.avail_user_addr % 2 != 0 ||
	    m->payload.addr.used_user_addr % 4 != 0)
		return fail(r, -EINVAL, "a ring that is not aligned");
	ring->addr = m->payload.addr;
	ring->has_addr = true;
	return 0;
}

static int set_base(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	struct vhost_ring *ring = find_ring(fe, m->payload.state.index, r);

	if (ring == NULL)
		return -EINVAL;
	if (m->payload.state.num > UINT16_MAX)
		return fail(r, -EINVAL, "an index of more than 16 bits");
	ring->base = (uint16_t)m->payload.state.num;
	ring->served = false;
	return 0;
}

static int get_base(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	struct vhost_ring *ring = find_ring(fe, m->payload.state.index, r);

	if (ring == NULL)
		return -EINVAL;
	ring->started = false;
	r->errand = FRONTEND_BASE;
	r->index = m->payload.state.index;
	message_answer(m, sizeof(m->payload.state), &r->out);
	r->out.payload.state.index = r->index;
	return 0;
}

static void say_enabled(struct vhost_ring *ring, bool enabled)
{
	ring->enabled = enabled;
	ring->enabled_said = true;
}

static int set_enable(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	struct vhost_ring *ring = find_ring(fe, m->payload.state.index, r);

	if (ring == NULL)
		return -EINVAL;
	if (m->payload.state.num > 1)
		return fail(r, -EINVAL, "neither 0 nor 1");
	say_enabled(ring, m->payload.state.num == 1);
	return 0;
}

/* Features may come after the ring: so it is not decided when it starts. */
static bool is_enabled(const struct frontend *fe, const struct vhost_ring *ring)
{
	if (ring->enabled_said)
		return ring->enabled;
	return (fe->features >> VHOST_USER_F_PROTOCOL_FEATURES & 1) == 0;
}

static bool is_eventfd(int fd)
{
	static const char name[] = "anon_inode:[eventfd]";
	char path[32], text[sizeof(name)];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, text, sizeof(text)) == (ssize_t)sizeof(name) - 1 &&
	       memcmp(text, name, sizeof(name) - 1) == 0;
}

/* The descriptor of a message, if it is what it should be.  Non-blocking: who writes to a full one, or reads
 * one that somebody else emptied, would wait for the front-end. */
static int take_eventfd(struct frontend *fe, struct vhost_message *m, struct vhost_eventfd *slot,
			struct frontend_result *r)
{
	const int flags = m->fd_count == 1 ? fcntl(m->fds[0], F_GETFL) : 0;

	if ((m->payload.u64 & ~(VHOST_USER_VRING_IDX_MASK | VHOST_USER_VRING_NOFD)) != 0 ||
	    ((m->payload.u64 & VHOST_USER_VRING_NOFD) != 0) != (m->fd_count == 0))
		return fail(r, -EINVAL, "a descriptor and a flag that says there is none");
	if (m->fd_count == 1 &&
	    (flags < 0 || !is_eventfd(m->fds[0]) ||
	     ((flags & O_NONBLOCK) == 0 && fcntl(m->fds[0], F_SETFL, flags | O_NONBLOCK) != 0)))
		return fail(r, -EBADF, "its descriptor is not an eventfd");
	cc_close(&slot->fd);
	slot->fd = m->fd_count == 1 ? message_take_fd(m, 0) : -1;
	slot->serial = ++fe->serials;
	return 0;
}

static int set_kick(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	struct vhost_ring *ring = find_ring(fe, m->payload.u64 & VHOST_USER_VRING_IDX_MASK, r);
	int ret;

	if (ring == NULL)
		return -EINVAL;
	if ((m->payload.u64 & VHOST_USER_VRING_NOFD) != 0)
		return fail(r, -EOPNOTSUPP, "rings are not polled here: a kick must come with it");
	ret = take_eventfd(fe, m, &ring->kick, r);
	if (ret != 0)
		return ret;
	ring->started = true;
	ring->enabled_said =
		ring->enabled; /* that it was disabled was said of what it was before */
	return 0;
}

static int set_call(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	struct vhost_ring *ring = find_ring(fe, m->payload.u64 & VHOST_USER_VRING_IDX_MASK, r);

	return ring == NULL ? -EINVAL : take_eventfd(fe, m, &ring->call, r);
}

static int set_err(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	struct vhost_ring *ring = find_ring(fe, m->payload.u64 & VHOST_USER_VRING_IDX_MASK, r);

	return ring == NULL ? -EINVAL : take_eventfd(fe, m, &ring->err, r);
}

static int reset_owner(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	(void)m, (void)r;
	for (uint32_t i = 0; i < fe->offer->queues; i++)
		say_enabled(&fe->rings[i], false);
	return 0;
}

bool frontend_serves(const struct frontend *fe, uint32_t index)
{
	const struct vhost_ring *ring = &fe->rings[index];

	return fe->has_features && ring->started && is_enabled(fe, ring) && ring->size != 0 &&
	       ring->has_addr;
}

int frontend_place(const struct frontend *fe, uint32_t index, struct ctl_queue *queue)
{
	const struct vhost_ring *ring = &fe->rings[index];
	const uint16_t size = (uint16_t)ring->size;

	*queue = (struct ctl_queue){ .size = size };
	if (regions_gpa(&fe->regions, ring->addr.desc_user_addr, virtq_desc_bytes(size),
			&queue->desc_gpa) != 0 ||
	    regions_gpa(&fe->regions, ring->addr.avail_user_addr, virtq_avail_bytes(size),
			&queue->avail_gpa) != 0 ||
	    regions_gpa(&fe->regions, ring->addr.used_user_addr, virtq_used_bytes(size),
			&queue->used_gpa) != 0)
		return -EFAULT;
	return 0;
}

/* A device of ours completes in order, and what it had begun when it was stopped it had not: used->idx is where
 * it goes on, and what it would say itself. */
uint16_t frontend_base(struct frontend *fe, uint32_t index)
{
	struct vhost_ring *ring = &fe->rings[index];
	uint16_t used;

	if (ring->served && regions_used(&fe->regions, ring->addr.used_user_addr, &used) == 0)
		ring->base = used;
	ring->served = false;
	return ring->base;
}

/* ---- configuration ---- */

static int get_config(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	const struct vhost_user_config *config = &m->payload.config.head;
	const uint32_t bytes = config->bytes;

	if (bytes > VHOST_USER_CONFIG_MAX || config->offset > VHOST_USER_CONFIG_MAX - bytes ||
	    m->header.size != sizeof(*config) + bytes) {
		message_answer(m, 0, &r->out); /* how this answer says that it is none */
		return 0;
	}
	message_answer(m, m->header.size, &r->out);
	r->out.payload.config.head = *config;
	memcpy(r->out.payload.config.space, fe->offer->config + config->offset, bytes);
	return 0;
}

static int set_config(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	(void)fe, (void)m;
	return fail(r, -EPERM, "nothing in the configuration is the driver's");
}

/* ---- requests in flight, state ---- */

static int get_inflight(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	struct vhost_user_inflight answer;
	int ret = inflight_make(&m->payload.inflight, fe->offer->queues, &answer, &r->out_fd);

	if (ret != 0)
		return fail(r, ret, "no buffer can be made for these rings");
	message_answer(m, m->header.size, &r->out);
	r->out.payload.inflight = answer;
	return 0;
}

/* What it says is known already (core/vhost/inflight.h). */
static int set_inflight(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	return inflight_check(&m->payload.inflight, fe->offer->queues, m->fds[0], &r->why);
}

static bool is_suspended(const struct frontend *fe)
{
	for (uint32_t i = 0; i < fe->offer->queues; i++) {
		if (fe->rings[i].started)
			return false;
	}
	return true;
}

static int set_transfer(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	const struct vhost_user_device_state *t = &m->payload.transfer;

	if (t->direction > VHOST_USER_STATE_LOAD || t->phase != VHOST_USER_STATE_STOPPED)
		return fail(r, -EINVAL, "a direction or a phase that nobody knows");
	if (!is_suspended(fe))
		return fail(r, -EBUSY, "its rings are not stopped");
	r->errand = FRONTEND_TRANSFER;
	message_answer(m, sizeof(uint64_t), &r->out);
	r->out.payload.u64 = VHOST_USER_STATE_NOFD;
	return 0;
}

static int check_transfer(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	(void)fe;
	r->errand = FRONTEND_CHECK;
	message_answer(m, sizeof(uint64_t), &r->out);
	return 0;
}

static int set_channel(struct frontend *fe, struct vhost_message *m, struct frontend_result *r)
{
	struct sockaddr_storage name = { 0 };
	socklen_t bytes = sizeof(name);

	if (getsockname(m->fds[0], (struct sockaddr *)&name, &bytes) != 0 ||
	    name.ss_family != AF_UNIX)
		return fail(r, -EBADF, "its descriptor is not a unix socket");
	cc_close(&fe->channel);
	fe->channel = message_take_fd(m, 0);
	return 0;
}

/* ---- the table ---- */

static int (*const takes[VHOST_USER_REQUEST_COUNT])(struct frontend *, struct vhost_message *,
						    struct frontend_result *) = {
	[VHOST_USER_GET_FEATURES] = get_features,
	[VHOST_USER_SET_FEATURES] = set_features,
	[VHOST_USER_SET_OWNER] = set_owner,
	[VHOST_USER_RESET_OWNER] = reset_owner,
	[VHOST_USER_SET_MEM_TABLE] = set_table,
	[VHOST_USER_SET_LOG_BASE] = set_log,
	[VHOST_USER_SET_VRING_NUM] = set_num,
	[VHOST_USER_SET_VRING_ADDR] = set_addr,
	[VHOST_USER_SET_VRING_BASE] = set_base,
	[VHOST_USER_GET_VRING_BASE] = get_base,
	[VHOST_USER_SET_VRING_KICK] = set_kick,
	[VHOST_USER_SET_VRING_CALL] = set_call,
	[VHOST_USER_SET_VRING_ERR] = set_err,
	[VHOST_USER_GET_PROTOCOL_FEATURES] = get_protocol,
	[VHOST_USER_SET_PROTOCOL_FEATURES] = set_protocol,
	[VHOST_USER_GET_QUEUE_NUM] = get_queue_num,
	[VHOST_USER_SET_VRING_ENABLE] = set_enable,
	[VHOST_USER_SET_BACKEND_REQ_FD] = set_channel,
	[VHOST_USER_GET_CONFIG] = get_config,
	[VHOST_USER_SET_CONFIG] = set_config,
	[VHOST_USER_GET_INFLIGHT_FD] = get_inflight,
	[VHOST_USER_SET_INFLIGHT_FD] = set_inflight,
	[VHOST_USER_GET_MAX_MEM_SLOTS] = get_slots,
	[VHOST_USER_ADD_MEM_REG] = add_region,
	[VHOST_USER_REM_MEM_REG] = remove_region,
	[VHOST_USER_SET_DEVICE_STATE_FD] = set_transfer,
	[VHOST_USER_CHECK_DEVICE_STATE] = check_transfer,
};

int frontend_take(struct frontend *fe, struct vhost_message *message, struct frontend_result *r)
{
	const uint32_t request = message->header.request;

	*r = (struct frontend_result){ .why = "", .out_fd = -1 };
	CHECK(request < ARRAY_SIZE(takes) && takes[request] != NULL); /* message_check() */
	return takes[request](fe, message, r);
}
