/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.  A page of guest memory that was copied is read-only in this process; the first
 * write to it traps, and the handler makes it writable, and only then notes it: noted first, it could be
 * fetched and protected in between, and be writable and not noted ever after.  Boxes have mappings of
 * their own, and notice nothing.
 */
#include "tests/rig/mirror.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/cc.h"

#define COMPLAINTS_MAX 8

static struct mirror *following;

/* The page of this address, or -1: not in guest memory. */
static int64_t page_at(const struct mirror *m, uint64_t addr)
{
	for (uint32_t i = 0; i < m->mem->map.count; i++) {
		const struct mem_region *r = &m->mem->map.regions[i];

		if (addr - r->addr < r->bytes)
			return (int64_t)((r->gpa + (addr - r->addr)) / LOG_PAGE);
	}
	return -1;
}

static void on_write(int sig, siginfo_t *info, void *context)
{
	const uint64_t addr = (uintptr_t)info->si_addr & ~(LOG_PAGE - 1);
	const int64_t page = following != NULL ? page_at(following, addr) : -1;

	(void)context;
	if (page < 0) { /* somebody else's fault: again, and for good */
		signal(sig, SIG_DFL);
		return;
	}
	if (mprotect((void *)addr, LOG_PAGE, PROT_READ | PROT_WRITE) != 0)
		abort();
	__atomic_fetch_or(&following->guest[page / 64], 1ull << page % 64, __ATOMIC_SEQ_CST);
}

static void protect_all(const struct mirror *m, int prot)
{
	for (uint32_t i = 0; i < m->mem->map.count; i++) {
		const struct mem_region *r = &m->mem->map.regions[i];

		CHECK(mprotect((void *)(uintptr_t)r->addr, r->bytes, prot) == 0);
	}
}

static int make_log(struct mirror *m)
{
	const struct mem_region *last = &m->mem->map.regions[m->mem->map.count - 1];
	const uint64_t pages = (last->gpa + last->bytes) / LOG_PAGE;
	void *p;

	m->bytes = (pages + 7) / 8;
	m->words = (pages + 63) / 64;
	m->fd = memfd_create("dirty", MFD_CLOEXEC);
	if (m->fd < 0 || ftruncate(m->fd, (off_t)(m->offset + m->bytes)) != 0)
		return -errno;
	p = mmap(NULL, m->offset + m->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	m->mapping = p;
	m->log = (uint64_t *)(m->mapping + m->offset);
	m->guest = calloc(m->words, sizeof(*m->guest));
	return m->guest != NULL ? 0 : -ENOMEM;
}

int mirror_begin(struct mirror *m, const struct guestmem *mem, uint64_t offset)
{
	const struct sigaction action = { .sa_sigaction = on_write, .sa_flags = SA_SIGINFO };
	int ret;

	*m = (struct mirror){ .mem = mem, .offset = offset, .fd = -1 };
	ret = make_log(m);
	for (uint32_t i = 0; i < mem->map.count && ret == 0; i++) {
		m->copies[i] = malloc(mem->map.regions[i].bytes);
		ret = m->copies[i] != NULL ? 0 : -ENOMEM;
	}
	if (ret != 0)
		return ret;
	following = m;
	if (sigaction(SIGSEGV, &action, NULL) != 0)
		return -errno;
	protect_all(m, PROT_READ);
	return 0;
}

void mirror_describe(const struct mirror *m, struct box_memory *memory)
{
	memory->log_fd = m->fd;
	memory->log_offset = m->offset;
	memory->log_bytes = m->bytes;
}

void mirror_copy(struct mirror *m)
{
	for (uint32_t i = 0; i < m->mem->map.count; i++) {
		const struct mem_region *r = &m->mem->map.regions[i];

		memcpy(m->copies[i], (void *)(uintptr_t)r->addr, r->bytes);
	}
}

static void copy_page(const struct mirror *m, uint64_t page)
{
	const uint64_t gpa = page * LOG_PAGE;

	for (uint32_t i = 0; i < m->mem->map.count; i++) {
		const struct mem_region *r = &m->mem->map.regions[i];

		if (gpa - r->gpa < r->bytes)
			memcpy(m->copies[i] + (gpa - r->gpa),
			       (void *)(uintptr_t)(r->addr + (gpa - r->gpa)), LOG_PAGE);
	}
}

static void protect_page(const struct mirror *m, uint64_t page)
{
	void *at = guestmem_ptr(m->mem, gpa_make(page * LOG_PAGE), LOG_PAGE);

	CHECK(at != NULL && mprotect(at, LOG_PAGE, PROT_READ) == 0);
}

uint64_t mirror_fetch(struct mirror *m)
{
	uint64_t copied = 0;

	for (uint64_t w = 0; w < m->words; w++) {
		const uint64_t marked = __atomic_exchange_n(&m->log[w], 0, __ATOMIC_SEQ_CST);
		const uint64_t written = __atomic_exchange_n(&m->guest[w], 0, __ATOMIC_SEQ_CST);

		for (uint64_t left = marked | written; left != 0; left &= left - 1) {
			const uint64_t page = w * 64 + (uint64_t)__builtin_ctzll(left);

			if (written & (left & -left))
				protect_page(m, page);
			copy_page(m, page);
			copied++;
		}
		m->marked += (uint64_t)__builtin_popcountll(marked);
		m->written += (uint64_t)__builtin_popcountll(written);
	}
	return copied;
}

uint64_t mirror_differs(const struct mirror *m, bool say)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < m->mem->map.count; i++) {
		const struct mem_region *r = &m->mem->map.regions[i];

		for (uint64_t off = 0; off < r->bytes; off += LOG_PAGE) {
			if (memcmp(m->copies[i] + off, (void *)(uintptr_t)(r->addr + off),
				   LOG_PAGE) == 0)
				continue;
			if (n++ < COMPLAINTS_MAX && say)
				fprintf(stderr, "mirror: page 0x%" PRIx64 " differs\n",
					r->gpa + off);
		}
	}
	return n;
}

void mirror_end(struct mirror *m)
{
	if (m->mem == NULL)
		return;
	if (following == m) {
		protect_all(m, PROT_READ | PROT_WRITE);
		signal(SIGSEGV, SIG_DFL);
		following = NULL;
	}
	for (uint32_t i = 0; i < MEM_REGIONS_MAX; i++)
		free(m->copies[i]);
	free(m->guest);
	if (m->mapping != NULL)
		munmap(m->mapping, m->offset + m->bytes);
	if (m->fd >= 0)
		close(m->fd);
	memset(m, 0, sizeof(*m));
}
