/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MSI-X of one device (PCI 3.0 section 6.8.2): the vector table, the pending bits, and which eventfd
 * interrupts by which vector.  A *source* is such an eventfd; several may share a vector.  The
 * caller holds the device's lock in all functions.
 */
#ifndef MAYFLY_CORE_BUS_MSIX_H
#define MAYFLY_CORE_BUS_MSIX_H

#include <stdbool.h>
#include <stdint.h>

#include "devmodel/abi/launch.h"

#define MSIX_VECTORS_MAX (BOX_QUEUES_MAX + 1) /* the queues, and configuration */
#define MSIX_ENTRY_BYTES 16u
#define MSIX_NO_VECTOR 0xffff /* the same as VIRTIO_MSI_NO_VECTOR */

/* The control word of the capability. */
#define MSIX_CONTROL_MASKED 0x4000u
#define MSIX_CONTROL_ENABLED 0x8000u

struct virtio_machine;

struct msix_vector {
	uint32_t word[4]; /* as the guest wrote them: address low, high, data, control */
	uint32_t gsi;
	bool routed; /* the route below is set */
	uint64_t address;
	uint32_t data;
};

struct msix_source {
	int eventfd;     /* borrowed */
	uint16_t vector; /* or MSIX_NO_VECTOR */
	bool attached;   /* an irqfd of the vector's GSI */
};

struct msix {
	const struct virtio_machine *machine; /* borrowed */
	bool live;   /* enabled, the function not masked, the device a bus master */
	bool failed; /* the machine refused something; said once */
	uint32_t vectors;
	uint32_t sources;
	struct msix_vector vector[MSIX_VECTORS_MAX];
	struct msix_source source[MSIX_VECTORS_MAX];
};

/* One vector and one source an eventfd, none bound, all masked. 0, or -errno of msi_alloc. */
int msix_init(struct msix *m, const struct virtio_machine *machine, const int *eventfds,
	      uint32_t count);
/* Takes all irqfds off and gives the GSIs back. */
void msix_fini(struct msix *m);
/* As after msix_init(). */
void msix_reset(struct msix *m);

/* Lets a source interrupt by a vector; one out of range is none.  Returns what it has now. */
uint16_t msix_bind(struct msix *m, uint32_t source, uint16_t vector);
/* Nothing interrupts while it is not live; what is pending stays pending. */
void msix_set_live(struct msix *m, bool live);

/* Offsets within the table and within the pending bits; beyond them reads as 0.  Only aligned
 * accesses of 4 and 8 bytes are defined: others read as 0 and are ignored. */
uint64_t msix_table_read(const struct msix *m, uint64_t offset, uint32_t size);
void msix_table_write(struct msix *m, uint64_t offset, uint32_t size, uint64_t value);
uint64_t msix_pba_read(const struct msix *m, uint64_t offset, uint32_t size);

#endif
