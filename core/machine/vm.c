/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  Everything here is a thin layer on one descriptor.  What KVM must offer is a
 * table, asked before the VM is made, so that a host that lacks something says what.
 *
 * KVM takes interrupt routes only as a whole table: the pins of the IOAPIC, which never change, and
 * every MSI that has been set.  The table is made anew under the lock at each change, so that two
 * vCPU threads that program two devices cannot undo each other's.
 *
 * Memory slots are found by what they map, not by their number: an epoch's regions are sorted, so
 * that a region's place in it changes when one below it comes or goes, and a slot must not.
 */
#include "core/machine/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/cc.h"

#define IOAPIC_PINS 24
#define PHYS_BITS_DEFAULT 36
#define PHYS_BITS_MAX 52
#define CPUID_ADDRESS_SIZES 0x80000008
#define CPUID_ENTRIES 256

_Static_assert(LAYOUT_GSI_MSI >= IOAPIC_PINS, "MSIs come after the pins");

struct capability {
	int number;
	int least; /* what KVM_CHECK_EXTENSION must say at least */
	const char *what;
};

/* clang-format off */
static const struct capability capabilities[] = {
	{ KVM_CAP_IRQCHIP, 1, "KVM lacks in-kernel interrupt controllers (KVM_CAP_IRQCHIP)" },
	{ KVM_CAP_USER_MEMORY, 1, "KVM lacks user memory (KVM_CAP_USER_MEMORY)" },
	{ KVM_CAP_SYNC_MMU, 1, "KVM does not follow memory changes (KVM_CAP_SYNC_MMU)" },
	{ KVM_CAP_NR_MEMSLOTS, MEM_REGIONS_MAX, "KVM has too few memory slots" },
	{ KVM_CAP_MAX_VCPUS, LAYOUT_CPUS_MAX, "KVM allows too few vCPUs" },
	{ KVM_CAP_SET_TSS_ADDR, 1, "KVM lacks KVM_CAP_SET_TSS_ADDR" },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, 1, "KVM lacks KVM_CAP_SET_IDENTITY_MAP_ADDR" },
	{ KVM_CAP_EXT_CPUID, 1, "KVM lacks KVM_CAP_EXT_CPUID" },
	{ KVM_CAP_IRQ_ROUTING, LAYOUT_GSI_MAX, "KVM has too few interrupt routes" },
	{ KVM_CAP_IRQFD, 1, "KVM lacks interrupts by eventfd (KVM_CAP_IRQFD)" },
	{ KVM_CAP_IOEVENTFD, 1, "KVM lacks doorbells (KVM_CAP_IOEVENTFD)" },
	{ KVM_CAP_IMMEDIATE_EXIT, 1, "KVM lacks KVM_CAP_IMMEDIATE_EXIT" },
	{ KVM_CAP_MP_STATE, 1, "KVM lacks KVM_CAP_MP_STATE" },
	{ KVM_CAP_VCPU_EVENTS, 1, "KVM lacks KVM_CAP_VCPU_EVENTS" },
	{ KVM_CAP_DEBUGREGS, 1, "KVM lacks KVM_CAP_DEBUGREGS" },
	{ KVM_CAP_XSAVE, 1, "KVM lacks KVM_CAP_XSAVE" },
};
/* clang-format on */

static int fail(const char **what, const char *text, int ret)
{
	*what = text;
	return ret;
}

/* An ioctl as the rest of the project returns things. */
static int vm_ioctl(const struct vm *vm, unsigned long request, void *arg)
{
	return ioctl(vm->fd, request, arg) < 0 ? -errno : 0;
}

static int open_kvm(struct vm *vm, const char **what)
{
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm >= 0)
		return 0;
	if (errno == EACCES || errno == EPERM)
		return fail(what, "/dev/kvm: no permission: join the group that owns it (kvm)",
			    -errno);
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		return fail(what,
			    "/dev/kvm: not there: load kvm-intel or kvm-amd, and see that "
			    "virtualization is switched on in the firmware",
			    -errno);
	return fail(what, "/dev/kvm: cannot be opened", -errno);
}

