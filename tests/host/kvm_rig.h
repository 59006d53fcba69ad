/* SPDX-License-Identifier: Apache-2.0 */
/* The machine around the test guest: its ports, its MMIO, what it reported and how it ended. */
#ifndef MAYFLY_TESTS_HOST_KVM_RIG_H
#define MAYFLY_TESTS_HOST_KVM_RIG_H

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
#include "tests/host/kvm_guest.h"
#include "tests/unit/kernelfile.h"

#define MEMORY_BYTES (64ull << 20)
#define REPORTS_MAX 64
#define STRING_MAX 128
#define WAIT_S 30
#define FILE_MAX 8192

struct counter {
	uint32_t given;
	uint32_t returned;
};

struct rig {
	struct machine m;
	int kernel;
	const char *cmdline;
	pthread_mutex_t lock;
	pthread_cond_t news;
	uint32_t reports[REPORTS_MAX], count;
	enum guest_end end;
	uint32_t ends;
	struct counter counters[3]; /* ports of CPU 0 and 1, MMIO */
	uint32_t bad;               /* accesses that should not be */
	char string[STRING_MAX];
	uint32_t string_bytes;
	uint32_t string_next; /* what `in` gives next */
	uint8_t mmio[GUEST_MMIO_BYTES];
	uint32_t mmio_sizes; /* mask of access sizes that came */
};

/* Accesses of the guest, from vCPU threads. */

static void rig_string(struct rig *r, const void *data, uint32_t size)
{
	if (r->string_bytes + size > STRING_MAX)
		r->bad++;
	else
		memcpy(r->string + r->string_bytes, data, size);
	r->string_bytes += size;
}

static uint64_t port_read(void *ctx, uint64_t offset, uint32_t size)
{
	struct rig *r = ctx;
	uint64_t value = 0;

	pthread_mutex_lock(&r->lock);
	if (offset + GUEST_PORTS == GUEST_PORT_COUNT && size == 4)
		value = ++r->counters[0].given;
	else if (offset + GUEST_PORTS == GUEST_PORT_COUNT1 && size == 4)
		value = ++r->counters[1].given;
	else if (offset + GUEST_PORTS == GUEST_PORT_STRING)
		for (uint32_t i = 0; i < size; i++)
			value |= (uint64_t)('a' + r->string_next++) << (8 * i);
	else
		r->bad++;
	pthread_mutex_unlock(&r->lock);
	return value;
}

static void port_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct rig *r = ctx;

	pthread_mutex_lock(&r->lock);
	switch (offset + GUEST_PORTS) {
	case GUEST_PORT_REPORT:
		if (r->count < REPORTS_MAX)
			r->reports[r->count++] = (uint32_t)value;
		break;
	case GUEST_PORT_RETURN:
		r->bad += value != ++r->counters[0].returned || size != 4;
		break;
	case GUEST_PORT_RETURN1:
		r->bad += value != ++r->counters[1].returned || size != 4;
		break;
	case GUEST_PORT_STRING:
		rig_string(r, &value, size);
		break;
	default:
		r->bad++;
	}
	pthread_cond_broadcast(&r->news);
	pthread_mutex_unlock(&r->lock);
}

static uint64_t mmio_read(void *ctx, uint64_t offset, uint32_t size)
{
	struct rig *r = ctx;
	uint64_t value = 0;

	pthread_mutex_lock(&r->lock);
	r->mmio_sizes |= size;
	if (offset == GUEST_MMIO_COUNT)
		value = ++r->counters[2].given;
	else
		memcpy(&value, r->mmio + offset, size);
	pthread_mutex_unlock(&r->lock);
	return value;
}

static void mmio_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	struct rig *r = ctx;

	pthread_mutex_lock(&r->lock);
	r->mmio_sizes |= size;
	memcpy(r->mmio + offset, &value, size);
	pthread_mutex_unlock(&r->lock);
}

static const struct bus_ops port_ops = { .read = port_read, .write = port_write };
static const struct bus_ops mmio_ops = { .read = mmio_read, .write = mmio_write };

