/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  Each vCPU has a thread that alternates between KVM_RUN and the access that
 * made it return.
 *
 * Pausing must not lose a wake-up, and must leave no access half done.  Both follow from one rule: a
 * thread waits only directly after a KVM_RUN that said EINTR.  The pauser sets `paused` and each
 * vCPU's immediate_exit under the lock, then signals.  Wherever the signal meets the thread:
 *   - in the guest: KVM_RUN says EINTR;
 *   - on its way into KVM_RUN: the signal is spent, but immediate_exit makes KVM_RUN say EINTR;
 *   - in a bus access: the thread ends it, and its next KVM_RUN first gives the answer to the guest,
 *     then says EINTR.  If the instruction makes another access, KVM_RUN returns that instead, and
 *     the same happens again.
 * immediate_exit is taken back by the thread itself, under the lock, when nobody wants a pause.
 *
 * The handler of the signal is empty and restarts system calls; KVM_RUN says EINTR all the same.
 * vCPU threads take no other signal.
 */
#include "core/machine/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "core/cc.h"
#include "core/confine.h"
#include "core/log.h"
#include "core/machine/cpuid.h"
#include "core/machine/vcpu_state.h"

struct vcpu {
	struct vcpus *all;
	uint32_t index;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool started;
	bool dead;                 /* cannot go on without a reset; under the lock */
	struct vcpu_state initial; /* as after power-on */
};

struct vcpus {
	struct vcpus_config config;
	pthread_mutex_t lock;
	pthread_cond_t idle; /* busy became 0 */
	pthread_cond_t go;   /* paused, dead or ending changed */
	bool paused;
	bool ending;
	uint32_t busy; /* threads that do not wait */
	struct vcpu cpu[];
};

const char *guest_end_text(enum guest_end end)
{
	static const char *const text[GUEST_END_COUNT] = {
#define GUEST_END_TEXT(NAME, words) [GUEST_END_##NAME] = (words),
		GUEST_ENDS(GUEST_END_TEXT)
#undef GUEST_END_TEXT
	};

	CHECK(end < GUEST_END_COUNT);
	return text[end];
}

/* Exits. */

/* `rep ins` and `rep outs` come with several items at once, all for the one port. */
static enum guest_end exit_io(struct vcpu *cpu)
{
	struct kvm_run *run = cpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	const uint32_t size = run->io.size, count = run->io.count;
	const uint16_t port = run->io.port;

	for (uint32_t i = 0; i < count; i++, data += size) {
		uint64_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, size);
			bus_write(cpu->all->config.ports, port, size, value);
		} else {
			value = bus_read(cpu->all->config.ports, port, size);
			memcpy(data, &value, size);
		}
	}
	return GUEST_END_NONE;
}

/* An access that crosses a page comes in parts of any length: what is no power of two is cut. */
static enum guest_end exit_mmio(struct vcpu *cpu)
{
	struct kvm_run *run = cpu->run;
	uint32_t left = run->mmio.len <= 8 ? run->mmio.len : 8, at = 0;

	while (left) {
		const uint32_t size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
		const uint64_t addr = run->mmio.phys_addr + at;
		uint64_t value = 0;

		if (run->mmio.is_write) {
			memcpy(&value, run->mmio.data + at, size);
			bus_write(cpu->all->config.mmio, addr, size, value);
		} else {
			value = bus_read(cpu->all->config.mmio, addr, size);
			memcpy(run->mmio.data + at, &value, size);
		}
		at += size;
		left -= size;
	}
	return GUEST_END_NONE;
}

static enum guest_end exit_nothing(struct vcpu *cpu)
{
	(void)cpu;
	return GUEST_END_NONE;
}

static enum guest_end exit_shutdown(struct vcpu *cpu)
{
	(void)cpu;
	return GUEST_END_TRIPLE_FAULT;
}

static enum guest_end exit_system_event(struct vcpu *cpu)
{
	switch (cpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		return GUEST_END_POWER_OFF;
	case KVM_SYSTEM_EVENT_RESET:
		return GUEST_END_RESET;
	case KVM_SYSTEM_EVENT_CRASH:
		return GUEST_END_PANIC;
	default:
		return GUEST_END_KVM;
	}
}

static enum guest_end exit_internal_error(struct vcpu *cpu)
{
	log_error("vCPU %u: KVM internal error, suberror %u", cpu->index,
		  cpu->run->internal.suberror);
	return GUEST_END_KVM;
}

static enum guest_end exit_fail_entry(struct vcpu *cpu)
{
	log_error("vCPU %u: the CPU refuses the guest's state, reason 0x%llx", cpu->index,
		  (unsigned long long)cpu->run->fail_entry.hardware_entry_failure_reason);
	return GUEST_END_KVM;
}

