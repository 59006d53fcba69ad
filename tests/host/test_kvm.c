/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine on this host's KVM, with a guest of our own (kvm_guest.h): entry state by both boot
 * protocols, accesses of every kind, interrupts by pin and by MSI, a second CPU, pauses under load,
 * a reset in place, every end.  Where there is no usable /dev/kvm the program says why and is skipped.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>

#include "core/cc.h"
#include "core/machine/machine.h"
#include "tests/host/kvm_rig.h"

static void test_entry64(void **state)
{
	(void)state;
	struct rig *r = rig_start(1, false, "entry");

	rig_wait_end(r, GUEST_END_POWER_OFF);
	/* KVM sets bits of its own in CR0 on some CPUs: ET, and NE with VMX. */
	assert_int_equal(r->count, 14);
	assert_int_equal(r->reports[3] & 0x80000001u, 0x80000001u);
	r->reports[3] = 0x80000011;
	assert_true(r->reports[11] & 1u << 31); /* hypervisor */
	assert_false(r->reports[11] & (1u << 5 | 1u << 3));
	r->reports[11] = 0;
	const uint32_t want[] = { BOOT_CS,
				  BOOT_DS,
				  BOOT_DS,
				  0x80000011,
				  LAYOUT_PAGE_TABLES,
				  0x20,
				  0x500,
				  LAYOUT_BOOT_PARAMS,
				  LAYOUT_STACK,
				  2,
				  0,
				  0,
				  0x14,
				  GUEST_DONE };

	assert_reports(r, want, ARRAY_SIZE(want));
	assert_int_equal(rig_stop(r), 0);
}

static void test_entry32(void **state)
{
	(void)state;
	struct rig *r = rig_start(1, true, "entry");

	rig_wait_end(r, GUEST_END_POWER_OFF);
	assert_int_equal(r->count, 12);
	assert_int_equal(r->reports[3] & 0x80000001u, 1); /* protected, not paged */
	r->reports[3] = 0x11;
	const uint32_t want[] = { BOOT_CS,    BOOT_DS,
				  BOOT_DS,    0x11,
				  0,          LAYOUT_BOOT_PARAMS,
				  0x336ec578, 1,
				  'e',        0x20445352 /* "RSD " */,
				  5,          GUEST_DONE };

	assert_reports(r, want, ARRAY_SIZE(want));
	assert_int_equal(rig_stop(r), 0);
}

