/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest can write into registers: config space by both ways, BARs of two virtio devices
 * wherever they have been put, and what their backends report in between.  Below is a machine that
 * notices what KVM would refuse.  After every step it must hold that
 *
 *   doorbells are where their BAR is, all of them or none; BARs lie in the window, apart
 *   there are no more irqfds than a device has queues, and one, and each belongs to a bound vector
 *   a backend that runs belongs to a bus master whose driver negotiated what was offered
 *   nothing in a register is out of its range
 *
 * and at the end nothing is left.
 */
#include "core/log.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/virtio_fake.h"

#define DEVICES 2u
#define STEP_BYTES 8u

/* The checks are no part of what is explored. */
#ifdef __clang__
#define UNEXPLORED __attribute__((no_sanitize("coverage"), noinline))
#else
#define UNEXPLORED
#endif

static struct fake_rig rig; /* its own device is the first */
static struct fake_backend second_backend;
static struct virtio_pci_spec second_spec;
static struct virtio_pci *devs[DEVICES];
static struct fake_backend *const backends[DEVICES] = { &rig.backend, &second_backend };

struct step {
	uint8_t op;
	uint8_t arg; /* size: bits 0-1; device: bit 2; the rest as the op says */
	uint16_t at;
	uint32_t value;
};

static void regs_begin(void)
{
	FUZZ_CHECK(fake_rig_init(&rig, 3) == 0);
	second_backend = (struct fake_backend){
		.ops = { .start = fake_start, .reset = fake_reset, .ctx = &second_backend },
		.answers = true,
	};
	second_spec = rig.spec;
	second_spec.queues = 1;
	second_spec.config_bytes = 0;
	second_spec.backend = &second_backend.ops;
	second_spec.call[0] = eventfd(0, EFD_NONBLOCK);
	second_spec.kick[0] = eventfd(0, EFD_NONBLOCK);
	devs[0] = rig.dev;
	FUZZ_CHECK(virtio_pci_create(&devs[1], &rig.host, &second_spec) == 0);
	second_backend.dev = devs[1];
}

static void regs_end(void)
{
	virtio_pci_destroy(devs[1]);
	close(second_spec.call[0]);
	close(second_spec.kick[0]);
	fake_rig_free(&rig);
	FUZZ_CHECK(rig.machine.wrong == 0);
	FUZZ_CHECK(fake_bells(&rig.machine) == 0);
	FUZZ_CHECK(fake_irqfds(&rig.machine) == 0);
	FUZZ_CHECK(fake_gsis(&rig.machine) == 0);
}

UNEXPLORED static void check_doorbells(const struct virtio_pci *dev)
{
	const uint64_t bar = dev->pci.bars[0].addr;

	FUZZ_CHECK(bar == 0 ||
		   (bar >= LAYOUT_MMIO32 && bar <= LAYOUT_MMIO32_END - VIRTIO_BAR_BYTES));
	for (uint32_t q = 0; q < dev->spec.queues; q++) {
		uint32_t found = 0;

		for (uint32_t i = 0; i < FAKE_BELLS; i++) {
			if (!rig.machine.bell[i].used ||
			    rig.machine.bell[i].eventfd != dev->spec.kick[q])
				continue;
			found++;
			FUZZ_CHECK(rig.machine.bell[i].gpa == bar + VIRTIO_NOTIFY_AT + 4ull * q);
		}
		FUZZ_CHECK(found == (bar != 0));
	}
}

UNEXPLORED static void check_interrupts(const struct virtio_pci *dev)
{
	const struct msix *m = &dev->msix;

	for (uint32_t i = 0; i < m->sources; i++) {
		const struct msix_source *s = &m->source[i];
		uint32_t found = 0;

		FUZZ_CHECK(s->vector == MSIX_NO_VECTOR || s->vector < m->vectors);
		for (uint32_t k = 0; k < FAKE_IRQFDS; k++) {
			if (!rig.machine.irqfd[k].used ||
			    rig.machine.irqfd[k].eventfd != s->eventfd)
				continue;
			found++;
			FUZZ_CHECK(s->vector != MSIX_NO_VECTOR && m->live && dev->master);
			FUZZ_CHECK(rig.machine.irqfd[k].gsi == m->vector[s->vector].gsi);
			FUZZ_CHECK(!(m->vector[s->vector].word[3] & 1));
		}
		FUZZ_CHECK(found == (s->attached ? 1 : 0));
	}
}

