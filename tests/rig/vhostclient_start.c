/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What QEMU 7.2 does with a vhost-user-blk back-end, message by message, in its order:
 * vhost_user_backend_init() and vhost_dev_init() at once, vhost_dev_start() when the driver is
 * ready, vhost_dev_stop() (hw/virtio/vhost-user.c, vhost.c, hw/block/vhost-user-blk.c).
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "core/cc.h"
#include "tests/rig/vhostclient.h"

/* ---- once connected ---- */

static bool has(const struct vhostclient *c, enum vhost_user_protocol_feature bit)
{
	return (c->protocol >> bit & 1) != 0;
}

static int agree_on_protocol(struct vhostclient *c)
{
	int ret = vhostclient_get_features(c, &c->offered);

	if (ret == 0 && !(c->offered >> VHOST_USER_F_PROTOCOL_FEATURES & 1))
		ret = -ENOTSUP;
	if (ret == 0)
		ret = vhostclient_get_protocol_features(c, &c->offered_protocol);
	if (ret != 0)
		return ret;
	/* Not acknowledged, as whether it may be is what it says. */
	c->protocol = 0;
	ret = vhostclient_set_protocol_features(c, c->offered_protocol & c->wanted_protocol);
	c->protocol = c->offered_protocol & c->wanted_protocol;
	return ret;
}

