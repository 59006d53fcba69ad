/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  Each leaf that differs from what KVM supports has a function in a table; the
 * topology leaves 0xb and 0x1f are made from nothing, since KVM gives the host's or none.  The same
 * topology is said in several places, because kernels look in different ones: leaf 1 and 4 (Intel),
 * 0x80000008 and 0x8000001e (AMD), 0xb and 0x1f (both).
 */
#include "core/machine/cpuid.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/cc.h"

#define CPUID_ROOM_LEAST 128
#define CPUID_ROOM_MOST 4096
#define TOPOLOGY_SUBLEAVES 3

#define BIT(n) (1u << (n))

/* What the functions below need to know beside the leaf. */
struct view {
	const struct cpuid_config *config;
	uint32_t id_bits; /* of an APIC id */
	bool amd;
};

static struct kvm_cpuid2 *cpuid_alloc(uint32_t entries)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + entries * sizeof(cpuid->entries[0]));

	if (cpuid)
		cpuid->nent = entries;
	return cpuid;
}

int cpuid_supported(int kvm, struct kvm_cpuid2 **out)
{
	for (uint32_t room = CPUID_ROOM_LEAST; room <= CPUID_ROOM_MOST; room *= 2) {
		struct kvm_cpuid2 *cpuid = cpuid_alloc(room);

		if (!cpuid)
			return -ENOMEM;
		if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0) {
			*out = cpuid;
			return 0;
		}
		const int ret = -errno;

		free(cpuid);
		if (ret != -E2BIG)
			return ret;
	}
	return -E2BIG;
}

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *cpuid, uint32_t function)
{
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function)
			return &cpuid->entries[i];
	return NULL;
}

static void leaf_1(struct kvm_cpuid_entry2 *e, const struct view *v)
{
	e->ebx = (e->ebx & 0xffff) | v->config->index << 24 | BIT(v->id_bits) << 16;
	e->ecx &= ~(BIT(3) | BIT(5)); /* MONITOR, VMX */
	e->ecx |= BIT(31);            /* hypervisor */
	if (v->config->tsc_deadline)
		e->ecx |= BIT(24);
	e->edx = v->config->count > 1 ? e->edx | BIT(28) : e->edx & ~BIT(28);
}

/* A cache's type, level and size stay; who shares it is ours: the last level all, others none. */
static uint32_t cache_eax(uint32_t eax, uint32_t sharing_last)
{
	const uint32_t level = eax >> 5 & 7;

	return (eax & 0x3fff) | (level >= 3 ? sharing_last : 0) << 14;
}

static void leaf_4(struct kvm_cpuid_entry2 *e, const struct view *v)
{
	const uint32_t ids = BIT(v->id_bits) - 1;

	if (e->eax & 0x1f)
		e->eax = cache_eax(e->eax, ids) | ids << 26;
}

static void leaf_amd_cache(struct kvm_cpuid_entry2 *e, const struct view *v)
{
	if (e->eax & 0x1f)
		e->eax = cache_eax(e->eax, v->config->count - 1);
}

static void leaf_7(struct kvm_cpuid_entry2 *e, const struct view *v)
{
	(void)v;
	if (e->index == 0) {
		e->ebx &= ~BIT(2);  /* SGX */
		e->ecx &= ~BIT(30); /* its launch control */
	}
}

static void leaf_amd_features(struct kvm_cpuid_entry2 *e, const struct view *v)
{
	e->ecx &= ~(BIT(2) | BIT(29)); /* SVM, MONITORX */
	if (v->amd)
		e->ecx = v->config->count > 1 ? e->ecx | BIT(1) : e->ecx & ~BIT(1);
}

static void leaf_amd_sizes(struct kvm_cpuid_entry2 *e, const struct view *v)
{
	if (v->amd)
		e->ecx = (e->ecx & ~0xf0ffu) | v->id_bits << 12 | (v->config->count - 1);
}

static void leaf_amd_ids(struct kvm_cpuid_entry2 *e, const struct view *v)
{
	e->eax = v->config->index;
	e->ebx = v->config->index; /* core; one thread in it */
	e->ecx = 0;                /* node 0 of one */
}

static void leaf_empty(struct kvm_cpuid_entry2 *e, const struct view *v)
{
	(void)v;
	e->eax = e->ebx = e->ecx = e->edx = 0;
}

static const struct leaf {
	uint32_t function;
	void (*fix)(struct kvm_cpuid_entry2 *e, const struct view *v);
} leaves[] = {
	{ 0x1, leaf_1 },
	{ 0x4, leaf_4 },
	{ 0x5, leaf_empty }, /* MONITOR */
	{ 0x7, leaf_7 },
	{ 0x12, leaf_empty }, /* SGX */
	{ 0x80000001, leaf_amd_features },
	{ 0x80000008, leaf_amd_sizes },
	{ 0x8000000a, leaf_empty }, /* SVM */
	{ 0x8000001d, leaf_amd_cache },
	{ 0x8000001e, leaf_amd_ids },
	{ 0x80000026, leaf_empty }, /* the host's topology */
};

static bool is_topology(uint32_t function)
{
	return function == 0xb || function == 0x1f;
}

/* Threads of a core: one; cores of the package: all; the end. */
static void add_topology(struct kvm_cpuid2 *cpuid, uint32_t function, const struct view *v)
{
	const struct {
		uint32_t shift, count, type;
	} levels[TOPOLOGY_SUBLEAVES] = { { 0, 1, 1 }, { v->id_bits, v->config->count, 2 }, { 0 } };

	for (uint32_t i = 0; i < TOPOLOGY_SUBLEAVES; i++)
		cpuid->entries[cpuid->nent++] =
			(struct kvm_cpuid_entry2){ .function = function,
						   .index = i,
						   .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
						   .eax = levels[i].shift,
						   .ebx = levels[i].count,
						   .ecx = levels[i].type << 8 | i,
						   .edx = v->config->index };
}

static struct view make_view(const struct kvm_cpuid2 *supported, const struct cpuid_config *config)
{
	const struct kvm_cpuid_entry2 *vendor = find(supported, 0);
	struct view v = { .config = config };

	while (BIT(v.id_bits) < config->count)
		v.id_bits++;
	/* "Auth"enticAMD, "Hygo"nGenuine */
	v.amd = vendor && (vendor->ebx == 0x68747541 || vendor->ebx == 0x6f677948);
	return v;
}

int cpuid_make(const struct kvm_cpuid2 *supported, const struct cpuid_config *config,
	       struct kvm_cpuid2 **out)
{
	const struct view v = make_view(supported, config);
	const struct kvm_cpuid_entry2 *first = find(supported, 0);
	struct kvm_cpuid2 *cpuid = cpuid_alloc(supported->nent + 2 * TOPOLOGY_SUBLEAVES);

	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = 0;
	for (uint32_t i = 0; i < supported->nent; i++) {
		struct kvm_cpuid_entry2 e = supported->entries[i];

		if (is_topology(e.function))
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(leaves); k++)
			if (leaves[k].function == e.function)
				leaves[k].fix(&e, &v);
		cpuid->entries[cpuid->nent++] = e;
	}
	if (first && first->eax >= 0xb)
		add_topology(cpuid, 0xb, &v);
	if (first && first->eax >= 0x1f)
		add_topology(cpuid, 0x1f, &v);
	*out = cpuid;
	return 0;
}
