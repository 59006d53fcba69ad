/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DIMMs as a stock kernel takes them: added in two nodes, ejected, refused, ejected by the guest itself, there
 * after a reset.  The machine alone, without devices: the guest (tests/rig/nested/dimm-init.sh) speaks
 * through the data register of a serial port, which is all there is of that.  What it boots is named by MAYFLY_TEST_KERNEL and MAYFLY_TEST_INITRD; `make check-dimms` has both.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "core/cc.h"
#include "core/machine/machine.h"
#include "tests/host/kvm_skip.h"

#define MIB (1ull << 20)
#define BOOT_BYTES (256 * MIB)
#define DIMM_BYTES (256 * MIB)
#define SLOT_MOVABLE 2u
#define SLOT_KERNEL 5u
#define SLOT_OWN 9u
#define SERIAL_BYTES 8
#define SERIAL_DATA 0
#define SERIAL_STATUS 5
#define SERIAL_EMPTY 0x60u    /* takes the next byte */
#define COMMAND 0xd0000000ull /* in the window of PCI */
#define MARK "DIMM: "
#define LINE_MAX_BYTES 512u
#define WAIT_S 240

struct guest {
	struct machine m;
	struct box_memory epoch; /* what KVM has: the test adds and takes away by itself */
	pthread_mutex_t lock;
	pthread_cond_t news;
	char line[LINE_MAX_BYTES]; /* that is being said */
	size_t line_bytes;
	char status[LINE_MAX_BYTES]; /* the last whole one */
	uint32_t statuses;
	uint32_t ejected, asked, forgotten, osts, ost_status;
	uint8_t command;
	bool ended;
};

/* ---- the guest's side, on its CPUs' threads ---- */

static void line_said(struct guest *g)
{
	const char *text = strstr(g->line, MARK);

	if (!text)
		return;
	text += strlen(MARK);
	printf("guest: %s\n", text);
	if (strncmp(text, "devices=", 8) == 0) {
		snprintf(g->status, sizeof(g->status), "%s", text);
		g->statuses++;
	}
}

static void serial_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct guest *g = ctx;

	(void)size;
	if (offset != SERIAL_DATA)
		return;
	pthread_mutex_lock(&g->lock);
	if ((value & 0xff) == '\n') {
		g->line[g->line_bytes] = '\0';
		g->line_bytes = 0;
		line_said(g);
	} else if ((value & 0xff) != '\r' && g->line_bytes < LINE_MAX_BYTES - 1) {
		g->line[g->line_bytes++] = (char)value;
	}
	pthread_cond_broadcast(&g->news);
	pthread_mutex_unlock(&g->lock);
}

static uint64_t serial_read(void *ctx, uint64_t offset, uint32_t size)
{
	(void)ctx, (void)size;
	return offset == SERIAL_STATUS ? SERIAL_EMPTY : 0;
}

static uint64_t command(void *ctx, uint64_t offset, uint32_t size)
{
	struct guest *g = ctx;

	(void)offset, (void)size;
	return __atomic_load_n(&g->command, __ATOMIC_SEQ_CST);
}

static const struct bus_ops serial_ops = { .read = serial_read, .write = serial_write };
static const struct bus_ops command_ops = { .read = command };

static void on_end(void *ctx, enum guest_end end)
{
	struct guest *g = ctx;

	(void)end;
	pthread_mutex_lock(&g->lock);
	g->ended = true;
	pthread_cond_broadcast(&g->news);
	pthread_mutex_unlock(&g->lock);
}

static void on_ejected(void *ctx, uint32_t slot, bool asked)
{
	struct guest *g = ctx;

	pthread_mutex_lock(&g->lock);
	printf("slot %u: ejected%s\n", slot, asked ? ", as asked" : " by the guest");
	g->ejected |= 1u << slot;
	g->asked |= asked ? 1u << slot : 0;
	pthread_cond_broadcast(&g->news);
	pthread_mutex_unlock(&g->lock);
}

static void on_ost(void *ctx, uint32_t slot, uint32_t event, uint32_t status)
{
	struct guest *g = ctx;

	pthread_mutex_lock(&g->lock);
	printf("slot %u: event 0x%x, status 0x%x: %s\n", slot, event, status,
	       acpi_ost_text(event, status));
	g->osts++;
	g->ost_status = status;
	pthread_cond_broadcast(&g->news);
	pthread_mutex_unlock(&g->lock);
}

static void on_forgotten(void *ctx, uint32_t slot)
{
	struct guest *g = ctx;

	g->forgotten |= 1u << slot;
}

/* ---- the test's side ---- */