static void test_io(void **state)
{
	(void)state;
	struct rig *r = rig_start(1, false, "io");

	rig_wait_end(r, GUEST_END_POWER_OFF);
	const uint32_t want[] = { 0x55667788, 0x11223344, 0x55667788, 0x7788,    0x88,
				  0x55667788, 0x11223344, 0xffffffff, 0xffffffff };

	assert_reports(r, want, ARRAY_SIZE(want));
	r->string[r->string_bytes] = '\0';
	assert_string_equal(r->string, "mayfly"
				       "mayfly"
				       "mayfly42"
				       "abcdefghijklmnop");
	assert_int_equal(r->mmio_sizes, 1 | 2 | 4 | 8);
	assert_memory_equal(r->mmio + 0xffd, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
	assert_int_equal(rig_stop(r), 0);
}

/* The n-th report after the first is what it should be; nothing else has come. */
static void expect_interrupt(struct rig *r, uint32_t n, uint32_t value)
{
	rig_wait(r, n + 1);
	pthread_mutex_lock(&r->lock);
	const uint32_t count = r->count, last = count ? r->reports[count - 1] : 0;

	pthread_mutex_unlock(&r->lock);
	assert_int_equal(count, n + 1);
	assert_int_equal(last, value);
}

static void test_interrupts(void **state)
{
	const uint64_t one = 1;
	int pin = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
	    msi = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct rig *r = rig_start(1, false, "q");
	uint32_t gsi = 0, n = 0;

	(void)state;
	assert_int_equal(vm_irqfd(&r->m.vm, GUEST_PIN, pin, true), 0);
	assert_int_equal(vm_msi_alloc(&r->m.vm, &gsi), 0);
	assert_int_equal(vm_irqfd(&r->m.vm, gsi, msi, true), 0);
	rig_wait(r, 1);
	assert_int_equal(r->reports[0], GUEST_DONE);
	/* Inert until it has a route. */
	assert_int_equal(write(msi, &one, sizeof(one)), sizeof(one));
	for (int i = 0; i < 5; i++) {
		assert_int_equal(write(pin, &one, sizeof(one)), sizeof(one));
		expect_interrupt(r, ++n, 0x40);
	}
	assert_int_equal(vm_msi_set(&r->m.vm, gsi, LAYOUT_LAPIC, GUEST_MSI_VECTOR), 0);
	assert_int_equal(vm_msi_set(&r->m.vm, gsi, LAYOUT_LAPIC, GUEST_MSI_VECTOR), 0);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(write(msi, &one, sizeof(one)), sizeof(one));
		expect_interrupt(r, ++n, GUEST_MSI_VECTOR);
	}
	assert_int_equal(acpi_power_button(&r->m.acpi), 0);
	expect_interrupt(r, ++n, 0x4200 | GED_POWER_BUTTON);
	assert_int_equal(vm_line(&r->m.vm, LAYOUT_GSI_GED, true), 0);
	assert_int_equal(vm_line(&r->m.vm, LAYOUT_GSI_GED, false), 0);
	expect_interrupt(r, ++n, 0x4200); /* read once, and gone */
	/* Taken off, the eventfd keeps what is pending until it is back. */
	assert_int_equal(vm_irqfd(&r->m.vm, gsi, msi, false), 0);
	assert_int_equal(write(msi, &one, sizeof(one)), sizeof(one));
	assert_int_equal(write(pin, &one, sizeof(one)), sizeof(one));
	expect_interrupt(r, ++n, 0x40);
	assert_int_equal(vm_irqfd(&r->m.vm, gsi, msi, true), 0);
	expect_interrupt(r, ++n, GUEST_MSI_VECTOR);
	assert_int_equal(vm_irqfd(&r->m.vm, gsi, msi, false), 0);
	vm_msi_free(&r->m.vm, gsi);
	assert_int_equal(rig_stop(r), 0);
	close(pin);
	close(msi);
}

/* The pin is masked until the guest has set it up; a reset forgets. */
static void test_event_before_driver(void **state)
{
	(void)state;
	struct rig *r = rig_start(1, false, "v");

	rig_wait(r, 1);
	machine_pause(&r->m);
	assert_int_equal(acpi_power_button(&r->m.acpi), 0);
	rig_load(r);
	machine_resume(&r->m);
	expect_interrupt(r, 1, GUEST_DONE);
	machine_pause(&r->m);
	rig_load(r);
	assert_int_equal(acpi_power_button(&r->m.acpi), 0);
	assert_int_equal(acpi_power_button(&r->m.acpi), 0);
	machine_resume(&r->m);
	expect_interrupt(r, 3, 0x4200 | GED_POWER_BUTTON);
	assert_int_equal(r->reports[2], GUEST_DONE);
	assert_int_equal(acpi_power_button(&r->m.acpi), 0);
	expect_interrupt(r, 4, 0x4200 | GED_POWER_BUTTON);
	assert_int_equal(rig_stop(r), 0);
}

static void test_second_cpu(void **state)
{
	const uint32_t want[] = { 0xa1, GUEST_DONE };

	(void)state;
	struct rig *r = rig_start(2, false, "ap");

	rig_wait_end(r, GUEST_END_POWER_OFF);
	assert_reports(r, want, ARRAY_SIZE(want));
	assert_int_equal(rig_stop(r), 0);
}

/* Each answer given must reach the guest once, however often it is stopped in between. */
static void test_pause_under_load(void **state)
{
	(void)state;
	struct rig *r = rig_start(2, false, "load");

	for (uint32_t i = 0; i < 1000; i++) {
		const struct timespec nap = { .tv_nsec = i % 8 * 37000 };

		nanosleep(&nap, NULL);
		machine_pause(&r->m);
		const struct counter before[3] = { r->counters[0], r->counters[1], r->counters[2] };

		if (i % 100 == 0)
			nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
		assert_memory_equal(before, r->counters, sizeof(before));
		machine_resume(&r->m);
		if (i % 10 == 0)
			wait_progress(r, i % 3, before[i % 3].given);
	}
	machine_pause(&r->m);
	machine_pause(&r->m);
	assert_int_equal(r->count, 1); /* the second CPU's first word; no complaint */
	assert_int_equal(r->reports[0], 0xa1);
	assert_true(r->counters[0].given > 100 && r->counters[1].given > 100);
	assert_true(r->counters[0].given - r->counters[0].returned <= 1);
	assert_true(r->counters[1].given - r->counters[1].returned <= 1);
	assert_int_equal(rig_stop(r), 0);
}