static void rig_ended(void *ctx, enum guest_end end)
{
	struct rig *r = ctx;

	pthread_mutex_lock(&r->lock);
	r->end = end;
	r->ends++;
	pthread_cond_broadcast(&r->news);
	pthread_mutex_unlock(&r->lock);
}

/* The test's side. */

static void rig_load(struct rig *r)
{
	const struct boot_config boot = { .kernel = r->kernel,
					  .initrd = -1,
					  .cmdline = r->cmdline };
	const char *what = "";

	if (machine_load(&r->m, &boot, &what) != 0)
		fail_msg("machine_load: %s", what);
}

static struct rig *rig_start(uint32_t cpus, bool elf, const char *cmdline)
{
	const struct machine_config config = {
		.memory = { .bytes = MEMORY_BYTES, .pages = MEM_PAGES_4K, .node = -1 },
		.cpus = cpus,
		.ended = rig_ended,
	};
	const size_t bytes = kvm_guest_bytes();
	uint8_t file[FILE_MAX];
	const char *what = "";
	struct rig *r = calloc(1, sizeof(*r));
	struct machine_config own = config;

	assert_non_null(r);
	assert_true(bytes + KERNELFILE_BZ_HEAD <= sizeof(file));
	own.ctx = r;
	r->cmdline = cmdline;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->news, NULL);
	r->kernel = kernelfile_open(file,
				    elf ? kernelfile_elf(file, kvm_guest, bytes, KVM_GUEST_ENTRY32)
					: kernelfile_bzimage(file, kvm_guest, bytes));
	if (machine_create(&r->m, &own, &what) != 0)
		fail_msg("machine_create: %s", what);
	assert_int_equal(bus_add(r->m.ports, GUEST_PORTS, GUEST_PORTS_BYTES, &port_ops, r), 0);
	assert_int_equal(bus_add(r->m.mmio, GUEST_MMIO, GUEST_MMIO_BYTES, &mmio_ops, r), 0);
	rig_load(r);
	machine_resume(&r->m);
	return r;
}

/* Returns what went wrong meanwhile. */
static uint32_t rig_stop(struct rig *r)
{
	const uint32_t bad = r->bad;

	machine_destroy(&r->m);
	close(r->kernel);
	free(r);
	return bad;
}

/* Waits until the guest has reported so much, or ended. */
static void rig_wait(struct rig *r, uint32_t reports)
{
	struct timespec until;
	int ret = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	pthread_mutex_lock(&r->lock);
	while (r->count < reports && r->ends == 0 && ret == 0)
		ret = pthread_cond_timedwait(&r->news, &r->lock, &until);
	pthread_mutex_unlock(&r->lock);
	if (ret)
		fail_msg("the guest was silent for %d s after %u reports", WAIT_S, r->count);
}

static inline void rig_wait_end(struct rig *r, enum guest_end end)
{
	rig_wait(r, UINT32_MAX);
	if (r->end != end)
		fail_msg("the guest ended otherwise: %s", guest_end_text(r->end));
	assert_int_equal(machine_end(&r->m), end);
}

static inline void assert_reports(const struct rig *r, const uint32_t *want, uint32_t count)
{
	for (uint32_t i = 0; i < count && i < r->count; i++)
		if (r->reports[i] != want[i])
			fail_msg("report %u is 0x%x, not 0x%x", i, r->reports[i], want[i]);
	assert_int_equal(r->count, count);
}

static uint64_t progress(struct rig *r, uint32_t counter)
{
	pthread_mutex_lock(&r->lock);
	const uint64_t n = r->counters[counter].given;

	pthread_mutex_unlock(&r->lock);
	return n;
}

static void wait_progress(struct rig *r, uint32_t counter, uint64_t beyond)
{
	const uint64_t until = now_ns() + WAIT_S * NS_PER_S;

	while (progress(r, counter) <= beyond) {
		if (now_ns() > until)
			fail_msg("counter %u stands still", counter);
		sched_yield();
	}
}

/* 77 with the reason, where there is no KVM. */
static int kvm_probe(void)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	const char *what;

	if (!vm || vm_create(vm, &what) != 0) {
		printf("%s\n", vm ? what : "out of memory");
		free(vm);
		return 77;
	}
	vm_destroy(vm);
	free(vm);
	return 0;
}

#endif