static int check_capabilities(struct vm *vm, const char **what)
{
	if (ioctl(vm->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return fail(what, "/dev/kvm: not the stable KVM interface", -ENOTSUP);
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++)
		if (ioctl(vm->kvm, KVM_CHECK_EXTENSION, capabilities[i].number) <
		    capabilities[i].least)
			return fail(what, capabilities[i].what, -ENOTSUP);
	vm->run_bytes = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (vm->run_bytes < (int)sizeof(struct kvm_run))
		return fail(what, "KVM: KVM_GET_VCPU_MMAP_SIZE", -ENOTSUP);
	return 0;
}

/* The widest guest address that both the CPU's page tables and KVM's can name. */
static uint8_t physical_bits(const struct vm *vm)
{
	uint32_t bits = PHYS_BITS_DEFAULT, mapped = 0;
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof(*cpuid) + CPUID_ENTRIES * sizeof(cpuid->entries[0]));

	if (!cpuid)
		return PHYS_BITS_DEFAULT;
	cpuid->nent = CPUID_ENTRIES;
	if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0)
		for (uint32_t i = 0; i < cpuid->nent; i++)
			if (cpuid->entries[i].function == CPUID_ADDRESS_SIZES) {
				bits = cpuid->entries[i].eax & 0xff;
				mapped = cpuid->entries[i].eax >> 16 & 0xff;
			}
	free(cpuid);
	if (mapped && mapped < bits)
		bits = mapped;
	return (uint8_t)(bits < PHYS_BITS_MAX ? bits : PHYS_BITS_MAX);
}

/* Interrupted: KVM_CREATE_VM looks for signals while it waits. */
static int create_vm(struct vm *vm)
{
	do
		vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	while (vm->fd < 0 && errno == EINTR);
	return vm->fd < 0 ? -errno : 0;
}

static const uint32_t irqchip_ids[] = { KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
					KVM_IRQCHIP_IOAPIC };

/* With the lock held, or before there is a second thread. */
static int set_routes(struct vm *vm)
{
	struct kvm_irq_routing *table =
		calloc(1, sizeof(*table) + LAYOUT_GSI_MAX * sizeof(table->entries[0]));
	struct kvm_irq_routing_entry *e;

	if (!table)
		return -ENOMEM;
	for (uint32_t pin = 0; pin < IOAPIC_PINS; pin++) {
		e = &table->entries[table->nr++];
		*e = (struct kvm_irq_routing_entry){ .gsi = pin, .type = KVM_IRQ_ROUTING_IRQCHIP };
		e->u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		e->u.irqchip.pin = pin;
	}
	for (uint32_t gsi = LAYOUT_GSI_MSI; gsi < LAYOUT_GSI_MAX; gsi++) {
		const struct vm_msi *msi = &vm->msi[gsi];

		if (!msi->set)
			continue;
		e = &table->entries[table->nr++];
		*e = (struct kvm_irq_routing_entry){ .gsi = gsi, .type = KVM_IRQ_ROUTING_MSI };
		e->u.msi.address_lo = (uint32_t)msi->address;
		e->u.msi.address_hi = (uint32_t)(msi->address >> 32);
		e->u.msi.data = msi->data;
	}
	int ret = vm_ioctl(vm, KVM_SET_GSI_ROUTING, table);

	free(table);
	return ret;
}