static enum guest_end (*const exits[])(struct vcpu *cpu) = {
	[KVM_EXIT_IO] = exit_io,
	[KVM_EXIT_MMIO] = exit_mmio,
	/* Only without in-kernel LAPICs, and then there is nothing to wait for. */
	[KVM_EXIT_HLT] = exit_nothing,
	[KVM_EXIT_INTR] = exit_nothing,
	[KVM_EXIT_SHUTDOWN] = exit_shutdown,
	[KVM_EXIT_SYSTEM_EVENT] = exit_system_event,
	[KVM_EXIT_INTERNAL_ERROR] = exit_internal_error,
	[KVM_EXIT_FAIL_ENTRY] = exit_fail_entry,
};

static enum guest_end handle_exit(struct vcpu *cpu)
{
	const uint32_t reason = cpu->run->exit_reason;

	if (reason < ARRAY_SIZE(exits) && exits[reason])
		return exits[reason](cpu);
	log_error("vCPU %u: KVM exit %u, which nothing here asked for", cpu->index, reason);
	return GUEST_END_KVM;
}

/* The thread. */

static void set_immediate_exit(struct vcpu *cpu, uint8_t value)
{
	__atomic_store_n(&cpu->run->immediate_exit, value, __ATOMIC_SEQ_CST);
}

/* Directly after KVM_RUN said EINTR: waits while a pause is wanted.  False: the thread shall end. */
static bool vcpu_wait(struct vcpu *cpu)
{
	struct vcpus *v = cpu->all;

	pthread_mutex_lock(&v->lock);
	while ((v->paused || cpu->dead) && !v->ending) {
		if (--v->busy == 0)
			pthread_cond_broadcast(&v->idle);
		pthread_cond_wait(&v->go, &v->lock);
		v->busy++;
	}
	const bool go_on = !v->ending;

	if (go_on)
		set_immediate_exit(cpu, 0);
	pthread_mutex_unlock(&v->lock);
	return go_on;
}

static void vcpu_died(struct vcpu *cpu, enum guest_end end)
{
	struct vcpus *v = cpu->all;

	pthread_mutex_lock(&v->lock);
	cpu->dead = true;
	pthread_mutex_unlock(&v->lock);
	v->config.ended(v->config.ctx, end);
}

/* Until something makes the thread wait. */
static void vcpu_run(struct vcpu *cpu)
{
	for (;;) {
		enum guest_end end = GUEST_END_NONE;

		if (ioctl(cpu->fd, KVM_RUN, 0) == 0) {
			end = handle_exit(cpu);
		} else if (errno == EINTR) {
			return;
		} else if (errno != EAGAIN) { /* EAGAIN: an application processor got its SIPI */
			log_error("vCPU %u: KVM_RUN: %s", cpu->index, strerror(errno));
			end = GUEST_END_KVM;
		}
		if (end != GUEST_END_NONE) {
			vcpu_died(cpu, end);
			return;
		}
	}
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *cpu = arg;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", cpu->index);
	pthread_setname_np(pthread_self(), name);
	confine_thread(CONFINE_VCPU);
	while (vcpu_wait(cpu))
		vcpu_run(cpu);
	return NULL;
}

static void kick_handler(int signal)
{
	(void)signal;
}

/* With the lock held. */
static void kick_all(struct vcpus *v)
{
	for (uint32_t i = 0; i < v->config.count; i++) {
		struct vcpu *cpu = &v->cpu[i];

		if (!cpu->started)
			continue;
		set_immediate_exit(cpu, 1);
		/* Real-time signals are queued; the queue, which the user's processes share, can be
		 * full, and then nothing has been sent. */
		while (pthread_kill(cpu->thread, SIGRTMIN) == EAGAIN)
			sched_yield();
	}
}

/* Making them. */

/* The new thread begins with the mask that it keeps: the kick, and what a bug of ours raises. */
static int start_thread(struct vcpu *cpu)
{
	static const int open[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP };
	sigset_t mask, before;

	sigfillset(&mask);
	sigdelset(&mask, SIGRTMIN);
	for (size_t i = 0; i < ARRAY_SIZE(open); i++)
		sigdelset(&mask, open[i]);
	pthread_sigmask(SIG_SETMASK, &mask, &before);
	const int ret = pthread_create(&cpu->thread, NULL, vcpu_thread, cpu);

	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (ret)
		return -ret;
	cpu->started = true;
	return 0;
}

static int set_cpuid(struct vcpu *cpu, const struct kvm_cpuid2 *supported)
{
	const struct vcpus_config *config = &cpu->all->config;
	const struct cpuid_config want = {
		.index = cpu->index,
		.count = config->count,
		.tsc_deadline =
			ioctl(config->vm->kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
	};
	struct kvm_cpuid2 *cpuid;
	int ret = cpuid_make(supported, &want, &cpuid);

	if (ret)
		return ret;
	if (ioctl(cpu->fd, KVM_SET_CPUID2, cpuid) < 0)
		ret = -errno;
	free(cpuid);
	return ret;
}

static int create_one(struct vcpu *cpu, const struct kvm_cpuid2 *supported, const char **what)
{
	const struct vm *vm = cpu->all->config.vm;
	int ret;

	*what = "KVM: KVM_CREATE_VCPU";
	cpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, cpu->index);
	if (cpu->fd < 0)
		return -errno;
	void *run =
		mmap(NULL, (size_t)vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);

	if (run == MAP_FAILED)
		return -errno;
	cpu->run = run;
	*what = "KVM: KVM_SET_CPUID2";
	ret = set_cpuid(cpu, supported);
	if (ret)
		return ret;
	*what = "KVM: reading a vCPU's state";
	ret = vcpu_state_init(&cpu->initial, vm->kvm, cpu->fd);
	if (ret == 0)
		ret = vcpu_state_get(&cpu->initial, cpu->fd);
	if (ret)
		return ret;
	vcpu_state_power_on(&cpu->initial);
	*what = "no thread for a vCPU";
	return start_thread(cpu);
}

