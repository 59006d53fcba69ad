/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/box/ring.c: which used->idx a successor may go on from.  The expectation is worked out on
 * indices that do not wrap: so many requests were done at the last audit, so many are done now, so many
 * were offered; the device then sees the low 16 bits of each.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "devmodel/abi/virtio.h"

#define MEMORY_GPA 0x100000u
#define MEMORY_BYTES (2u << 20)
#define USED_GPA MEMORY_GPA
#define AVAIL_GPA (MEMORY_GPA + (1u << 20))
#define QUEUE_BYTES 0x80000u

static struct supervisor sup;
static struct device dev;
static uint8_t *memory;

static int setup(void **state)
{
	(void)state;
	memory = aligned_alloc(4096, MEMORY_BYTES);
	if (memory == NULL)
		return -1;
	memset(memory, 0xa5, MEMORY_BYTES);
	sup.memory.map.count = 1;
	sup.memory.map.regions[0] =
		(struct mem_region){ MEMORY_GPA, MEMORY_BYTES, (uint64_t)(uintptr_t)memory };
	memset(&dev, 0, sizeof(dev));
	dev.sup = &sup;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(memory);
	return 0;
}

static struct virtq_used *used_of(uint32_t queue)
{
	return (struct virtq_used *)(memory + queue * QUEUE_BYTES);
}

static struct virtq_avail *avail_of(uint32_t queue)
{
	return (struct virtq_avail *)(memory + (1u << 20) + queue * QUEUE_BYTES);
}

static void queue_set(uint32_t queue, uint16_t size, uint16_t audited, uint16_t used,
		      uint16_t avail)
{
	dev.spec.queues = queue + 1;
	dev.queues[queue] = (struct ctl_queue){ .used_gpa = USED_GPA + queue * QUEUE_BYTES,
						.avail_gpa = AVAIL_GPA + queue * QUEUE_BYTES,
						.size = size,
						.next = 0x5a5a };
	dev.audited[queue] = audited;
	used_of(queue)->idx = used;
	avail_of(queue)->idx = avail;
}

static int resume_one(uint16_t size, uint16_t audited, uint16_t used, uint16_t avail)
{
	uint32_t queue = 77;
	int ret;

	queue_set(0, size, audited, used, avail);
	ret = ring_resume(&dev, &queue);
	if (ret == 0) {
		assert_int_equal(dev.queues[0].next, used);
		assert_int_equal(dev.audited[0], used);
		assert_int_equal(dev.passage.in_flight, (uint16_t)(avail - used));
	} else {
		assert_int_equal(ret, -EPROTO);
		assert_int_equal(queue, 0);
		assert_int_equal(dev.audited[0], audited);
		assert_int_equal(dev.queues[0].next, 0x5a5a);
	}
	return ret;
}

static const uint16_t sizes[] = { 1, 2, 8, 256, 1024, 32768 };
static const uint16_t starts[] = { 0, 1, 255, 256, 32767, 32768, 65279, 65534, 65535 };

/* An honest device, however the indices lie about their wrap, so long as it was not lapped. */
static void honest(uint16_t size, uint32_t audited, uint32_t done, uint32_t in_flight)
{
	dev.passage.served = done;
	assert_int_equal(resume_one(size, (uint16_t)audited, (uint16_t)(audited + done),
				    (uint16_t)(audited + done + in_flight)),
			 0);
	/* The last of them done, and not yet counted. */
	dev.passage.served = done > 0 ? done - 1 : 0;
	assert_int_equal(resume_one(size, (uint16_t)audited, (uint16_t)(audited + done),
				    (uint16_t)(audited + done + in_flight)),
			 0);
}

static void test_honest(void **state)
{
	static const uint32_t dones[] = { 0,     1,     2,     255,   32767,  32768,   65000,
					  65534, 65535, 65536, 65537, 100000, 1u << 30 };

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		for (size_t a = 0; a < ARRAY_SIZE(starts); a++) {
			for (size_t d = 0; d < ARRAY_SIZE(dones); d++) {
				honest(sizes[s], starts[a], dones[d], 0);
				honest(sizes[s], starts[a], dones[d], 1);
				honest(sizes[s], starts[a], dones[d], sizes[s] / 2u);
				honest(sizes[s], starts[a], dones[d], sizes[s]);
			}
		}
	}
}

/* Each step of a device that serves three laps with a full ring: refused at none. */
static void test_every_step(void **state)
{
	(void)state;
	for (uint32_t done = 0; done < 3u << 16; done++)
		honest(256, 0, done, 256);
}

/* Every used and avail, near and far, against what they must mean. */
static void test_all_values(void **state)
{
	(void)state;
	dev.passage.served = 0;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		for (size_t a = 0; a < ARRAY_SIZE(starts); a++) {
			for (uint32_t offset = 0; offset < 65536; offset += 61) {
				const uint16_t avail = (uint16_t)(starts[a] + offset);

				for (uint32_t back = 0; back < 65536; back += back < 4 ? 1 : 257) {
					const uint16_t used = (uint16_t)(avail - back);
					const uint32_t done = (uint16_t)(used - starts[a]);
					const int want = back <= sizes[s] && done + back < 65536
								 ? 0
								 : -EPROTO;

					assert_int_equal(
						resume_one(sizes[s], starts[a], used, avail), want);
				}
			}
		}
	}
}

