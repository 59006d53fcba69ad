/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  The order in which KVM is asked and told matters: reading MP_STATE moves
 * what is pending in the LAPIC, so it comes first and VCPU_EVENTS last; APIC_BASE (in SREGS) decides
 * how the LAPIC's page is read, so SREGS goes before LAPIC; TSC_DEADLINE is compared with TSC, so it
 * is the last MSR.
 *
 * KVM lists more MSRs than it will read, depending on the CPU; those that it refuses are dropped one
 * by one at the beginning, on the vCPU as it is made.  MTRRs are not in its list.
 */
#include "core/machine/vcpu_state.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/cc.h"
#include "core/machine/layout.h"

#define MSR_TSC 0x10
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_MISC_ENABLE 0x1a0
#define MSR_MISC_ENABLE_FAST_STRING 1u
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MSR_MTRR_ENABLED_WRITE_BACK 0x806
#define MSR_HWCR 0xc0010015
#define MSR_HWCR_TSC_FREQ_SEL (1u << 24)
#define CPUID_POWER 0x80000007
#define CPUID_CONSTANT_TSC (1u << 8)
#define MSRS_MAX 1024

#define APIC_LVT_LINT0 0x350
#define APIC_LVT_LINT1 0x360
#define APIC_MODE_NMI 0x400
#define APIC_MODE_EXTINT 0x700

#define CR0_PE 0x1u
#define CR0_ET 0x10u
#define CR0_PG 0x80000000u
#define CR4_PAE 0x20u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define RFLAGS_RESERVED 0x2u

static const uint32_t mtrrs[] = { 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b,
				  0x26c, 0x26d, 0x26e, 0x26f, 0x200, 0x201, 0x202,
				  0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209,
				  0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f, MSR_MTRR_DEF_TYPE };

static int msr_indices(int kvm, struct kvm_msr_list **out)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(list->indices[0]));
	int ret = 0;

	if (!list)
		return -ENOMEM;
	list->nmsrs = MSRS_MAX - ARRAY_SIZE(mtrrs);
	if (ioctl(kvm, KVM_GET_MSR_INDEX_LIST, list) < 0)
		ret = -errno;
	if (ret) {
		free(list);
		return ret;
	}
	memcpy(&list->indices[list->nmsrs], mtrrs, sizeof(mtrrs));
	list->nmsrs += ARRAY_SIZE(mtrrs);
	*out = list;
	return 0;
}

static void add_if_readable(struct kvm_msrs *msrs, int vcpu, uint32_t index)
{
	union {
		struct kvm_msrs head;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} one = { .head = { .nmsrs = 1 } };

	one.head.entries[0].index = index;
	if (ioctl(vcpu, KVM_GET_MSRS, &one) == 1)
		msrs->entries[msrs->nmsrs++] = one.head.entries[0];
}

static struct kvm_msr_entry *find_msr(struct kvm_msrs *msrs, uint32_t index)
{
	for (uint32_t i = 0; i < msrs->nmsrs; i++)
		if (msrs->entries[i].index == index)
			return &msrs->entries[i];
	return NULL;
}

static int init_msrs(struct vcpu_state *state, int kvm, int vcpu)
{
	struct kvm_msr_list *list;
	const int ret = msr_indices(kvm, &list);

	if (ret)
		return ret;
	state->msrs =
		calloc(1, sizeof(*state->msrs) + list->nmsrs * sizeof(state->msrs->entries[0]));
	for (uint32_t i = 0; state->msrs && i < list->nmsrs; i++)
		add_if_readable(state->msrs, vcpu, list->indices[i]);
	free(list);
	if (!state->msrs)
		return -ENOMEM;
	struct kvm_msr_entry *deadline = find_msr(state->msrs, MSR_TSC_DEADLINE);

	if (deadline) {
		struct kvm_msr_entry *last = &state->msrs->entries[state->msrs->nmsrs - 1];
		const struct kvm_msr_entry swap = *last;

		*last = *deadline;
		*deadline = swap;
	}
	return 0;
}

int vcpu_state_init(struct vcpu_state *state, int kvm, int vcpu)
{
	const int wide = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	memset(state, 0, sizeof(*state));
	state->xsave_bytes =
		wide > (int)sizeof(struct kvm_xsave) ? (uint32_t)wide : sizeof(struct kvm_xsave);
	state->has_xcrs = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_XCRS) > 0;
	state->xsave = calloc(1, state->xsave_bytes);
	if (!state->xsave)
		return -ENOMEM;
	const int ret = init_msrs(state, kvm, vcpu);

	if (ret)
		vcpu_state_free(state);
	return ret;
}

void vcpu_state_free(struct vcpu_state *state)
{
	free(state->xsave);
	free(state->msrs);
	state->xsave = NULL;
	state->msrs = NULL;
}

/* request 0: nothing to ask. */
static int ask(int vcpu, unsigned long request, void *arg)
{
	return request && ioctl(vcpu, request, arg) < 0 ? -errno : 0;
}

int vcpu_state_get(struct vcpu_state *state, int vcpu)
{
	const unsigned long get_xsave =
		state->xsave_bytes > sizeof(struct kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
	const struct {
		unsigned long request;
		void *arg;
	} steps[] = {
		{ KVM_GET_MP_STATE, &state->mp },
		{ KVM_GET_REGS, &state->regs },
		{ KVM_GET_SREGS, &state->sregs },
		{ KVM_GET_DEBUGREGS, &state->debugregs },
		{ get_xsave, state->xsave },
		{ state->has_xcrs ? KVM_GET_XCRS : 0, &state->xcrs },
		{ KVM_GET_LAPIC, &state->lapic },
		{ KVM_GET_MSRS, state->msrs },
		{ KVM_GET_VCPU_EVENTS, &state->events },
	};
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(steps) && ret == 0; i++)
		ret = ask(vcpu, steps[i].request, steps[i].arg);
	return ret;
}

