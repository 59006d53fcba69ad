/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A source is *attached* (its eventfd is an irqfd of its vector's GSI) exactly while the vector may
 * interrupt: MSI-X live, a vector bound, that vector not masked.  Otherwise the eventfd collects
 * what is signalled; its count is the pending bit, looked at with poll() so that it stays.
 *
 * Nothing is lost and nothing doubled over a mask and its end, because of what KVM does: assigning
 * an irqfd to an eventfd that has a count injects once, and deassigning it takes the count away in
 * the same step in which signals cease to be injected.  So a count belongs to either side, never to
 * both.
 *
 * A source that had no vector starts afresh when it gets one: what was signalled before was for
 * nobody (virtio 1.2 section 4.1.5.1.2.2).  From one vector to another, pending moves along.
 *
 * A route is set when a source of it is, or is about to be, attached, and only if it differs from
 * the one set last: KVM rebuilds the whole table for each.  Linux masks a vector while it rewrites
 * it; a guest that does not gets a route a word, as it would get from hardware.
 */
#include "core/bus/msix.h"

#include <poll.h>
#include <unistd.h>

#include "core/bus/virtio_pci.h"
#include "core/cc.h"
#include "core/log.h"

enum { WORD_ADDRESS, WORD_ADDRESS_HIGH, WORD_DATA, WORD_CONTROL };

#define CONTROL_MASKED 1u

/* Bits that a guest may write. */
static const uint32_t word_mask[4] = { ~3u, ~0u, ~0u, CONTROL_MASKED };

/* The guest loses interrupts, and only it can have brought it about or the host is out of memory. */
static void msix_complain(struct msix *m, const char *what, int ret)
{
	if (!m->failed)
		log_warn("msi-x: %s failed: error %d", what, -ret);
	m->failed = true;
}

static bool msix_may_interrupt(const struct msix *m, const struct msix_source *s)
{
	return m->live && s->vector != MSIX_NO_VECTOR &&
	       !(m->vector[s->vector].word[WORD_CONTROL] & CONTROL_MASKED);
}

/* 0, or the route could not be set. */
static int msix_route(struct msix *m, struct msix_vector *v)
{
	const uint64_t address = (uint64_t)v->word[WORD_ADDRESS_HIGH] << 32 | v->word[WORD_ADDRESS];
	const uint32_t data = v->word[WORD_DATA];
	int ret;

	if (v->routed && v->address == address && v->data == data)
		return 0;
	ret = m->machine->msi_set(m->machine->ctx, v->gsi, address, data);
	v->routed = ret == 0;
	v->address = address;
	v->data = data;
	if (ret != 0)
		msix_complain(m, "setting a route", ret);
	return ret;
}

static void msix_detach(struct msix *m, struct msix_source *s)
{
	if (!s->attached)
		return;
	m->machine->irqfd(m->machine->ctx, m->vector[s->vector].gsi, s->eventfd, false);
	s->attached = false;
}

/* Brings a source into the state that it should have. */
static void msix_update(struct msix *m, struct msix_source *s)
{
	struct msix_vector *v;
	int ret;

	if (!msix_may_interrupt(m, s)) {
		msix_detach(m, s);
		return;
	}
	v = &m->vector[s->vector];
	if (msix_route(m, v) != 0) {
		msix_detach(m, s); /* rather late than to the wrong place */
		return;
	}
	if (s->attached)
		return;
	ret = m->machine->irqfd(m->machine->ctx, v->gsi, s->eventfd, true);
	s->attached = ret == 0;
	if (ret != 0)
		msix_complain(m, "connecting an eventfd", ret);
}

static void msix_update_vector(struct msix *m, uint32_t vector)
{
	for (uint32_t i = 0; i < m->sources; i++) {
		if (m->source[i].vector == vector)
			msix_update(m, &m->source[i]);
	}
}

static void msix_mask_all(struct msix *m)
{
	for (uint32_t i = 0; i < m->vectors; i++) {
		uint32_t *word = m->vector[i].word;

		word[WORD_ADDRESS] = word[WORD_ADDRESS_HIGH] = word[WORD_DATA] = 0;
		word[WORD_CONTROL] = CONTROL_MASKED;
	}
}

int msix_init(struct msix *m, const struct virtio_machine *machine, const int *eventfds,
	      uint32_t count)
{
	CHECK(count <= MSIX_VECTORS_MAX);
	*m = (struct msix){ .machine = machine, .sources = count };
	for (uint32_t i = 0; i < count; i++) {
		const int ret = machine->msi_alloc(machine->ctx, &m->vector[i].gsi);

		if (ret != 0) {
			msix_fini(m);
			return ret;
		}
		m->source[i] = (struct msix_source){ eventfds[i], MSIX_NO_VECTOR, false };
		m->vectors++;
	}
	msix_mask_all(m);
	return 0;
}

void msix_reset(struct msix *m)
{
	m->live = false;
	for (uint32_t i = 0; i < m->sources; i++)
		msix_bind(m, i, MSIX_NO_VECTOR);
	msix_mask_all(m);
}

void msix_fini(struct msix *m)
{
	for (uint32_t i = 0; i < m->vectors; i++)
		msix_detach(m, &m->source[i]);
	while (m->vectors != 0)
		m->machine->msi_free(m->machine->ctx, m->vector[--m->vectors].gsi);
	m->sources = 0;
}

static void msix_drain(const struct msix_source *s)
{
	uint64_t count;

	/* Empty is as good as read. */
	if (read(s->eventfd, &count, sizeof(count)) < 0)
		return;
}

uint16_t msix_bind(struct msix *m, uint32_t source, uint16_t vector)
{
	struct msix_source *s = &m->source[source];

	if (vector >= m->vectors)
		vector = MSIX_NO_VECTOR;
	if (vector == s->vector)
		return vector;
	msix_detach(m, s);
	if (s->vector == MSIX_NO_VECTOR)
		msix_drain(s);
	s->vector = vector;
	msix_update(m, s);
	return vector;
}

void msix_set_live(struct msix *m, bool live)
{
	if (m->live == live)
		return;
	m->live = live;
	for (uint32_t i = 0; i < m->sources; i++)
		msix_update(m, &m->source[i]);
}

static bool msix_defined(uint64_t offset, uint32_t size)
{
	return (size == 4 || size == 8) && offset % size == 0;
}

/* The words from offset on, beyond the table 0. */
static uint32_t msix_word(const struct msix *m, uint64_t offset)
{
	const uint64_t vector = offset / MSIX_ENTRY_BYTES;

	return vector < m->vectors ? m->vector[vector].word[offset / 4 % 4] : 0;
}

uint64_t msix_table_read(const struct msix *m, uint64_t offset, uint32_t size)
{
	if (!msix_defined(offset, size))
		return 0;
	return msix_word(m, offset) | (size == 8 ? (uint64_t)msix_word(m, offset + 4) << 32 : 0);
}

void msix_table_write(struct msix *m, uint64_t offset, uint32_t size, uint64_t value)
{
	const uint64_t vector = offset / MSIX_ENTRY_BYTES;
	uint32_t word = offset / 4 % 4;

	if (!msix_defined(offset, size) || vector >= m->vectors)
		return;
	for (uint32_t done = 0; done < size; done += 4, word++)
		m->vector[vector].word[word] = (uint32_t)(value >> (8 * done)) & word_mask[word];
	msix_update_vector(m, (uint32_t)vector);
}

/* A bit a vector: some source of it has a count that nobody was interrupted for. */
static uint32_t msix_pending(const struct msix *m)
{
	struct pollfd polls[MSIX_VECTORS_MAX];
	uint32_t bits = 0;

	for (uint32_t i = 0; i < m->sources; i++) {
		const struct msix_source *s = &m->source[i];
		const bool counts = s->vector != MSIX_NO_VECTOR && !s->attached;

		polls[i] = (struct pollfd){ .fd = counts ? s->eventfd : -1, .events = POLLIN };
	}
	if (poll(polls, m->sources, 0) <= 0)
		return 0;
	for (uint32_t i = 0; i < m->sources; i++) {
		if (polls[i].revents & POLLIN)
			bits |= 1u << m->source[i].vector % 32;
	}
	return bits;
}

uint64_t msix_pba_read(const struct msix *m, uint64_t offset, uint32_t size)
{
	_Static_assert(MSIX_VECTORS_MAX <= 32, "one word of pending bits");
	if (!msix_defined(offset, size) || offset != 0)
		return 0;
	return msix_pending(m);
}
