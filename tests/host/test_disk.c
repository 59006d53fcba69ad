/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk as a VM has it: made from what the operator said, plugged into the PCI bus, set up through
 * its registers by a driver, and served by release programs under the real supervisor.  Only KVM is
 * missing.  With several lanes a generation is several processes, replaced together.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <fcntl.h>
#include <sys/stat.h>

#include "core/cc.h"
#include "core/vmm_device.h"
#include "tests/host/scene.h"
#include "tests/rig/inject.h"
#include "tests/unit/virtio_driver.h"

#define IMAGE_BYTES (16u << 20)
#define RING 128

static struct boxrig rig;
static struct run_options options;

struct bench {
	struct fake_rig pci; /* buses and host; the device is `disk` */
	struct vmm_device disk;
	struct ringdrv_queue rings[BOX_QUEUES_MAX];
	struct loadrun run;
	struct driver driver;
	struct vmm_site site;
};

static void bench_build(struct bench *b, const char *words)
{
	struct option_error error = { "" };
	char line[256], path[128];

	snprintf(path, sizeof(path), "%s/mayfly-disk-XXXXXX", scene_dir());
	const int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, IMAGE_BYTES), 0);
	close(fd);
	options_default(&run_set, &options);
	snprintf(line, sizeof(line), "id=disk,path=%s,%s", path, words);
	if (options_assign(&run_set, &options, "disk", line, &error) != 0)
		fail_msg("%s: %s", line, error.text);
	fake_machine_init(&b->pci.machine);
	assert_int_equal(bus_create(&b->pci.ports), 0);
	assert_int_equal(bus_create(&b->pci.mmio), 0);
	assert_int_equal(pci_host_create(&b->pci.host, b->pci.ports, b->pci.mmio), 0);
	b->site = (struct vmm_site){ .pci = &b->pci.host,
				     .transport = &b->pci.machine.ops,
				     .sup = rig.sup,
				     .options = &options };
	vmm_device_init(&b->disk);
	if (vmm_device_disk(&b->disk, &b->site, &options.disks[0], &error) != 0)
		fail_msg("%s", error.text);
	unlink(path);
}

static void bench_ring(struct bench *b, uint32_t queue)
{
	struct ringdrv_queue *ring = &b->rings[queue];
	const struct ringdrv_config config = {
		.features = RINGDRV_VERSION_1 | RINGDRV_INDIRECT | RINGDRV_EVENT_IDX,
		.size = RING,
		.number = (uint16_t)queue,
		.in_order = true,
		.fds_given = true,
		.fd_kick = b->disk.kick[queue],
		.fd_call = b->disk.call[queue],
	};

	assert_int_equal(ringdrv_init(ring, &rig.mem, &config), 0);
	const uint64_t areas[] = { ring->desc_gpa, ring->avail_gpa, ring->used_gpa };

	driver_put(&b->driver, DRIVER_SELECT, 2, queue);
	driver_put(&b->driver, DRIVER_SIZE, 2, RING);
	for (uint32_t i = 0; i < ARRAY_SIZE(areas); i++) {
		driver_put(&b->driver, 0x20 + i * 8, 4, (uint32_t)areas[i]);
		driver_put(&b->driver, 0x24 + i * 8, 4, (uint32_t)(areas[i] >> 32));
	}
	driver_put(&b->driver, DRIVER_ENABLE, 2, 1);
}

/* As Linux does it, but for interrupts: without MSI-X the call eventfds are left to the rings. */
static void bench_drive(struct bench *b, uint32_t queues)
{
	fake_config_write(&b->pci, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	driver_probe(&b->driver, &b->pci);
	driver_negotiate(&b->driver, UINT64_MAX);
	assert_int_equal(driver_get(&b->driver, 0x12, 2), queues);
	for (uint32_t i = 0; i < queues; i++)
		bench_ring(b, i);
	driver_add_status(&b->driver, VIRTIO_STATUS_DRIVER_OK);
	assert_int_equal(driver_status(&b->driver), DRIVER_RUNS);
}

static void bench_free(struct bench *b)
{
	vmm_device_destroy(&b->disk, &b->site);
	for (uint32_t i = 0; i < BOX_QUEUES_MAX; i++)
		ringdrv_free(&b->rings[i]);
	pci_host_destroy(&b->pci.host);
	bus_destroy(b->pci.ports);
	bus_destroy(b->pci.mmio);
	pthread_mutex_destroy(&b->pci.machine.lock);
	free(b);
}

/* Waits until the children are the spawner and so many boxes: those of a generation that was replaced
 * go when they are reaped. */
static void await_boxes(struct bench *b, int boxes)
{
	const uint64_t end = now_ns() + SCENE_WAIT_MS * NS_PER_MS;
	pid_t pids[64];

	assert_int_equal(device_wait_standby(b->disk.dev, SCENE_WAIT_MS), 0);
	while (inject_children(pids, ARRAY_SIZE(pids)) != 1 + boxes) {
		if (now_ns() > end)
			fail_msg("%d children, not %d", inject_children(pids, ARRAY_SIZE(pids)),
				 1 + boxes);
		usleep(1000);
	}
}

/* Verified load on all queues through 20 replacements; what was written is read back. */
static void check_disk(const char *words, uint32_t queues, int lanes)
{
	const struct blkload_config load = { .sectors = IMAGE_BYTES / 512, .seed = 3 };
	struct bench *b = calloc(1, sizeof(*b));
	struct replacement r;

	assert_non_null(b);
	bench_build(b, words);
	await_boxes(b, lanes); /* the standby */
	bench_drive(b, queues);
	assert_int_equal(loadrun_start(&b->run, &rig.mem, &load, b->rings, queues, 4), 0);
	assert_int_equal(loadrun_progress(&b->run, 100, SCENE_WAIT_MS), 0);
	await_boxes(b, 2 * lanes);
	for (uint64_t i = 1; i <= 20; i++) {
		assert_int_equal(device_replace(b->disk.dev, REPLACE_OPERATOR, true, &r), 0);
		assert_true(r.to > r.from);
		assert_int_equal(loadrun_progress(&b->run, 50, SCENE_WAIT_MS), 0);
		await_boxes(b, 2 * lanes);
	}
	for (uint32_t q = 0; q < queues; q++)
		assert_true(b->rings[q].stats.completed > 0);
	assert_true(loadrun_finish(&b->run, b->disk.image.fd));
	driver_put(&b->driver, DRIVER_STATUS, 1, 0);
	assert_int_equal(device_wait_idle(b->disk.dev, SCENE_WAIT_MS), 0);
	assert_int_equal(driver_status(&b->driver), 0);
	bench_free(b);
}

static void test_one_lane(void **state)
{
	(void)state;
	check_disk("queues=2", 2, 1);
}

static void test_lane_a_queue(void **state)
{
	(void)state;
	check_disk("queues=2,lanes=2", 2, 2);
}

static void test_uneven_lanes(void **state)
{
	(void)state;
	check_disk("queues=3,lanes=2", 3, 2);
}

int main(void)
{
	const struct scene_group group = { .name = "disk", .bytes = 64u << 20 };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_lane),
		cmocka_unit_test(test_lane_a_queue),
		cmocka_unit_test(test_uneven_lanes),
	};

	return scene_main(&group, &rig, tests, ARRAY_SIZE(tests));
}