/* KVM stops at the first that it refuses: go on behind it. */
static int set_msrs(const struct kvm_msrs *msrs, int vcpu)
{
	const size_t bytes = sizeof(*msrs) + msrs->nmsrs * sizeof(msrs->entries[0]);
	struct kvm_msrs *rest = malloc(bytes);
	uint32_t done = 0;
	int ret = 0;

	if (!rest)
		return -ENOMEM;
	while (done < msrs->nmsrs && ret >= 0) {
		rest->nmsrs = msrs->nmsrs - done;
		rest->pad = 0;
		memcpy(rest->entries, &msrs->entries[done], rest->nmsrs * sizeof(rest->entries[0]));
		ret = ioctl(vcpu, KVM_SET_MSRS, rest);
		if (ret >= 0)
			done += (uint32_t)ret < rest->nmsrs ? (uint32_t)ret + 1 : rest->nmsrs;
	}
	ret = ret < 0 ? -errno : 0;
	free(rest);
	return ret;
}

int vcpu_state_set(const struct vcpu_state *state, int vcpu)
{
	const struct step {
		unsigned long request;
		const void *arg;
	} before[] = { { KVM_SET_SREGS, &state->sregs },
		       { KVM_SET_XSAVE, state->xsave },
		       { state->has_xcrs ? KVM_SET_XCRS : 0, &state->xcrs },
		       { KVM_SET_LAPIC, &state->lapic } },
	  after[] = { { KVM_SET_REGS, &state->regs },
		      { KVM_SET_DEBUGREGS, &state->debugregs },
		      { KVM_SET_MP_STATE, &state->mp },
		      { KVM_SET_VCPU_EVENTS, &state->events } };
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(before) && ret == 0; i++)
		ret = ask(vcpu, before[i].request, (void *)before[i].arg);
	if (ret == 0)
		ret = set_msrs(state->msrs, vcpu);
	for (size_t i = 0; i < ARRAY_SIZE(after) && ret == 0; i++)
		ret = ask(vcpu, after[i].request, (void *)after[i].arg);
	return ret;
}

static void set_lvt(struct kvm_lapic_state *lapic, uint32_t offset, uint32_t value)
{
	memcpy(&lapic->regs[offset], &value, sizeof(value));
}

static void or_msr(struct kvm_msrs *msrs, uint32_t index, uint64_t bits)
{
	struct kvm_msr_entry *e = find_msr(msrs, index);

	if (e)
		e->data |= bits;
}

void vcpu_state_power_on(struct vcpu_state *state)
{
	struct kvm_msr_entry *tsc = find_msr(state->msrs, MSR_TSC);
	unsigned eax, ebx, ecx, edx;

	set_lvt(&state->lapic, APIC_LVT_LINT0, APIC_MODE_EXTINT);
	set_lvt(&state->lapic, APIC_LVT_LINT1, APIC_MODE_NMI);
	or_msr(state->msrs, MSR_MISC_ENABLE, MSR_MISC_ENABLE_FAST_STRING);
	or_msr(state->msrs, MSR_MTRR_DEF_TYPE, MSR_MTRR_ENABLED_WRITE_BACK);
	/* AMD: without it Linux calls a constant TSC a firmware bug.  Older KVMs refuse it. */
	if (__get_cpuid(CPUID_POWER, &eax, &ebx, &ecx, &edx) && (edx & CPUID_CONSTANT_TSC))
		or_msr(state->msrs, MSR_HWCR, MSR_HWCR_TSC_FREQ_SEL);
	if (tsc)
		tsc->data = 0;
}

/* A flat segment from 0 to 4 GiB as the GDT of boot.c has it. */
static struct kvm_segment flat(uint16_t selector, bool code, bool wide)
{
	return (struct kvm_segment){ .limit = 0xffffffff,
				     .selector = selector,
				     .type = code ? 0xb : 0x3,
				     .present = 1,
				     .db = !(code && wide),
				     .s = 1,
				     .l = code && wide,
				     .g = 1 };
}

void vcpu_state_enter(struct vcpu_state *state, const struct boot_entry *entry)
{
	const bool wide = entry->protocol == BOOT_LINUX64;
	const struct kvm_segment data = flat(BOOT_DS, false, wide);
	struct kvm_sregs *s = &state->sregs;

	s->cs = flat(BOOT_CS, true, wide);
	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->tr = (struct kvm_segment){
		.limit = 0x67, .selector = BOOT_TSS, .type = 0xb, .present = 1
	};
	s->gdt = (struct kvm_dtable){ .base = LAYOUT_GDT, .limit = BOOT_GDT_BYTES - 1 };
	s->idt = (struct kvm_dtable){ 0 };
	s->cr0 = CR0_PE | CR0_ET | (wide ? CR0_PG : 0);
	s->cr3 = wide ? LAYOUT_PAGE_TABLES : 0;
	s->cr4 = wide ? CR4_PAE : 0;
	s->efer = wide ? EFER_LME | EFER_LMA : 0;
	state->regs = (struct kvm_regs){ .rip = entry->rip, .rflags = RFLAGS_RESERVED };
	state->regs.rsp = LAYOUT_STACK;
	if (wide)
		state->regs.rsi = entry->info;
	else
		state->regs.rbx = entry->info;
	state->mp.mp_state = KVM_MP_STATE_RUNNABLE;
}