static int ask_limits(struct vhostclient *c, uint32_t queues)
{
	int ret = 0;

	c->queue_num = 0;
	c->mem_slots = 0;
	if (has(c, VHOST_USER_PROTOCOL_F_MQ))
		ret = vhostclient_get_queue_num(c, &c->queue_num);
	if (ret == 0 && queues > (c->queue_num != 0 ? c->queue_num : 1))
		ret = -ENOTSUP;
	if (ret == 0 && has(c, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
		ret = vhostclient_get_max_mem_slots(c, &c->mem_slots);
	return ret;
}

static int hand_over_channel(struct vhostclient *c)
{
	int pair[2], ret;

	if (!has(c, VHOST_USER_PROTOCOL_F_BACKEND_REQ))
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return -errno;
	c->sock_backend = pair[0];
	ret = vhostclient_set_backend_req_fd(c, pair[1]);
	cc_close(&pair[1]);
	return ret;
}

/* There is no driver yet that could be called. */
static int mask_calls(struct vhostclient *c, uint32_t queues)
{
	int ret = 0;

	c->fd_masked = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (c->fd_masked < 0)
		return -errno;
	for (uint32_t i = 0; i < queues && ret == 0; i++)
		ret = vhostclient_set_vring_call(c, i, c->fd_masked);
	return ret;
}

int vhostclient_negotiate(struct vhostclient *c, uint32_t queues)
{
	int ret = agree_on_protocol(c);

	if (ret == 0)
		ret = ask_limits(c, queues);
	if (ret == 0)
		ret = hand_over_channel(c);
	if (ret == 0)
		ret = vhostclient_set_owner(c);
	if (ret == 0)
		ret = vhostclient_get_features(c, &c->offered);
	if (ret == 0)
		ret = mask_calls(c, queues);
	if (ret == 0 && has(c, VHOST_USER_PROTOCOL_F_CONFIG))
		ret = vhostclient_get_config(c, 0, c->config, VHOSTCLIENT_CONFIG_BYTES);
	c->negotiated = ret == 0;
	return ret;
}

/* ---- memory ---- */

static struct vhost_user_region region_of(const struct mem_region *r)
{
	return (struct vhost_user_region){ .guest_addr = r->gpa,
					   .bytes = r->bytes,
					   .user_addr = r->addr };
}

static bool same_region(const struct vhost_user_region *a, const struct vhost_user_region *b)
{
	return a->guest_addr == b->guest_addr && a->bytes == b->bytes &&
	       a->user_addr == b->user_addr;
}

static bool in_memory(const struct guestmem *mem, const struct vhost_user_region *told)
{
	for (uint32_t i = 0; i < mem->map.count; i++) {
		const struct vhost_user_region r = region_of(&mem->map.regions[i]);

		if (same_region(&r, told))
			return true;
	}
	return false;
}

static bool was_told(const struct vhostclient *c, const struct vhost_user_region *region)
{
	for (uint32_t i = 0; i < c->region_count; i++) {
		if (same_region(&c->regions[i], region))
			return true;
	}
	return false;
}

static int remove_gone(struct vhostclient *c, const struct guestmem *mem)
{
	int ret = 0;

	for (uint32_t i = 0; i < c->region_count && ret == 0;) {
		if (in_memory(mem, &c->regions[i])) {
			i++;
			continue;
		}
		ret = vhostclient_rem_mem_reg(c, &c->regions[i], -1);
		if (ret == 0)
			c->regions[i] = c->regions[--c->region_count];
	}
	return ret;
}

static int add_new(struct vhostclient *c, const struct guestmem *mem)
{
	int ret = 0;

	for (uint32_t i = 0; i < mem->map.count && ret == 0; i++) {
		const struct vhost_user_region r = region_of(&mem->map.regions[i]);

		if (was_told(c, &r))
			continue;
		ret = vhostclient_add_mem_reg(c, &r, mem->fds[i]);
		if (ret == 0)
			c->regions[c->region_count++] = r;
	}
	return ret;
}

static int tell_table(struct vhostclient *c, const struct guestmem *mem)
{
	struct vhost_user_region regions[MEM_REGIONS_MAX];
	int ret;

	for (uint32_t i = 0; i < mem->map.count; i++)
		regions[i] = region_of(&mem->map.regions[i]);
	ret = vhostclient_set_mem_table(c, regions, mem->fds, mem->map.count);
	if (ret == 0) {
		memcpy(c->regions, regions, sizeof(regions));
		c->region_count = mem->map.count;
	}
	return ret;
}

int vhostclient_set_memory(struct vhostclient *c, const struct guestmem *mem)
{
	int ret;

	if (!has(c, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
		return tell_table(c, mem);
	if (mem->map.count > c->mem_slots)
		return -ENOSPC;
	ret = remove_gone(c, mem);
	return ret != 0 ? ret : add_new(c, mem);
}

/* ---- rings ---- */

static int choose_features(struct vhostclient *c, const struct ringdrv_queue *rings, uint32_t count)
{
	uint64_t features = 0;

	for (uint32_t i = 0; i < count; i++)
		features |= rings[i].config.features;
	if ((features & ~c->offered) != 0)
		return -ENOTSUP;
	features |= (c->wanted & c->offered) | 1ull << VHOST_USER_F_PROTOCOL_FEATURES;
	c->features = features;
	return vhostclient_set_features(c, features);
}

/* The same buffer for as long as the driver has not reset the device, across connections. */
static int share_inflight(struct vhostclient *c, const struct ringdrv_queue *rings, uint32_t count)
{
	int ret = 0;

	if (!has(c, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD))
		return 0;
	if (c->fd_inflight < 0) {
		c->inflight = (struct vhost_user_inflight){ .queues = (uint16_t)count,
							    .queue_size = rings[0].config.size };
		ret = vhostclient_get_inflight_fd(c, &c->inflight, &c->fd_inflight);
	}
	return ret != 0 ? ret : vhostclient_set_inflight_fd(c, &c->inflight, c->fd_inflight);
}

static int start_ring(struct vhostclient *c, const struct ringdrv_queue *q, uint32_t i)
{
	const uint16_t base = c->bases_known ? c->bases[i] : q->config.first_idx;
	const struct vhost_user_vring_addr addr = {
		.index = i,
		.desc_user_addr = (uint64_t)(uintptr_t)q->desc,
		.used_user_addr = (uint64_t)(uintptr_t)q->used,
		.avail_user_addr = (uint64_t)(uintptr_t)q->avail,
		.log_guest_addr = q->used_gpa,
	};
	int ret = vhostclient_set_vring_num(c, i, q->config.size);

	if (ret == 0)
		ret = vhostclient_set_vring_base(c, i, base);
	if (ret == 0)
		ret = vhostclient_set_vring_addr(c, &addr);
	if (ret == 0)
		ret = vhostclient_set_vring_kick(c, i, q->fd_kick);
	return ret != 0 ? ret : vhostclient_set_vring_call(c, i, q->fd_call);
}

static int start_rings(struct vhostclient *c)
{
	int ret = 0;

	for (uint32_t i = 0; i < c->ring_count && ret == 0; i++)
		ret = start_ring(c, &c->rings[i], i);
	for (uint32_t i = 0; i < c->ring_count && ret == 0; i++)
		ret = vhostclient_set_vring_enable(c, i, 1);
	return ret;
}

int vhostclient_start(struct vhostclient *c, const struct guestmem *mem,
		      struct ringdrv_queue *rings, uint32_t count)
{
	int ret = c->negotiated ? 0 : vhostclient_negotiate(c, count);

	CHECK(count > 0 && count <= BOX_QUEUES_MAX);
	if (ret == 0)
		ret = choose_features(c, rings, count);
	if (ret == 0)
		ret = share_inflight(c, rings, count);
	if (ret == 0)
		ret = vhostclient_set_features(c, c->features); /* twice, as QEMU does */
	if (ret == 0)
		ret = vhostclient_set_memory(c, mem);
	if (ret != 0)
		return ret;
	c->rings = rings;
	c->ring_count = count;
	ret = start_rings(c);
	return ret != 0 ? ret : vhostclient_sync(c);
}

void vhostclient_set_bases(struct vhostclient *c, const uint32_t *bases, uint32_t count)
{
	CHECK(count <= BOX_QUEUES_MAX);
	for (uint32_t i = 0; i < count; i++)
		c->bases[i] = (uint16_t)bases[i];
	c->bases_known = true;
}

int vhostclient_stop(struct vhostclient *c, uint32_t *bases)
{
	uint32_t base;
	int ret = 0;

	for (uint32_t i = 0; i < c->ring_count && ret == 0; i++)
		ret = vhostclient_set_vring_enable(c, i, 0);
	for (uint32_t i = 0; i < c->ring_count && ret == 0; i++) {
		ret = vhostclient_get_vring_base(c, i, &base);
		c->bases[i] = (uint16_t)base;
		if (bases != NULL)
			bases[i] = base;
	}
	if (ret == 0) {
		c->bases_known = true;
		c->ring_count = 0;
	}
	return ret;
}
