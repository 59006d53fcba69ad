/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handler may run on any thread at any time, so the list is an array that is only looked at: a slot is
 * free while its length is 0, and is taken and given back under a lock that the handler does not need.
 */
#include "core/vhost/guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>

#include "core/cc.h"
#include "core/options.h"
#include "devmodel/abi/gpa.h"

/* Each device has a table in force, one that it came from and one that it goes to. */
#define GUARDS_MAX (3 * MEM_REGIONS_MAX * (RUN_DISKS_MAX + 1))

static struct {
	uintptr_t start;
	uint64_t page_bytes;
	uint64_t bytes;
} guards[GUARDS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction before;

/* The size of its page; 0: it is not guarded. */
static uint64_t guarded_page(uintptr_t address)
{
	for (size_t i = 0; i < GUARDS_MAX; i++) {
		const uint64_t bytes = __atomic_load_n(&guards[i].bytes, __ATOMIC_ACQUIRE);

		if (bytes != 0 && address >= guards[i].start && address - guards[i].start < bytes)
			return guards[i].page_bytes;
	}
	return 0;
}

static void pass_on(int number, siginfo_t *info, void *context)
{
	if ((before.sa_flags & SA_SIGINFO) != 0)
		before.sa_sigaction(number, info, context);
	else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
		before.sa_handler(number);
	else
		sigaction(number, &before, NULL); /* and it happens again */
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	const uintptr_t address = (uintptr_t)info->si_addr;
	const uint64_t bytes = info->si_code > 0 ? guarded_page(address) : 0;
	const int flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS;

	/* A system call and no more: async-signal-safe, whatever POSIX lists. */
	if (bytes != 0 && mmap((void *)(address & ~(bytes - 1)), bytes, PROT_READ | PROT_WRITE,
			       flags, -1, 0) != MAP_FAILED)
		return;
	pass_on(number, info, context);
}

int guard_begin(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	struct sigaction old;

	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, &action, &old) != 0)
		return -errno;
	if ((old.sa_flags & SA_SIGINFO) == 0 || old.sa_sigaction != on_sigbus)
		before = old;
	return 0;
}

bool guard_add(const void *start, uint64_t bytes, uint64_t page_bytes)
{
	bool found = false;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < GUARDS_MAX && !found; i++) {
		if (guards[i].bytes != 0)
			continue;
		guards[i].start = (uintptr_t)start;
		guards[i].page_bytes = page_bytes;
		__atomic_store_n(&guards[i].bytes, bytes, __ATOMIC_RELEASE);
		found = true;
	}
	pthread_mutex_unlock(&lock);
	return found;
}

void guard_remove(const void *start)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < GUARDS_MAX; i++) {
		if (guards[i].bytes != 0 && guards[i].start == (uintptr_t)start)
			__atomic_store_n(&guards[i].bytes, 0, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&lock);
}