static void wait_for(struct guest *g, bool (*what)(const struct guest *, uint32_t), uint32_t arg,
		     const char *text)
{
	struct timespec until;
	int ret = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	pthread_mutex_lock(&g->lock);
	while (!what(g, arg) && ret == 0)
		ret = pthread_cond_timedwait(&g->news, &g->lock, &until);
	pthread_mutex_unlock(&g->lock);
	if (ret != 0)
		fail_msg("not within %d s: %s; the guest's last word: %s", WAIT_S, text, g->status);
}

static bool has_said(const struct guest *g, uint32_t statuses)
{
	return g->statuses >= statuses;
}

static bool has_answered(const struct guest *g, uint32_t osts)
{
	return g->osts >= osts;
}

static bool has_ejected(const struct guest *g, uint32_t slot)
{
	return g->ejected & 1u << slot;
}

static bool has_ended(const struct guest *g, uint32_t unused)
{
	(void)unused;
	return g->ended;
}

/* The guest does it and says how things stand. */
static void order(struct guest *g, char what)
{
	const uint32_t statuses = g->statuses;

	__atomic_store_n(&g->command, (uint8_t)what, __ATOMIC_SEQ_CST);
	wait_for(g, has_said, statuses + 1, "a word after an order");
}

static void assert_status(const struct guest *g, const char *words)
{
	if (!strstr(g->status, words))
		fail_msg("the guest said `%s`, not `%s`", g->status, words);
}

static void set_memory(struct guest *g)
{
	assert_int_equal(vm_set_memory(&g->m.vm, &g->epoch), 0);
}

/* Where KVM has a new range. */
static uint64_t map_dimm(struct guest *g)
{
	struct mem_map *map = &g->epoch.map;
	const char *what = "";
	uint64_t gpa = 0;
	void *at;
	const int fd = memfd_create("dimm", MFD_CLOEXEC);

	assert_int_equal(mem_window_place(&g->m.window, map->regions, map->count, DIMM_BYTES, 4096,
					  &gpa, &what),
			 0);
	assert_true(fd >= 0 && ftruncate(fd, (off_t)DIMM_BYTES) == 0);
	at = mmap(NULL, DIMM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(at, MAP_FAILED);
	close(fd);
	map->regions[map->count++] = (struct mem_region){ .gpa = gpa,
							  .bytes = DIMM_BYTES,
							  .addr = (uint64_t)(uintptr_t)at };
	set_memory(g);
	return gpa;
}

static uint64_t add(struct guest *g, uint32_t slot, uint32_t node)
{
	const uint64_t gpa = map_dimm(g);
	const uint32_t osts = g->osts;

	assert_int_equal(acpi_memory_insert(&g->m.dimms, slot, gpa, DIMM_BYTES, node), 0);
	wait_for(g, has_answered, osts + 1, "an answer to an insertion");
	assert_int_equal(g->ost_status, 0);
	return gpa;
}

static void take_away(struct guest *g, uint64_t gpa)
{
	struct mem_map *map = &g->epoch.map;
	uint32_t i = 0;

	while (map->regions[i].gpa != gpa)
		i++;
	const struct mem_region gone = map->regions[i];

	map->regions[i] = map->regions[--map->count];
	set_memory(g);
	munmap((void *)(uintptr_t)gone.addr, gone.bytes);
}

static void load(struct guest *g, int kernel, int initrd)
{
	const struct boot_config boot = {
		.kernel = kernel,
		.initrd = initrd,
		.cmdline = "earlyprintk=serial,0x3f8,keep quiet reboot=k panic=-1"
	};
	const char *what = "";

	__atomic_store_n(&g->command, 0, __ATOMIC_SEQ_CST);
	if (machine_load(&g->m, &boot, &what) != 0)
		fail_msg("machine_load: %s", what);
}

static struct guest *guest_new(int kernel, int initrd)
{
	struct guest *g = calloc(1, sizeof(*g));
	const char *what = "";

	assert_non_null(g);
	const struct machine_config config = {
		.memory = { .bytes = BOOT_BYTES, .pages = MEM_PAGES_4K, .node = -1 },
		.room = { .max_bytes = BOOT_BYTES + 4 * DIMM_BYTES, .slots = 64, .nodes = 2 },
		.cpus = 1,
		.dimms = { on_ejected, on_ost, on_forgotten, g },
		.ended = on_end,
		.ctx = g,
	};

	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->news, NULL);
	if (machine_create(&g->m, &config, &what) != 0)
		fail_msg("machine_create: %s", what);
	g->epoch = g->m.memory.epoch;
	assert_int_equal(bus_add(g->m.ports, LAYOUT_PORT_SERIAL, SERIAL_BYTES, &serial_ops, g), 0);
	assert_int_equal(bus_add(g->m.mmio, COMMAND, 1, &command_ops, g), 0);
	load(g, kernel, initrd);
	machine_resume(&g->m);
	return g;
}

