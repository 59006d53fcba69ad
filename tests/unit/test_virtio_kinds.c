/* SPDX-License-Identifier: Apache-2.0 */
/* core/bus/virtio_kinds.c: what a guest is told, byte by byte as virtio 1.2 section 5 has it. */
#include "core/bus/virtio_kinds.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/bus/pci_internal.h"

#define TRANSPORT (1ull << 28 | 1ull << 29 | 1ull << 32)

static struct virtio_pci_spec spec;

static int describe_blk(uint32_t flags, uint32_t align, uint32_t queues)
{
	const union dev_config config = {
		.blk = { .bytes = 0x123456789000 / 512 * 512, .flags = flags, .align = align },
	};

	memset(&spec, 0xee, sizeof(spec));
	return virtio_kind_describe(DEV_KIND_BLK, &config, queues, &spec);
}

static uint64_t get(uint32_t at, uint32_t size)
{
	const uint8_t *p = spec.config + at;

	if (size == 8)
		return pci_get32(p) | (uint64_t)pci_get32(p + 4) << 32;
	return size == 1 ? *p : size == 2 ? pci_get16(p) : pci_get32(p);
}

static void test_blk(void **state)
{
	(void)state;
	assert_int_equal(describe_blk(BLK_FLUSH, 1, 4), 0);
	assert_int_equal(spec.virtio_id, 2);
	assert_int_equal(spec.queues, 4);
	assert_int_equal(spec.queue_size, 256);
	assert_int_equal(spec.config_bytes, 60);
	assert_true(spec.features == (TRANSPORT | 1 << 1 | 1 << 2 | 1 << 6 | 1 << 9 | 1 << 10 |
				      1 << 12 | 1 << 13 | 1 << 14));
	assert_int_equal(get(0, 4), (uint32_t)(0x123456789000 / 512));
	assert_int_equal(get(4, 4), 0x123456789000 / 512 >> 32);
	assert_int_equal(get(12, 4), BLK_SEG_MAX);
	assert_true((uint64_t)get(8, 4) * get(12, 4) <= BLK_REQUEST_MAX);
	assert_int_equal(get(8, 4) % 4096, 0);
	assert_true(get(8, 4) >= 65536);
	assert_int_equal(get(16, 4), 0); /* geometry */
	assert_int_equal(get(20, 4), 512);
	assert_int_equal(get(24, 1), 3); /* 4096 to a physical block */
	assert_int_equal(get(25, 1), 0);
	assert_int_equal(get(26, 2), 8);
	assert_int_equal(get(28, 4), 0);
	assert_int_equal(get(32, 2), 0);
	assert_int_equal(get(34, 2), 4);
	assert_int_equal(get(36, 4), BLK_ZERO_MAX_SECTORS);
	assert_int_equal(get(40, 4), 1);
	assert_int_equal(get(44, 4), 1);
	assert_int_equal(get(48, 4), BLK_ZERO_MAX_SECTORS);
	assert_int_equal(get(52, 4), 1);
	assert_int_equal(get(56, 4), 1);
	for (uint32_t i = 0; i < VIRTIO_CONFIG_MAX; i++) { /* nothing of before shows */
		assert_int_equal(spec.config_writable[i], 0);
		assert_true(i < 60 || spec.config[i] == 0);
	}
}

static void test_blk_readonly(void **state)
{
	(void)state;
	assert_int_equal(describe_blk(BLK_READONLY, 1, 1), 0);
	assert_true(spec.features == (TRANSPORT | 1 << 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 10));
	assert_int_equal(get(36, 4), 0);
	assert_int_equal(get(48, 4), 0);
	assert_int_equal(get(56, 1), 0);
	assert_int_equal(get(34, 2), 1);
}

static void test_blk_direct(void **state)
{
	(void)state;
	assert_int_equal(describe_blk(BLK_DIRECT, 4096, 1), 0);
	assert_int_equal(get(20, 4), 4096);
	assert_int_equal(get(24, 1), 0);
	assert_int_equal(get(26, 2), 1);
	assert_int_equal(get(44, 4), 8);
	assert_int_equal(get(0, 4), (uint32_t)(0x123456789000 / 512)); /* still of 512 */
	assert_int_equal(describe_blk(BLK_DIRECT, 4, 1), 0);
	assert_int_equal(get(20, 4), 512);
	assert_int_equal(describe_blk(0, 4096, 1), 0); /* the page cache does not mind */
	assert_int_equal(get(20, 4), 512);
	assert_int_equal(describe_blk(BLK_DIRECT, 8192, 1), -EINVAL);
	assert_int_equal(describe_blk(BLK_DIRECT, 1536, 1), -EINVAL);
}

