/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest's CPU says of itself: from leaves as Intel and AMD hosts' KVMs give them. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/machine/cpuid.h"
#include "core/machine/layout.h"

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX
#define BIT(n) (1u << (n))

/* function, index, flags, eax, ebx, ecx, edx */
static const struct kvm_cpuid_entry2 intel[] = {
	{ 0x0, 0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69, { 0 } },
	{ 0x1, 0, 0, 0x606a6, 0x05100800, 0x7ffafbff, 0xbfebfbff, { 0 } },
	{ 0x4, 0, INDEXED, 0xfc004121, 0x2c0003f, 0x3f, 0, { 0 } },
	{ 0x4, 3, INDEXED, 0xfc1fc163, 0x2c0003f, 0xfff, 4, { 0 } },
	{ 0x4, 4, INDEXED, 0, 0, 0, 0, { 0 } },
	{ 0x5, 0, 0, 0x40, 0x40, 3, 0x1120, { 0 } },
	{ 0x7, 0, INDEXED, 2, 0xffffffff, 0xffffffff, 0, { 0 } },
	{ 0x7, 1, INDEXED, 0x30, 4, 0, 0, { 0 } },
	{ 0xb, 0, INDEXED, 1, 2, 0x100, 0x33, { 0 } },
	{ 0xb, 1, INDEXED, 7, 112, 0x201, 0x33, { 0 } },
	{ 0xd, 0, INDEXED, 7, 0x340, 0x340, 0, { 0 } },
	{ 0x12, 0, INDEXED, 3, 0, 0, 0, { 0 } },
	{ 0x1f, 0, INDEXED, 1, 2, 0x100, 0x33, { 0 } },
	{ 0x80000001, 0, 0, 0, 0, 0x121, 0x2c100800, { 0 } },
	{ 0x80000008, 0, 0, 0x3039, 0, 0, 0, { 0 } },
	{ 0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d, { 0 } },
	{ 0x40000001, 0, 0, 0x01007efb, 0, 0, 0, { 0 } },
};

static const struct kvm_cpuid_entry2 amd[] = {
	{ 0x0, 0, 0, 0x10, 0x68747541, 0x444d4163, 0x69746e65, { 0 } },
	{ 0x1, 0, 0, 0x830f10, 0x07200800, 0xfed8320b, 0x178bfbff, { 0 } },
	{ 0x80000001, 0, 0, 0x830f10, 0x40000000, 0x35c233ff, 0x2fd3fbff, { 0 } },
	{ 0x80000008, 0, 0, 0x3030, 0, 0x707f, 0, { 0 } },
	{ 0x8000000a, 0, 0, 1, 8, 0, 0x119b9cff, { 0 } },
	{ 0x8000001d, 0, INDEXED, 0x4121, 0x1c0003f, 0x3f, 0, { 0 } },
	{ 0x8000001d, 3, INDEXED, 0x1c163, 0x3c0003f, 0x3fff, 1, { 0 } },
	{ 0x8000001e, 0, 0, 7, 0x103, 0x300, 0, { 0 } },
};

/* The result, a copy for each vCPU. */
struct made {
	struct kvm_cpuid2 *cpuid;
};

static struct made make(const struct kvm_cpuid_entry2 *entries, uint32_t count, uint32_t index,
			uint32_t cpus)
{
	const struct cpuid_config config = { .index = index, .count = cpus, .tsc_deadline = true };
	struct kvm_cpuid2 *supported = calloc(1, sizeof(*supported) + count * sizeof(*entries));
	struct made made = { NULL };

	assert_non_null(supported);
	supported->nent = count;
	memcpy(supported->entries, entries, count * sizeof(*entries));
	assert_int_equal(cpuid_make(supported, &config, &made.cpuid), 0);
	free(supported);
	return made;
}

#define MAKE(table, index, cpus) make(table, sizeof(table) / sizeof((table)[0]), index, cpus)

/* One leaf, which is there once. */
static const struct kvm_cpuid_entry2 *leaf(const struct made *made, uint32_t function,
					   uint32_t index)
{
	const struct kvm_cpuid_entry2 *found = NULL;

	for (uint32_t i = 0; i < made->cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &made->cpuid->entries[i];

		if (e->function == function && e->index == index) {
			assert_null(found);
			found = e;
		}
	}
	assert_non_null(found);
	return found;
}

static void assert_topology(const struct made *made, uint32_t function, uint32_t id, uint32_t bits,
			    uint32_t cpus)
{
	const uint32_t want[3][3] = { { 0, 1, 0x100 }, { bits, cpus, 0x201 }, { 0, 0, 2 } };

	for (uint32_t i = 0; i < 3; i++) {
		const struct kvm_cpuid_entry2 *e = leaf(made, function, i);

		assert_int_equal(e->flags, INDEXED);
		assert_int_equal(e->eax, want[i][0]);
		assert_int_equal(e->ebx, want[i][1]);
		assert_int_equal(e->ecx, want[i][2]);
		assert_int_equal(e->edx, id);
	}
}