/* An answer that was given when the pause came is in the guest's register, not on its way. */
static void test_pause_completes_io(void **state)
{
	struct kvm_regs regs;

	(void)state;
	struct rig *r = rig_start(2, false, "load");

	for (uint32_t i = 0; i < 50; i++) {
		wait_progress(r, 0, progress(r, 0));
		machine_pause(&r->m);
		assert_int_equal(ioctl(vcpus_fd(r->m.vcpus, 0), KVM_GET_REGS, &regs), 0);
		/* rbx: answers of the port compared so far, rcx: of memory; rax may hold one more. */
		const uint32_t port = (uint32_t)regs.rbx, mmio = (uint32_t)regs.rcx;

		assert_true(port == r->counters[0].given || (uint32_t)regs.rax == port + 1);
		assert_true(r->counters[0].given - port <= 1);
		assert_true(mmio == r->counters[2].given || (uint32_t)regs.rax == mmio + 1);
		assert_true(r->counters[2].given - mmio <= 1);
		machine_resume(&r->m);
	}
	assert_int_equal(rig_stop(r), 0);
}

/* A CPU in a loop without exits, in HLT with interrupts off, waiting for SIPI: all can be paused. */
static void test_pause_anywhere(void **state)
{
	static const char *const modes[] = { "j", "h" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		struct rig *r = rig_start(2, false, modes[i]);

		for (int k = 0; k < 50; k++) {
			nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
			machine_pause(&r->m);
			machine_resume(&r->m);
		}
		assert_int_equal(machine_end(&r->m), GUEST_END_NONE);
		assert_int_equal(rig_stop(r), 0);
	}
}

static void test_reset(void **state)
{
	const uint32_t want[] = {
		1,    0xa1,                                           /* before */
		2,    0x20,       0x500, 0xc06, 0xff, 0x700, 0x10000, /* as after power-on */
		0xa1, GUEST_DONE,
	};

	(void)state;
	struct rig *r = rig_start(2, false, "r");

	rig_wait_end(r, GUEST_END_RESET);
	assert_int_equal(r->ends, 1);
	machine_pause(&r->m);
	r->ends = 0;
	r->end = GUEST_END_NONE;
	rig_load(r);
	assert_int_equal(machine_end(&r->m), GUEST_END_NONE);
	machine_resume(&r->m);
	rig_wait_end(r, GUEST_END_POWER_OFF);
	if (r->count > 5)
		r->reports[5] |= 0x400; /* fixed ranges on or off does not matter */
	assert_reports(r, want, ARRAY_SIZE(want));
	assert_int_equal(rig_stop(r), 0);
}

/* Not by the register but by the BIOS that is not there. */
static void test_reset_vector(void **state)
{
	(void)state;
	struct rig *r = rig_start(2, false, "bios");

	rig_wait_end(r, GUEST_END_RESET);
	assert_int_equal(rig_stop(r), 0);
}

static void test_reset_by_keyboard(void **state)
{
	const uint32_t want[] = { 0xfd, GUEST_DONE };

	(void)state;
	struct rig *r = rig_start(1, false, "k");

	rig_wait_end(r, GUEST_END_RESET);
	assert_reports(r, want, ARRAY_SIZE(want));
	assert_int_equal(rig_stop(r), 0);
}

static void test_triple_fault(void **state)
{
	(void)state;
	struct rig *r = rig_start(2, false, "t");

	for (int i = 0; i < 3; i++) {
		rig_wait_end(r, GUEST_END_TRIPLE_FAULT);
		assert_int_equal(r->ends, 1);
		/* A CPU that has died takes no part, but can be paused, and reset. */
		machine_pause(&r->m);
		machine_resume(&r->m);
		machine_pause(&r->m);
		assert_int_equal(r->ends, 1);
		r->ends = 0;
		rig_load(r);
		machine_resume(&r->m);
	}
	rig_wait_end(r, GUEST_END_TRIPLE_FAULT);
	assert_int_equal(rig_stop(r), 0);
}