static void test_others(void **state)
{
	static const union dev_config config;

	(void)state;
	assert_int_equal(virtio_kind_describe(DEV_KIND_RNG, &config, 1, &spec), 0);
	assert_int_equal(spec.virtio_id, 4);
	assert_int_equal(spec.config_bytes, 0);
	assert_true(spec.features == TRANSPORT);
	assert_int_equal(virtio_kind_describe(DEV_KIND_CONSOLE, &config, 2, &spec), 0);
	assert_int_equal(spec.virtio_id, 3);
	assert_int_equal(spec.config_bytes, 0); /* no feature that would need one */
	assert_true(spec.features == TRANSPORT);
}

static void test_mem(void **state)
{
	union dev_config config = { .mem = { .addr = 5ull << 32,
					     .region_bytes = 3ull << 30,
					     .block_bytes = 2u << 20,
					     .usable_bytes = 1u << 30,
					     .plugged_bytes = 4u << 20,
					     .requested_bytes = 6u << 20,
					     .node = 7 } };

	(void)state;
	assert_int_equal(virtio_kind_describe(DEV_KIND_MEM, &config, 1, &spec), 0);
	assert_int_equal(spec.virtio_id, 24);
	assert_true(spec.features == (TRANSPORT | 3));
	assert_true(spec.required == (1ull << 32 | 2)); /* UNPLUGGED_INACCESSIBLE */
	assert_int_equal(spec.config_bytes, 56);
	assert_int_equal(get(0, 8), 2u << 20);
	assert_int_equal(get(8, 8), 7);
	assert_int_equal(get(16, 8), 5ull << 32);
	assert_int_equal(get(24, 8), 3ull << 30);
	assert_int_equal(get(32, 8), 1u << 30);
	assert_int_equal(get(40, 8), 4u << 20);
	assert_int_equal(get(48, 8), 6u << 20);
	config.mem.node = 65536;
	assert_int_equal(virtio_kind_describe(DEV_KIND_MEM, &config, 1, &spec), -EINVAL);
	config.mem.node = 65535;
	assert_int_equal(virtio_kind_describe(DEV_KIND_MEM, &config, 1, &spec), 0);
	assert_int_equal(get(8, 8), 65535);
}

static void test_balloon(void **state)
{
	union dev_config config = { .balloon = { .pages = 0x12345 } };

	(void)state;
	memset(&spec, 0xee, sizeof(spec));
	assert_int_equal(virtio_kind_describe(DEV_KIND_BALLOON, &config, 2, &spec), 0);
	assert_int_equal(spec.virtio_id, 5);
	assert_int_equal(spec.config_bytes, 8); /* no feature that would need more */
	assert_true(spec.features == TRANSPORT);
	assert_int_equal(get(0, 4), 0x12345);
	assert_int_equal(get(4, 4), 0);
	for (uint32_t i = 0; i < VIRTIO_CONFIG_MAX; i++) /* `actual` is the driver's */
		assert_int_equal(spec.config_writable[i], i >= 4 && i < 8 ? 0xff : 0);
	config.balloon.flags = BALLOON_STATS;
	assert_int_equal(virtio_kind_describe(DEV_KIND_BALLOON, &config, 3, &spec), 0);
	assert_true(spec.features == (TRANSPORT | 1 << 1));
	config.balloon.flags = BALLOON_DEFLATE_ON_OOM | BALLOON_REPORTING;
	assert_int_equal(virtio_kind_describe(DEV_KIND_BALLOON, &config, 3, &spec), 0);
	assert_true(spec.features == (TRANSPORT | 1 << 2 | 1 << 5));
}

static void test_queues(void **state)
{
	static const union dev_config config = { .blk = { .bytes = 512 } };
	uint32_t least, most;

	(void)state;
	for (uint32_t kind = 0; kind < DEV_KIND_COUNT + 3u; kind++) {
		virtio_kind_queues((enum dev_kind)kind, &least, &most);
		assert_true(least <= most && most <= BOX_QUEUES_MAX);
		for (uint32_t queues = 0; queues <= BOX_QUEUES_MAX + 1; queues++) {
			const int ret =
				virtio_kind_describe((enum dev_kind)kind, &config, queues, &spec);

			if (most == 0)
				assert_int_equal(ret, -ENODEV);
			else
				assert_int_equal(ret,
						 queues >= least && queues <= most ? 0 : -EINVAL);
		}
	}
	virtio_kind_queues(DEV_KIND_BLK, &least, &most);
	assert_int_equal(least, 1);
	assert_int_equal(most, BOX_QUEUES_MAX);
	virtio_kind_queues(DEV_KIND_SERIAL, &least, &most);
	assert_int_equal(most, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blk),        cmocka_unit_test(test_blk_readonly),
		cmocka_unit_test(test_blk_direct), cmocka_unit_test(test_others),
		cmocka_unit_test(test_mem),        cmocka_unit_test(test_balloon),
		cmocka_unit_test(test_queues),
	};

	return cmocka_run_group_tests_name("virtio_kinds", tests, NULL, NULL);
}