static void test_intel(void **state)
{
	struct made made = MAKE(intel, 2, 3);
	const struct kvm_cpuid_entry2 *e = leaf(&made, 1, 0);

	(void)state;
	assert_int_equal(e->eax, 0x606a6);
	assert_int_equal(e->ebx, 2 << 24 | 4 << 16 | 0x0800);
	assert_int_equal(e->ecx, (0x7ffafbff & ~(BIT(3) | BIT(5))) | BIT(24) | BIT(31));
	assert_int_equal(e->edx, 0xbfebfbff);
	/* First-level caches of one's own, the last level shared by all; 4 cores' worth of ids. */
	assert_int_equal(leaf(&made, 4, 0)->eax, 0x0c000121);
	assert_int_equal(leaf(&made, 4, 3)->eax, 0x0c00c163);
	assert_int_equal(leaf(&made, 4, 3)->ecx, 0xfff);
	assert_int_equal(leaf(&made, 4, 4)->eax, 0);
	assert_int_equal(leaf(&made, 5, 0)->edx, 0);
	assert_int_equal(leaf(&made, 7, 0)->ebx, ~BIT(2));
	assert_int_equal(leaf(&made, 7, 0)->ecx, ~BIT(30));
	assert_int_equal(leaf(&made, 7, 1)->ebx, 4);
	assert_int_equal(leaf(&made, 0x12, 0)->eax, 0);
	assert_topology(&made, 0xb, 2, 2, 3);
	assert_topology(&made, 0x1f, 2, 2, 3);
	assert_int_equal(leaf(&made, 0x80000001, 0)->ecx, 0x121);
	assert_int_equal(leaf(&made, 0x80000008, 0)->ecx, 0);
	assert_int_equal(leaf(&made, 0x40000001, 0)->eax, 0x01007efb);
	assert_int_equal(leaf(&made, 0xd, 0)->ecx, 0x340);
	free(made.cpuid);
}

static void test_amd(void **state)
{
	struct made made = MAKE(amd, 5, 6);

	(void)state;
	assert_int_equal(leaf(&made, 1, 0)->ebx, 5 << 24 | 8 << 16 | 0x0800);
	assert_int_equal(leaf(&made, 0x80000001, 0)->ecx,
			 (0x35c233ff & ~(BIT(2) | BIT(29))) | BIT(1));
	assert_int_equal(leaf(&made, 0x80000008, 0)->ecx, 0x3005);
	assert_int_equal(leaf(&made, 0x8000000a, 0)->eax, 0);
	assert_int_equal(leaf(&made, 0x8000000a, 0)->edx, 0);
	assert_int_equal(leaf(&made, 0x8000001d, 0)->eax, 0x121);
	assert_int_equal(leaf(&made, 0x8000001d, 3)->eax, 0x14163);
	assert_int_equal(leaf(&made, 0x8000001e, 0)->eax, 5);
	assert_int_equal(leaf(&made, 0x8000001e, 0)->ebx, 5);
	assert_int_equal(leaf(&made, 0x8000001e, 0)->ecx, 0);
	assert_topology(&made, 0xb, 5, 3, 6);
	free(made.cpuid);
}

static void test_one_cpu(void **state)
{
	struct made made = MAKE(amd, 0, 1);

	(void)state;
	assert_int_equal(leaf(&made, 1, 0)->ebx >> 16, 1);
	assert_int_equal(leaf(&made, 1, 0)->edx & BIT(28), 0);
	assert_int_equal(leaf(&made, 0x80000001, 0)->ecx & BIT(1), 0);
	assert_int_equal(leaf(&made, 0x80000008, 0)->ecx, 0);
	assert_topology(&made, 0xb, 0, 0, 1);
	free(made.cpuid);
}

/* An old CPU ends before leaf 0xb: then neither is made. */
static void test_old_cpu(void **state)
{
	struct kvm_cpuid_entry2 old[2] = { amd[0], amd[1] };

	(void)state;
	old[0].eax = 0xa;
	struct made made = MAKE(old, 0, 2);

	assert_int_equal(made.cpuid->nent, 2);
	free(made.cpuid);
}

/* Whatever the number of CPUs, ids fit their bits and differ. */
static void test_all_counts(void **state)
{
	(void)state;
	for (uint32_t cpus = 1; cpus <= LAYOUT_CPUS_MAX; cpus++)
		for (uint32_t i = 0; i < cpus; i++) {
			struct made made = MAKE(intel, i, cpus);
			const uint32_t bits = leaf(&made, 0xb, 1)->eax;

			assert_true(cpus <= BIT(bits) && (bits == 0 || cpus > BIT(bits - 1)));
			assert_int_equal(leaf(&made, 0xb, 1)->edx, i);
			assert_int_equal(leaf(&made, 1, 0)->ebx >> 24, i);
			free(made.cpuid);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_intel),      cmocka_unit_test(test_amd),
		cmocka_unit_test(test_one_cpu),    cmocka_unit_test(test_old_cpu),
		cmocka_unit_test(test_all_counts),
	};

	return cmocka_run_group_tests_name("cpuid", tests, NULL, NULL);
}