/* Boots, and there is nothing. */
static void check_boot(struct guest *g)
{
	wait_for(g, has_said, 1, "the guest is up");
	assert_status(g, "devices=64 present= online=2 ");
	assert_status(g, "node0=2 node1=0 complaints=0");
}

/* One in each node, movable; one goes as asked and one because the guest wants it. */
static void check_movable(struct guest *g)
{
	order(g, 'm');
	const uint64_t gpa = add(g, SLOT_MOVABLE, 1);
	const uint64_t own = add(g, SLOT_OWN, 0);

	order(g, '1');
	assert_status(g, "present= 2 9 online=6 node0=4 node1=2 complaints=0");
	assert_int_equal(acpi_memory_ask_eject(&g->m.dimms, SLOT_MOVABLE), 0);
	wait_for(g, has_ejected, SLOT_MOVABLE, "an ejection");
	take_away(g, gpa);
	order(g, '2');
	assert_status(g, "present= 9 online=4 node0=4 node1=0 complaints=0");
	order(g, 'e');
	wait_for(g, has_ejected, SLOT_OWN, "an ejection of the guest's own");
	take_away(g, own);
	order(g, '3');
	assert_status(g, "present= online=2 node0=2 node1=0 complaints=0");
	assert_int_equal(g->asked, 1u << SLOT_MOVABLE);
}

/* What the kernel itself uses it does not let go. */
static void check_refused(struct guest *g)
{
	order(g, 'k');
	(void)add(g, SLOT_KERNEL, 0);
	order(g, 'f');
	const uint32_t osts = g->osts;
	struct acpi_dimm dimm;

	assert_int_equal(acpi_memory_ask_eject(&g->m.dimms, SLOT_KERNEL), 0);
	wait_for(g, has_answered, osts + 1, "an answer to an eject request");
	assert_int_equal(acpi_memory_get(&g->m.dimms, SLOT_KERNEL, &dimm), 0);
	assert_int_equal(dimm.eject.is, DIMM_ANSWER_REFUSED);
	order(g, '4');
	assert_status(g, "present= 5 online=4 ");
}

/* It comes up with what is there, and the request is void.  For a DIMM that is added before its driver of
 * the GED is there it has the event later, and an answer. */
static void check_reset(struct guest *g, int kernel, int initrd)
{
	const uint32_t statuses = g->statuses, osts = g->osts;
	struct acpi_dimm dimm;

	__atomic_store_n(&g->command, 'r', __ATOMIC_SEQ_CST);
	wait_for(g, has_ended, 0, "a reset");
	machine_pause(&g->m);
	assert_int_equal(machine_end(&g->m), GUEST_END_RESET);
	g->ended = false;
	assert_int_equal(acpi_memory_ask_eject(&g->m.dimms, SLOT_KERNEL), 0);
	load(g, kernel, initrd);
	assert_int_equal(g->forgotten, 1u << SLOT_KERNEL);
	assert_int_equal(acpi_memory_insert(&g->m.dimms, SLOT_OWN, map_dimm(g), DIMM_BYTES, 1), 0);
	machine_resume(&g->m);
	wait_for(g, has_said, statuses + 1, "the guest is up again");
	assert_status(g, "devices=64 present= 5 9 online=2 node0=4 node1=2 complaints=0");
	wait_for(g, has_answered, osts + 1, "an answer to an insertion at boot");
	assert_int_equal(acpi_memory_get(&g->m.dimms, SLOT_OWN, &dimm), 0);
	assert_int_equal(dimm.insert.is, DIMM_ANSWER_OK);
	assert_int_equal(dimm.events, 0);
	assert_int_equal(acpi_memory_get(&g->m.dimms, SLOT_KERNEL, &dimm), 0);
	assert_int_equal(dimm.insert.is, DIMM_ANSWER_NONE);
}

static void test_stock_kernel(void **state)
{
	const char *kernel_path = getenv("MAYFLY_TEST_KERNEL");
	const char *initrd_path = getenv("MAYFLY_TEST_INITRD");

	(void)state;
	if (!kernel_path || !initrd_path) {
		puts("no MAYFLY_TEST_KERNEL: make check-dimms");
		skip();
	}
	if (!kvm_or_skip())
		return;
	const int kernel = open(kernel_path, O_RDONLY | O_CLOEXEC);
	const int initrd = open(initrd_path, O_RDONLY | O_CLOEXEC);

	assert_true(kernel >= 0 && initrd >= 0);
	struct guest *g = guest_new(kernel, initrd);

	check_boot(g);
	check_movable(g);
	check_refused(g);
	check_reset(g, kernel, initrd);
	__atomic_store_n(&g->command, 'p', __ATOMIC_SEQ_CST);
	wait_for(g, has_ended, 0, "power off");
	machine_destroy(&g->m);
	free(g);
	close(kernel);
	close(initrd);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_stock_kernel) };

	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests_name("dimm_guest", tests, NULL, NULL);
}
