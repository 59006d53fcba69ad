/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's memory on this host's KVM: slots that come and go under a running guest, and what the guest is
 * told of room for more.  Where there is no usable /dev/kvm the program says why and is skipped.
 */
#include "tests/host/kvm_rig.h"

/* Regions come and go while the guest runs; slots that stay are not touched. */
static void test_memory_slots(void **state)
{
	struct memmap extra;
	const struct memmap_config config = {
		.bytes = 4 << 20, .pages = MEM_PAGES_4K, .node = -1, .phys_bits = 40
	};
	const char *what;

	(void)state;
	struct rig *r = rig_start(2, false, "load");
	struct box_memory epoch = r->m.memory.epoch;

	assert_int_equal(memmap_create(&extra, &config, &what), 0);
	for (int i = 0; i < 20; i++) {
		epoch.map.regions[1] = extra.epoch.map.regions[0];
		epoch.map.regions[1].gpa = LAYOUT_RAM_HIGH;
		epoch.map.count = 2;
		assert_int_equal(vm_set_memory(&r->m.vm, &epoch), 0);
		assert_int_equal(r->m.vm.slots[1].gpa, LAYOUT_RAM_HIGH);
		epoch.map.count = 1;
		assert_int_equal(vm_set_memory(&r->m.vm, &epoch), 0);
		assert_int_equal(r->m.vm.slots[1].bytes, 0);
		assert_int_equal(r->m.vm.slots[0].bytes, MEMORY_BYTES);
	}
	wait_progress(r, 0, progress(r, 0));
	assert_int_equal(rig_stop(r), 0);
	memmap_destroy(&extra);
}

/* A region of many slots: what grows and shrinks is at its end, under a running guest. */
static void test_slices(void **state)
{
	const uint64_t slice = 2 << 20;
	struct memmap extra;
	const struct memmap_config config = { .bytes = slice, .node = -1, .phys_bits = 40 };
	const struct memmap_config reserve = { .bytes = 64 * slice, .node = -1 };
	const char *what;

	(void)state;
	struct rig *r = rig_start(2, false, "load");
	static struct box_memory epoch, next;
	struct vm *vm = &r->m.vm;

	assert_int_equal(memmap_create(&extra, &config, &what), 0);
	assert_int_equal(memmap_add_reserve(&extra, &reserve, LAYOUT_RAM_HIGH, slice, &what), 0);
	for (uint64_t i = 0; i < 30; i++) {
		const uint64_t n = i * 29 % 65;
		uint64_t bytes = 0;

		assert_int_equal(memmap_plan_reserve(&extra, 0, n * slice, &next), 0);
		epoch = r->m.memory.epoch;
		epoch.map.count = n != 0 ? 2 : 1;
		epoch.map.regions[1] = next.map.regions[1];
		epoch.slot_bytes[1] = next.slot_bytes[1];
		assert_int_equal(vm_set_memory(vm, &epoch), 0);
		for (uint32_t k = 1; k < VM_SLOTS_MAX; k++) {
			const struct vm_slot *s = &vm->slots[k];

			assert_true(s->bytes == 0 ||
				    (s->bytes == slice &&
				     s->addr - extra.reserves[0].addr == s->gpa - LAYOUT_RAM_HIGH));
			bytes += s->bytes;
		}
		assert_int_equal(bytes, n * slice);
		memmap_accept(&extra, &next);
	}
	wait_progress(r, 0, progress(r, 0));
	assert_int_equal(rig_stop(r), 0);
	memmap_destroy(&extra);
}

/* The memory entries of the SRAT that the guest finds, at most `room`; how many there are. */
static uint32_t srat_ranges(const struct machine *m, uint64_t ranges[][3], uint32_t room)
{
	const uint8_t *at = memmap_at(&m->memory, LAYOUT_ACPI, LAYOUT_ACPI_BYTES);
	uint32_t n = 0, length;

	for (uint32_t i = 0; i < LAYOUT_ACPI_BYTES - 48; i += 4) {
		if (memcmp(at + i, "SRAT", 4) != 0)
			continue;
		memcpy(&length, at + i + 4, 4);
		for (uint32_t e = i + 48; e < i + length && n < room; e += at[e + 1]) {
			if (at[e] != 1)
				continue;
			memcpy(ranges[n], at + e + 8, 16);
			ranges[n++][2] = at[e + 2];
		}
	}
	return n;
}

static void test_room(void **state)
{
	const uint64_t mib = 1 << 20, gib = 1 << 30;
	struct machine_config config = {
		.memory = { .bytes = 64 * mib, .pages = MEM_PAGES_4K, .node = -1 },
		.room = { .max_bytes = 64 * mib + 2 * gib, .slots = 1, .nodes = 2 },
		.reserves = { { .bytes = 256 * mib, .slot_bytes = 128 * mib, .node = 1 },
			      { .bytes = 2 * mib, .slot_bytes = 2 * mib } },
		.reserve_count = 2,
		.cpus = 2,
		.ended = rig_ended,
	};
	const uint64_t want[5][3] = { { 0, 64 * mib, 0 },
				      { 4 * gib, gib + 512 * mib, 0 },
				      { 5 * gib + 512 * mib, gib + 512 * mib, 1 },
				      { 7 * gib, 256 * mib, 1 },
				      { 8 * gib, 2 * mib, 0 } };
	struct machine *m = calloc(1, sizeof(*m));
	struct acpi_dimm dimm;
	uint64_t ranges[6][3];
	const char *what = "";

	(void)state;
	assert_non_null(m);
	assert_int_equal(machine_create(m, &config, &what), 0);
	assert_int_equal(m->window.base, 4 * gib);
	assert_int_equal(m->window.end, 7 * gib);
	const struct boot_config boot = { .kernel = -1, .initrd = -1, .cmdline = "" };

	assert_int_equal(acpi_memory_insert(&m->dimms, 3, m->window.base, gib, 1), 0);
	assert_int_equal(acpi_memory_ask_eject(&m->dimms, 3), 0);
	assert_int_equal(bus_read(m->ports, LAYOUT_PORT_GED, 4), GED_MEMORY);
	bus_write(m->ports, LAYOUT_PORT_DIMM + DIMM_REG_SELECT, 4, 3);
	assert_int_equal(bus_read(m->ports, LAYOUT_PORT_DIMM + DIMM_REG_STATE, 4),
			 DIMM_PRESENT | DIMM_EVENTS);
	assert_true(machine_load(m, &boot, &what) < 0); /* but the tables are there */
	assert_int_equal(srat_ranges(m, ranges, 6), 5);
	assert_memory_equal(ranges, want, sizeof(want));
	assert_int_equal(acpi_memory_get(&m->dimms, 3, &dimm), 0);
	assert_true(dimm.present && dimm.events == 0);
	machine_destroy(m);
	config.room.slots = 65;
	assert_int_equal(machine_create(m, &config, &what), -EINVAL);
	assert_non_null(strstr(what, "slots must be 1 to 64"));
	config.room = (struct machine_room){ 2 * gib, 1, LAYOUT_NODES_MAX + 1 };
	assert_int_equal(machine_create(m, &config, &what), -EINVAL);
	assert_non_null(strstr(what, "8 NUMA nodes"));
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_slots),
		cmocka_unit_test(test_slices),
		cmocka_unit_test(test_room),
	};
	const int unusable = kvm_probe();

	return unusable ? unusable : cmocka_run_group_tests_name("kvm memory", tests, NULL, NULL);
}