static int create_all(struct vcpus *v, const char **what)
{
	struct kvm_cpuid2 *supported;
	int ret = cpuid_supported(v->config.vm->kvm, &supported);

	*what = "KVM: KVM_GET_SUPPORTED_CPUID";
	if (ret)
		return ret;
	for (uint32_t i = 0; i < v->config.count && ret == 0; i++)
		ret = create_one(&v->cpu[i], supported, what);
	free(supported);
	return ret;
}

static int install_kick(void)
{
	struct sigaction action = { .sa_handler = kick_handler, .sa_flags = SA_RESTART };

	return sigaction(SIGRTMIN, &action, NULL) ? -errno : 0;
}

int vcpus_create(struct vcpus **out, const struct vcpus_config *config, const char **what)
{
	struct vcpus *v;
	int ret;

	*what = "cpus: must be 1 to 32";
	_Static_assert(LAYOUT_CPUS_MAX == 32, "said in the text above");
	if (config->count < 1 || config->count > LAYOUT_CPUS_MAX)
		return -EINVAL;
	*what = "out of memory";
	v = calloc(1, sizeof(*v) + config->count * sizeof(v->cpu[0]));
	if (!v)
		return -ENOMEM;
	v->config = *config;
	v->paused = true;
	v->busy = config->count;
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->idle, NULL);
	pthread_cond_init(&v->go, NULL);
	for (uint32_t i = 0; i < config->count; i++)
		v->cpu[i] = (struct vcpu){ .all = v, .index = i, .fd = -1 };
	ret = install_kick();
	if (ret == 0)
		ret = create_all(v, what);
	if (ret != 0) {
		vcpus_destroy(v);
		return ret;
	}
	vcpus_pause(v);
	*out = v;
	return 0;
}

void vcpus_destroy(struct vcpus *v)
{
	const size_t run_bytes = (size_t)v->config.vm->run_bytes;

	pthread_mutex_lock(&v->lock);
	v->ending = true;
	kick_all(v);
	pthread_cond_broadcast(&v->go);
	pthread_mutex_unlock(&v->lock);
	for (uint32_t i = 0; i < v->config.count; i++) {
		struct vcpu *cpu = &v->cpu[i];

		if (cpu->started)
			pthread_join(cpu->thread, NULL);
		vcpu_state_free(&cpu->initial);
		if (cpu->run)
			munmap(cpu->run, run_bytes);
		cc_close(&cpu->fd);
	}
	pthread_cond_destroy(&v->go);
	pthread_cond_destroy(&v->idle);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

/* Control. */

int vcpus_reset(struct vcpus *v, const struct boot_entry *entry)
{
	int ret = 0;

	pthread_mutex_lock(&v->lock);
	CHECK(v->paused && v->busy == 0);
	for (uint32_t i = 0; i < v->config.count && ret == 0; i++) {
		struct vcpu_state state = v->cpu[i].initial; /* borrows its arrays */

		if (i == 0)
			vcpu_state_enter(&state, entry);
		else
			state.mp.mp_state = KVM_MP_STATE_UNINITIALIZED;
		ret = vcpu_state_set(&state, v->cpu[i].fd);
		v->cpu[i].dead = false;
	}
	pthread_mutex_unlock(&v->lock);
	return ret;
}

void vcpus_resume(struct vcpus *v)
{
	pthread_mutex_lock(&v->lock);
	/* So that a guest's watchdog does not take the pause for a hang; fails without kvmclock. */
	for (uint32_t i = 0; i < v->config.count && v->busy == 0; i++)
		(void)ioctl(v->cpu[i].fd, KVM_KVMCLOCK_CTRL, 0);
	v->paused = false;
	pthread_cond_broadcast(&v->go);
	pthread_mutex_unlock(&v->lock);
}

void vcpus_pause(struct vcpus *v)
{
	pthread_mutex_lock(&v->lock);
	if (!v->paused)
		kick_all(v);
	v->paused = true;
	while (v->busy)
		pthread_cond_wait(&v->idle, &v->lock);
	pthread_mutex_unlock(&v->lock);
}

int vcpus_fd(const struct vcpus *v, uint32_t index)
{
	CHECK(index < v->config.count);
	return v->cpu[index].fd;
}