UNEXPLORED static void check_life(const struct virtio_pci *dev, const struct fake_backend *backend)
{
	const uint64_t features = virtio_features(dev);

	FUZZ_CHECK(backend->wrong == 0);
	FUZZ_CHECK(backend->running == (dev->run == VIRTIO_STARTED));
	if (backend->running) {
		FUZZ_CHECK(dev->master && (dev->status & VIRTIO_STATUS_DRIVER_OK));
		FUZZ_CHECK(!(backend->features & ~dev->spec.features));
		FUZZ_CHECK(backend->features & 1ull << VIRTIO_F_VERSION_1);
	}
	if (!dev->resetting && (dev->status & VIRTIO_STATUS_FEATURES_OK))
		FUZZ_CHECK(!(features & ~dev->spec.features));
	if (dev->status & VIRTIO_STATUS_DRIVER_OK)
		FUZZ_CHECK(dev->status & VIRTIO_STATUS_FEATURES_OK);
	for (uint32_t q = 0; q < BOX_QUEUES_MAX; q++) {
		const uint16_t size = backend->queues[q].size;

		FUZZ_CHECK(size <= dev->spec.queue_size && (size & (size - 1)) == 0);
		FUZZ_CHECK(size == 0 || q < dev->spec.queues);
	}
}

UNEXPLORED static void regs_check(void)
{
	const uint64_t a = devs[0]->pci.bars[0].addr;
	const uint64_t b = devs[1]->pci.bars[0].addr;

	FUZZ_CHECK(rig.machine.wrong == 0);
	FUZZ_CHECK(a == 0 || b == 0 || a + VIRTIO_BAR_BYTES <= b || b + VIRTIO_BAR_BYTES <= a);
	for (uint32_t i = 0; i < DEVICES; i++) {
		check_doorbells(devs[i]);
		check_interrupts(devs[i]);
		check_life(devs[i], backends[i]);
	}
}

static void check_read(struct bus *bus, uint64_t addr, uint32_t size)
{
	const uint64_t value = bus_read(bus, addr, size);

	FUZZ_CHECK(size == 8 || value < 1ull << (8 * size));
}

/* What the guest's CPUs do. */
static void step_access(const struct step *s, uint32_t dev, uint32_t size)
{
	const uint64_t value = s->value | (uint64_t)s->value << 32;
	const uint64_t config = LAYOUT_ECAM + (s->arg >> 3) % 4 * 0x8000ull + s->at % 0x1010;
	const uint64_t bar = devs[dev]->pci.bars[0].addr + s->at % (VIRTIO_BAR_BYTES + 16);
	const uint16_t port = (uint16_t)(LAYOUT_PORT_PCI_ADDRESS + s->at % 8);

	switch (s->op % 8) {
	case 0:
		bus_write(rig.mmio, config, size, value);
		break;
	case 1:
		check_read(rig.mmio, config, size);
		break;
	case 2:
	case 3:
		fake_write(&rig, bar, size, value);
		break;
	case 4:
		check_read(rig.mmio, bar, size);
		break;
	case 5:
		bus_write(rig.ports, port, size, value);
		break;
	case 6:
		check_read(rig.ports, port, size);
		break;
	default: /* a BAR where it may collide */
		bus_write(rig.mmio, LAYOUT_ECAM + (dev + 1) * 0x8000ull + 0x10, 4,
			  LAYOUT_MMIO32 - VIRTIO_BAR_BYTES + s->at % 8ull * (VIRTIO_BAR_BYTES / 2));
	}
}

static void step_machine_reset(void)
{
	pci_reset(&rig.host);
	for (uint32_t i = 0; i < DEVICES; i++) {
		backends[i]->running = false;
		virtio_pci_machine_reset(devs[i]);
	}
}

/* What other threads do. */
static void step_other(const struct step *s, uint32_t dev)
{
	struct virtio_pci *d = devs[dev];

	switch (s->op % 8) {
	case 0:
		virtio_pci_needs_reset(d);
		break;
	case 1:
		virtio_pci_config_changed(d, 0, &s->value, d->spec.config_bytes != 0 ? 4 : 0);
		break;
	case 2:
		eventfd_write(d->spec.call[s->at % d->spec.queues], 1);
		break;
	case 3:
		fake_pump(&rig.machine);
		break;
	case 4: /* it answers, or will later */
		backends[dev]->answers = s->at & 1;
		if (backends[dev]->answers && d->run == VIRTIO_STOPPING)
			virtio_pci_reset_done(d);
		break;
	case 5:
		backends[dev]->fail_start = s->at & 1 ? -EBUSY : 0;
		break;
	case 6:
		rig.machine.fail_route = s->at & 1 ? -ENOMEM : 0;
		rig.machine.fail_irqfd = s->at & 2 ? -EBUSY : 0;
		break;
	default:
		step_machine_reset();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool quiet;

	if (!quiet) { /* what the host refuses here is not news */
		log_open(-1, LOG_LEVEL_ERROR);
		quiet = true;
	}
	regs_begin();
	for (size_t at = 0; at + STEP_BYTES <= size && at < 2048; at += STEP_BYTES) {
		struct step s;

		memcpy(&s, data + at, sizeof(s));
		if (s.op & 0x80)
			step_other(&s, s.arg >> 2 & 1);
		else
			step_access(&s, s.arg >> 2 & 1, 1u << (s.arg & 3));
		regs_check();
	}
	regs_end();
	return 0;
}