static void test_edges(void **state)
{
	(void)state;
	dev.passage.served = 100;
	for (size_t a = 0; a < ARRAY_SIZE(starts); a++) {
		const uint16_t base = starts[a];

		assert_int_equal(resume_one(256, base, base, (uint16_t)(base + 256)), 0);
		assert_int_equal(resume_one(256, base, base, (uint16_t)(base + 257)), -EPROTO);
		assert_int_equal(resume_one(256, base, (uint16_t)(base - 1), base), -EPROTO);
		assert_int_equal(resume_one(256, base, (uint16_t)(base + 1), base), -EPROTO);
		assert_int_equal(resume_one(256, base, (uint16_t)(base + 9), (uint16_t)(base + 8)),
				 -EPROTO);
		assert_int_equal(resume_one(256, base, (uint16_t)(base + 9), (uint16_t)(base + 9)),
				 0);
	}
	/* Behind the audit: refused before a lap may be over, then not to be told from a lap. */
	dev.passage.served = 65535 - 256 - 1;
	assert_int_equal(resume_one(256, 1000, 990, 1005), -EPROTO);
	dev.passage.served++;
	assert_int_equal(resume_one(256, 1000, 990, 1005), 0);
	/* What was never offered is refused whatever the old one says that it served. */
	dev.passage.served = UINT64_MAX;
	assert_int_equal(resume_one(256, 1000, 1006, 1005), -EPROTO);
	assert_int_equal(resume_one(256, 1000, 1005 - 257, 1005), -EPROTO);
}

/* The first start after a reset begins at 0, and the rings are not looked at. */
static void test_fresh(void **state)
{
	uint32_t queue;

	(void)state;
	queue_set(0, 256, 33, 5000, 9);
	queue_set(1, 256, 33, 5000, 9);
	dev.queues[1].used_gpa = 0; /* nowhere */
	dev.fresh = true;
	assert_int_equal(ring_resume(&dev, &queue), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(dev.queues[i].next, 0);
		assert_int_equal(dev.audited[i], 0);
	}
}

static void test_several_queues(void **state)
{
	uint32_t queue = 0;

	(void)state;
	queue_set(0, 4, 10, 12, 14);
	queue_set(1, 8, 65530, 2, 8);
	assert_int_equal(ring_resume(&dev, &queue), 0);
	assert_int_equal(dev.queues[0].next, 12);
	assert_int_equal(dev.queues[1].next, 2);
	assert_int_equal(dev.passage.in_flight, 2 + 6);
	used_of(1)->idx = 9;
	assert_int_equal(ring_resume(&dev, &queue), -EPROTO);
	assert_int_equal(queue, 1);
	dev.queues[1].size = 0; /* not enabled: not looked at */
	assert_int_equal(ring_resume(&dev, &queue), 0);
	assert_int_equal(dev.passage.in_flight, 2);
}

/* The guest chose the addresses. */
static void test_addresses(void **state)
{
	static const struct {
		uint64_t used_gpa, avail_gpa;
		int want;
	} cases[] = {
		{ USED_GPA, AVAIL_GPA, 0 },
		{ USED_GPA + 2, AVAIL_GPA, -EPROTO },
		{ USED_GPA + 4, AVAIL_GPA, 0 },
		{ USED_GPA, AVAIL_GPA + 1, -EPROTO },
		{ USED_GPA, AVAIL_GPA + 2, 0 },
		{ USED_GPA - 4, AVAIL_GPA, -EPROTO },
		{ USED_GPA, MEMORY_GPA + MEMORY_BYTES - 4, -EPROTO },
		{ MEMORY_GPA + MEMORY_BYTES - 8, AVAIL_GPA, -EPROTO },
		{ UINT64_MAX - 3, AVAIL_GPA, -EPROTO },
		{ USED_GPA, UINT64_MAX - 1, -EPROTO },
		{ 0, AVAIL_GPA, -EPROTO },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t queue;

		queue_set(0, 8, 0, 0, 0);
		memset(memory, 0, MEMORY_BYTES);
		dev.queues[0].used_gpa = cases[i].used_gpa;
		dev.queues[0].avail_gpa = cases[i].avail_gpa;
		assert_int_equal(ring_resume(&dev, &queue), cases[i].want);
	}
}

int main(void)
{
#define RING_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		RING_TEST(test_honest),     RING_TEST(test_every_step),
		RING_TEST(test_all_values), RING_TEST(test_edges),
		RING_TEST(test_fresh),      RING_TEST(test_several_queues),
		RING_TEST(test_addresses),
	};

	return cmocka_run_group_tests_name("ring resume", tests, NULL, NULL);
}