static int set_up(struct vm *vm, const char **what)
{
	uint64_t identity = LAYOUT_TSS + 3 * 4096;

	if (ioctl(vm->fd, KVM_SET_TSS_ADDR, LAYOUT_TSS) < 0)
		return fail(what, "KVM: KVM_SET_TSS_ADDR", -errno);
	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
		return fail(what, "KVM: KVM_SET_IDENTITY_MAP_ADDR", -errno);
	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return fail(what, "KVM: KVM_CREATE_IRQCHIP", -errno);
	vm->irqchips = calloc(ARRAY_SIZE(irqchip_ids), sizeof(*vm->irqchips));
	if (!vm->irqchips)
		return fail(what, "out of memory", -ENOMEM);
	for (size_t i = 0; i < ARRAY_SIZE(irqchip_ids); i++) {
		vm->irqchips[i].chip_id = irqchip_ids[i];
		if (ioctl(vm->fd, KVM_GET_IRQCHIP, &vm->irqchips[i]) < 0)
			return fail(what, "KVM: KVM_GET_IRQCHIP", -errno);
	}
	const int ret = set_routes(vm);

	return ret ? fail(what, "KVM: KVM_SET_GSI_ROUTING", ret) : 0;
}

int vm_create(struct vm *vm, const char **what)
{
	int ret;

	memset(vm, 0, sizeof(*vm));
	vm->fd = -1;
	pthread_mutex_init(&vm->lock, NULL);
	ret = open_kvm(vm, what);
	if (ret == 0)
		ret = check_capabilities(vm, what);
	if (ret == 0) {
		vm->phys_bits = physical_bits(vm);
		ret = create_vm(vm);
		if (ret != 0)
			*what = "KVM: KVM_CREATE_VM";
	}
	if (ret == 0)
		ret = set_up(vm, what);
	if (ret != 0)
		vm_destroy(vm);
	return ret;
}

void vm_destroy(struct vm *vm)
{
	cc_close(&vm->fd);
	cc_close(&vm->kvm);
	free(vm->irqchips);
	vm->irqchips = NULL;
	pthread_mutex_destroy(&vm->lock);
}

int vm_reset(struct vm *vm)
{
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(irqchip_ids) && ret == 0; i++) {
		struct kvm_irqchip chip = vm->irqchips[i];

		ret = vm_ioctl(vm, KVM_SET_IRQCHIP, &chip);
	}
	return ret;
}

/* The slot in which a region has what lies at `at`, an offset. */
static struct vm_slot slot_of(const struct box_memory *epoch, uint32_t region, uint64_t at)
{
	const struct mem_region *r = &epoch->map.regions[region];
	const uint64_t unit = epoch->slot_bytes[region] ? epoch->slot_bytes[region] : r->bytes;
	const uint64_t begin = at - at % unit;
	const uint64_t left = r->bytes - begin;

	return (struct vm_slot){ r->gpa + begin, left < unit ? left : unit, r->addr + begin };
}

static bool slot_is(const struct vm_slot *a, const struct vm_slot *b)
{
	return a->gpa == b->gpa && a->bytes == b->bytes && a->addr == b->addr;
}

static bool epoch_has(const struct box_memory *epoch, const struct vm_slot *slot)
{
	for (uint32_t i = 0; i < epoch->map.count; i++) {
		const struct mem_region *r = &epoch->map.regions[i];

		if (slot->gpa >= r->gpa && slot->gpa - r->gpa < r->bytes) {
			const struct vm_slot has = slot_of(epoch, i, slot->gpa - r->gpa);

			return slot_is(slot, &has);
		}
	}
	return false;
}

/* bytes 0 removes. */
static int slot_set(struct vm *vm, uint32_t number, const struct vm_slot *to)
{
	struct kvm_userspace_memory_region region = { .slot = number,
						      .guest_phys_addr = to->gpa,
						      .memory_size = to->bytes,
						      .userspace_addr = to->addr };
	int ret = vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);

	if (ret == 0)
		vm->slots[number] = *to;
	return ret;
}

static int slot_add(struct vm *vm, const struct vm_slot *slot)
{
	uint32_t empty = VM_SLOTS_MAX;

	for (uint32_t i = 0; i < VM_SLOTS_MAX; i++) {
		if (slot_is(&vm->slots[i], slot))
			return 0;
		if (vm->slots[i].bytes == 0 && empty == VM_SLOTS_MAX)
			empty = i;
	}
	/* What the epoch lacks has gone before, so there is one. */
	CHECK(empty < VM_SLOTS_MAX);
	return slot_set(vm, empty, slot);
}