static void test_panic(void **state)
{
	const uint32_t want[] = { 1 };

	(void)state;
	struct rig *r = rig_start(1, false, "p");

	rig_wait_end(r, GUEST_END_PANIC);
	assert_reports(r, want, ARRAY_SIZE(want));
	assert_int_equal(rig_stop(r), 0);
}

static void test_msi_pool(void **state)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	const char *what;
	uint32_t gsi, last = 0;

	(void)state;
	assert_non_null(vm);
	assert_int_equal(vm_create(vm, &what), 0);
	for (uint32_t i = LAYOUT_GSI_MSI; i < LAYOUT_GSI_MAX; i++) {
		assert_int_equal(vm_msi_alloc(vm, &gsi), 0);
		assert_true(gsi >= LAYOUT_GSI_MSI && gsi < LAYOUT_GSI_MAX && gsi != last);
		last = gsi;
	}
	assert_int_equal(vm_msi_alloc(vm, &gsi), -ENOSPC);
	assert_int_equal(vm_msi_set(vm, last, LAYOUT_LAPIC, 0x41), 0);
	vm_msi_free(vm, last);
	assert_int_equal(vm_msi_alloc(vm, &gsi), 0);
	assert_int_equal(gsi, last);
	assert_false(vm->msi[gsi].set);
	vm_destroy(vm);
	free(vm);
}

static void test_doorbell(void **state)
{
	int bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	uint64_t count = 0;
	struct vm *vm;

	(void)state;
	/* The guest's third write to MMIO is one of two bytes. */
	struct rig *r = rig_start(1, false, "h");

	vm = &r->m.vm;
	machine_pause(&r->m);
	assert_int_equal(vm_doorbell(vm, GUEST_MMIO + 0x30, bell, true), 0);
	assert_int_equal(vm_doorbell(vm, GUEST_MMIO + 0x30, bell, true), -EEXIST);
	r->cmdline = "io";
	rig_load(r);
	machine_resume(&r->m);
	rig_wait_end(r, GUEST_END_POWER_OFF);
	assert_int_equal(read(bell, &count, sizeof(count)), sizeof(count));
	assert_int_equal(count, 1);
	assert_int_equal(r->reports[3], 0); /* it did not reach the bus */
	assert_int_equal(vm_doorbell(vm, GUEST_MMIO + 0x30, bell, false), 0);
	assert_int_equal(vm_doorbell(vm, GUEST_MMIO + 0x30, bell, false), -ENOENT);
	assert_int_equal(rig_stop(r), 0);
	close(bell);
}

static void test_most_cpus(void **state)
{
	const uint32_t want[] = { 0xa1, GUEST_DONE };
	const struct vcpus_config none = { .count = 0 }, many = { .count = LAYOUT_CPUS_MAX + 1 };
	struct vcpus *vcpus;
	const char *what;

	(void)state;
	assert_int_equal(vcpus_create(&vcpus, &none, &what), -EINVAL);
	assert_int_equal(vcpus_create(&vcpus, &many, &what), -EINVAL);
	struct rig *r = rig_start(LAYOUT_CPUS_MAX, false, "ap");

	rig_wait_end(r, GUEST_END_POWER_OFF);
	assert_reports(r, want, ARRAY_SIZE(want));
	machine_pause(&r->m);
	assert_int_equal(rig_stop(r), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entry64),
		cmocka_unit_test(test_entry32),
		cmocka_unit_test(test_io),
		cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_event_before_driver),
		cmocka_unit_test(test_second_cpu),
		cmocka_unit_test(test_pause_under_load),
		cmocka_unit_test(test_pause_completes_io),
		cmocka_unit_test(test_pause_anywhere),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_reset_vector),
		cmocka_unit_test(test_reset_by_keyboard),
		cmocka_unit_test(test_triple_fault),
		cmocka_unit_test(test_panic),
		cmocka_unit_test(test_msi_pool),
		cmocka_unit_test(test_doorbell),
		cmocka_unit_test(test_most_cpus),
	};
	const int unusable = kvm_probe();

	return unusable ? unusable : cmocka_run_group_tests_name("kvm", tests, NULL, NULL);
}