static int region_add(struct vm *vm, const struct box_memory *epoch, uint32_t region)
{
	int ret = 0;

	for (uint64_t at = 0; at < epoch->map.regions[region].bytes && ret == 0;) {
		const struct vm_slot slot = slot_of(epoch, region, at);

		ret = slot_add(vm, &slot);
		at += slot.bytes;
	}
	return ret;
}

int vm_set_memory(struct vm *vm, const struct box_memory *epoch)
{
	int ret = 0;

	/* Removals first: a new region may lie where an old one was. */
	for (uint32_t i = 0; i < VM_SLOTS_MAX && ret == 0; i++)
		if (vm->slots[i].bytes && !epoch_has(epoch, &vm->slots[i]))
			ret = slot_set(vm, i, &(struct vm_slot){ .gpa = vm->slots[i].gpa });
	for (uint32_t i = 0; i < epoch->map.count && ret == 0; i++)
		ret = region_add(vm, epoch, i);
	return ret;
}

int vm_doorbell(struct vm *vm, uint64_t gpa, int eventfd, bool assign)
{
	struct kvm_ioeventfd bell = { .addr = gpa, .len = sizeof(uint16_t), .fd = eventfd };

	if (!assign)
		bell.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	return vm_ioctl(vm, KVM_IOEVENTFD, &bell);
}

int vm_msi_alloc(struct vm *vm, uint32_t *gsi)
{
	int ret = -ENOSPC;

	pthread_mutex_lock(&vm->lock);
	for (uint32_t i = LAYOUT_GSI_MSI; i < LAYOUT_GSI_MAX; i++)
		if (!vm->msi[i].used) {
			vm->msi[i] = (struct vm_msi){ .used = true };
			*gsi = i;
			ret = 0;
			break;
		}
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

void vm_msi_free(struct vm *vm, uint32_t gsi)
{
	CHECK(gsi >= LAYOUT_GSI_MSI && gsi < LAYOUT_GSI_MAX);
	pthread_mutex_lock(&vm->lock);
	CHECK(vm->msi[gsi].used);
	const bool routed = vm->msi[gsi].set;

	vm->msi[gsi] = (struct vm_msi){ 0 };
	/* Out of memory leaves a route behind to which nothing is connected. */
	if (routed)
		(void)set_routes(vm);
	pthread_mutex_unlock(&vm->lock);
}

int vm_msi_set(struct vm *vm, uint32_t gsi, uint64_t address, uint32_t data)
{
	const struct vm_msi want = { .used = true, .set = true, .address = address, .data = data };
	int ret = 0;

	CHECK(gsi >= LAYOUT_GSI_MSI && gsi < LAYOUT_GSI_MAX);
	pthread_mutex_lock(&vm->lock);
	struct vm_msi *msi = &vm->msi[gsi];
	const struct vm_msi before = *msi;

	CHECK(before.used);
	if (!before.set || before.address != address || before.data != data) {
		*msi = want;
		ret = set_routes(vm);
		if (ret != 0)
			*msi = before;
	}
	pthread_mutex_unlock(&vm->lock);
	return ret;
}

int vm_irqfd(struct vm *vm, uint32_t gsi, int eventfd, bool assign)
{
	struct kvm_irqfd irqfd = { .fd = (uint32_t)eventfd,
				   .gsi = gsi,
				   .flags = assign ? 0 : KVM_IRQFD_FLAG_DEASSIGN };

	return vm_ioctl(vm, KVM_IRQFD, &irqfd);
}

int vm_line(struct vm *vm, uint32_t gsi, bool up)
{
	struct kvm_irq_level line = { .irq = gsi, .level = up };

	return vm_ioctl(vm, KVM_IRQ_LINE, &line);
}
