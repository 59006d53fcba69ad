/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device on the PCI bus (virtio 1.2 section 4.1): identity, capabilities, BAR 0, doorbells.
 *
 * The BAR's parts are a table: offset, length, read, write.  An access that does not lie within one
 * part reads as 0 and writes nothing.
 *
 * A doorbell is assigned when the BAR gets its first address and follows it, not the driver's
 * progress: taking one off costs milliseconds, and ringing it while nobody listens does no harm
 * (the device starts with a look at its rings).  A notification that gets here all the same, because
 * an ioeventfd could not be had or the driver wrote it with another size, rings it by hand.
 *
 * The window capability (section 4.1.4.9) lets a driver without MMIO reach the BAR through config
 * space: an access to its data field becomes one to the BAR, at the place that the driver wrote
 * beside it.
 */
#include "core/bus/virtio_pci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "core/bus/pci_internal.h"
#include "core/bus/virtio_internal.h"
#include "core/cc.h"
#include "devmodel/abi/virtio.h"

#define VIRTIO_PCI_VENDOR 0x1af4
#define VIRTIO_PCI_DEVICE 0x1040 /* + virtio id */
#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX 0x11

/* A virtio capability: offsets from its start. */
#define CAP_BAR 4
#define CAP_OFFSET 8
#define CAP_LENGTH 12
#define CAP_DATA 16
#define CAP_BYTES 16
#define CAP_BYTES_MAX 20

enum virtio_cap {
	VIRTIO_CAP_COMMON = 1,
	VIRTIO_CAP_NOTIFY = 2,
	VIRTIO_CAP_ISR = 3,
	VIRTIO_CAP_DEVICE = 4,
	VIRTIO_CAP_WINDOW = 5,
};

/* BAR 0. */

/* An access of 8 bytes is one to two registers, but not to halves of two 64-bit fields. */
static bool common_defined(uint64_t at, uint32_t size)
{
	return size != 8 || at % 8 == 0;
}

static uint64_t common_read(struct virtio_pci *dev, uint64_t at, uint32_t size)
{
	uint64_t value;

	if (!common_defined(at, size))
		return 0;
	pthread_mutex_lock(&dev->lock);
	if (size == 8)
		value = virtio_common_read(dev, (uint32_t)at, 4) |
			(uint64_t)virtio_common_read(dev, (uint32_t)at + 4, 4) << 32;
	else
		value = virtio_common_read(dev, (uint32_t)at, size);
	pthread_mutex_unlock(&dev->lock);
	return value;
}

static void common_write(struct virtio_pci *dev, uint64_t at, uint32_t size, uint64_t value)
{
	if (!common_defined(at, size))
		return;
	pthread_mutex_lock(&dev->lock);
	virtio_common_write(dev, (uint32_t)at, size == 8 ? 4 : size, (uint32_t)value);
	if (size == 8)
		virtio_common_write(dev, (uint32_t)at + 4, 4, (uint32_t)(value >> 32));
	pthread_mutex_unlock(&dev->lock);
}

static uint64_t isr_read(struct virtio_pci *dev, uint64_t at, uint32_t size)
{
	(void)size;
	return at == 0 ? __atomic_exchange_n(&dev->isr, 0, __ATOMIC_ACQ_REL) : 0;
}

static uint64_t device_read(struct virtio_pci *dev, uint64_t at, uint32_t size)
{
	uint64_t value = 0;

	pthread_mutex_lock(&dev->config_lock);
	for (uint32_t i = 0; i < size && at + i < dev->spec.config_bytes; i++)
		value |= (uint64_t)dev->config[at + i] << (8 * i);
	pthread_mutex_unlock(&dev->config_lock);
	return value;
}

static void device_write(struct virtio_pci *dev, uint64_t at, uint32_t size, uint64_t value)
{
	pthread_mutex_lock(&dev->config_lock);
	for (uint32_t i = 0; i < size && at + i < dev->spec.config_bytes; i++) {
		const uint8_t mask = dev->spec.config_writable[at + i];
		const uint8_t byte = (uint8_t)(value >> (8 * i));

		dev->config[at + i] = (uint8_t)((dev->config[at + i] & ~mask) | (byte & mask));
	}
	pthread_mutex_unlock(&dev->config_lock);
}

static void notify_write(struct virtio_pci *dev, uint64_t at, uint32_t size, uint64_t value)
{
	(void)size;
	(void)value;
	/* A full eventfd is as good as signalled. */
	if (at % VIRTIO_NOTIFY_STRIDE == 0 && at / VIRTIO_NOTIFY_STRIDE < dev->spec.queues)
		(void)eventfd_write(dev->spec.kick[at / VIRTIO_NOTIFY_STRIDE], 1);
}

static uint64_t table_read(struct virtio_pci *dev, uint64_t at, uint32_t size)
{
	uint64_t value;

	pthread_mutex_lock(&dev->lock);
	value = msix_table_read(&dev->msix, at, size);
	pthread_mutex_unlock(&dev->lock);
	return value;
}

static void table_write(struct virtio_pci *dev, uint64_t at, uint32_t size, uint64_t value)
{
	pthread_mutex_lock(&dev->lock);
	msix_table_write(&dev->msix, at, size, value);
	pthread_mutex_unlock(&dev->lock);
}

static uint64_t pba_read(struct virtio_pci *dev, uint64_t at, uint32_t size)
{
	uint64_t value;

	pthread_mutex_lock(&dev->lock);
	value = msix_pba_read(&dev->msix, at, size);
	pthread_mutex_unlock(&dev->lock);
	return value;
}

static const struct bar_part {
	uint32_t at;
	uint32_t bytes;
	uint64_t (*read)(struct virtio_pci *dev, uint64_t at, uint32_t size);
	void (*write)(struct virtio_pci *dev, uint64_t at, uint32_t size, uint64_t value);
} bar_parts[] = {
	{ VIRTIO_COMMON_AT, VIRTIO_COMMON_BYTES, common_read, common_write },
	{ VIRTIO_ISR_AT, VIRTIO_PAGE, isr_read, NULL },
	{ VIRTIO_DEVICE_AT, VIRTIO_PAGE, device_read, device_write },
	{ VIRTIO_NOTIFY_AT, VIRTIO_PAGE, NULL, notify_write },
	{ VIRTIO_TABLE_AT, VIRTIO_PAGE, table_read, table_write },
	{ VIRTIO_PBA_AT, VIRTIO_PAGE, pba_read, NULL },
};

static const struct bar_part *bar_part(uint64_t offset, uint32_t size)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(bar_parts); i++) {
		const struct bar_part *part = &bar_parts[i];

		if (offset >= part->at && offset - part->at < part->bytes)
			return size <= part->bytes - (offset - part->at) ? part : NULL;
	}
	return NULL;
}

static uint64_t bar_read(void *ctx, uint64_t offset, uint32_t size)
{
	const struct bar_part *part = bar_part(offset, size);

	return part != NULL && part->read != NULL ? part->read(ctx, offset - part->at, size) : 0;
}

static void bar_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value)
{
	const struct bar_part *part = bar_part(offset, size);

	if (part != NULL && part->write != NULL)
		part->write(ctx, offset - part->at, size, value);
}

static const struct bus_ops bar_ops = { .read = bar_read, .write = bar_write };

/* The window capability. */

/* What a guest wrote there, judged: the place in the BAR, or false. */
static bool window_target(const struct virtio_pci *dev, uint32_t *offset, uint32_t *size)
{
	const uint8_t *cap = dev->pci.config + dev->window_cap;

	*offset = pci_get32(cap + CAP_OFFSET);
	*size = pci_get32(cap + CAP_LENGTH);
	return cap[CAP_BAR] == VIRTIO_BAR && (*size == 1 || *size == 2 || *size == 4) &&
	       *offset % *size == 0 && *offset < VIRTIO_BAR_BYTES;
}

static bool window_touched(const struct virtio_pci *dev, uint32_t at, uint32_t size)
{
	return pci_touches(at, size, dev->window_cap + CAP_DATA, 4);
}

static void pci_reading(struct pci_device *pci, uint32_t at, uint32_t size)
{
	struct virtio_pci *dev = pci->ctx;
	uint8_t *data = pci->config + dev->window_cap + CAP_DATA;
	uint32_t offset, bytes;
	uint64_t value;

	if (!window_touched(dev, at, size) || !window_target(dev, &offset, &bytes))
		return;
	value = bar_read(dev, offset, bytes);
	for (uint32_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)(value >> (8 * i));
}

static void window_write(struct virtio_pci *dev)
{
	uint32_t value = pci_get32(dev->pci.config + dev->window_cap + CAP_DATA);
	uint32_t offset, bytes;

	if (!window_target(dev, &offset, &bytes))
		return;
	if (bytes < 4)
		value &= (1u << (8 * bytes)) - 1;
	bar_write(dev, offset, bytes, value);
}

/* Other hooks of the PCI device. */

static void pci_written(struct pci_device *pci, uint32_t at, uint32_t size)
{
	struct virtio_pci *dev = pci->ctx;
	const uint16_t control = pci_get16(pci->config + dev->msix_cap + 2);
	const bool master = pci_bus_master(pci);
	const bool enabled =
		(control & (MSIX_CONTROL_ENABLED | MSIX_CONTROL_MASKED)) == MSIX_CONTROL_ENABLED;

	pthread_mutex_lock(&dev->lock);
	virtio_set_master(dev, master);
	msix_set_live(&dev->msix, enabled && master);
	pthread_mutex_unlock(&dev->lock);
	if (window_touched(dev, at, size))
		window_write(dev);
}

static int doorbell(struct virtio_pci *dev, uint64_t bar, uint32_t queue, bool assign)
{
	const struct virtio_machine *machine = dev->spec.machine;

	return machine->doorbell(machine->ctx,
				 bar + VIRTIO_NOTIFY_AT + (uint64_t)queue * VIRTIO_NOTIFY_STRIDE,
				 dev->spec.kick[queue], assign);
}

static void pci_moved(struct pci_device *pci, uint32_t bar, uint64_t from, uint64_t to)
{
	struct virtio_pci *dev = pci->ctx;
	int ret = 0;

	(void)bar;
	for (uint32_t i = 0; i < dev->spec.queues; i++) {
		if (dev->doorbells[i])
			doorbell(dev, from, i, false);
		dev->doorbells[i] = false;
	}
	for (uint32_t i = 0; to != 0 && ret == 0 && i < dev->spec.queues; i++) {
		ret = doorbell(dev, to, i, true);
		dev->doorbells[i] = ret == 0;
	}
	if (ret != 0)
		virtio_complain(dev, "no doorbell, notifications are slow", ret);
}

static const struct pci_hooks pci_hooks = {
	.moved = pci_moved,
	.written = pci_written,
	.reading = pci_reading,
};

/* Making it. */

struct cap_spec {
	enum virtio_cap type;
	uint32_t at;
	uint32_t bytes;
	uint32_t extra; /* behind the capability: notify multiplier */
};

static int add_cap(struct virtio_pci *dev, const struct cap_spec *spec)
{
	const bool longer = spec->type == VIRTIO_CAP_NOTIFY || spec->type == VIRTIO_CAP_WINDOW;
	const uint32_t bytes = longer ? CAP_BYTES_MAX : CAP_BYTES;
	uint8_t cap[CAP_BYTES_MAX] = { 0 };
	uint8_t writable[CAP_BYTES_MAX] = { 0 };

	cap[2] = (uint8_t)bytes;
	cap[3] = (uint8_t)spec->type;
	cap[CAP_BAR] = VIRTIO_BAR;
	pci_put32(cap + CAP_OFFSET, spec->at);
	pci_put32(cap + CAP_LENGTH, spec->bytes);
	pci_put32(cap + CAP_DATA, spec->extra);
	if (spec->type == VIRTIO_CAP_WINDOW) {
		writable[CAP_BAR] = 0xff;
		memset(writable + CAP_OFFSET, 0xff, CAP_BYTES_MAX - CAP_OFFSET);
	}
	/* The PCI code writes id and next itself. */
	return pci_device_add_cap(&dev->pci, PCI_CAP_VENDOR, cap + 2, bytes - 2, writable + 2);
}

static int add_msix_cap(struct virtio_pci *dev)
{
	static const uint8_t writable[10] = {
		[1] = (MSIX_CONTROL_ENABLED | MSIX_CONTROL_MASKED) >> 8,
	};
	uint8_t body[10];

	pci_put16(body, dev->spec.queues); /* vectors - 1 */
	pci_put32(body + 2, VIRTIO_TABLE_AT | VIRTIO_BAR);
	pci_put32(body + 6, VIRTIO_PBA_AT | VIRTIO_BAR);
	return pci_device_add_cap(&dev->pci, PCI_CAP_MSIX, body, sizeof(body), writable);
}

static int add_caps(struct virtio_pci *dev)
{
	const struct cap_spec caps[] = {
		{ VIRTIO_CAP_COMMON, VIRTIO_COMMON_AT, VIRTIO_COMMON_BYTES, 0 },
		{ VIRTIO_CAP_ISR, VIRTIO_ISR_AT, 1, 0 },
		{ VIRTIO_CAP_DEVICE, VIRTIO_DEVICE_AT, dev->spec.config_bytes, 0 },
		{ VIRTIO_CAP_NOTIFY, VIRTIO_NOTIFY_AT, dev->spec.queues * VIRTIO_NOTIFY_STRIDE,
		  VIRTIO_NOTIFY_STRIDE },
		{ VIRTIO_CAP_WINDOW, 0, 0, 0 },
	};
	int ret = add_msix_cap(dev);

	dev->msix_cap = (uint32_t)ret;
	for (uint32_t i = 0; ret >= 0 && i < ARRAY_SIZE(caps); i++) {
		if (caps[i].type == VIRTIO_CAP_DEVICE && caps[i].bytes == 0)
			continue; /* section 4.1.4.6: only devices that have one */
		ret = add_cap(dev, &caps[i]);
		if (caps[i].type == VIRTIO_CAP_WINDOW)
			dev->window_cap = (uint32_t)ret;
	}
	return ret < 0 ? ret : 0;
}

static int init_pci(struct virtio_pci *dev)
{
	const uint16_t device = (uint16_t)(VIRTIO_PCI_DEVICE + dev->spec.virtio_id);
	const struct pci_identity id = {
		.vendor = VIRTIO_PCI_VENDOR,
		.device = device,
		.subvendor = VIRTIO_PCI_VENDOR,
		.subdevice = device,
		.revision = 1, /* not transitional */
		.class = dev->spec.class,
	};

	pci_device_init(&dev->pci, &id, &pci_hooks, dev);
	pci_device_add_bar(&dev->pci, VIRTIO_BAR, VIRTIO_BAR_BYTES, &bar_ops, dev);
	return add_caps(dev);
}

static bool spec_makes_sense(const struct virtio_pci_spec *spec)
{
	const uint16_t size = spec->queue_size;

	return spec->virtio_id != 0 && spec->queues >= 1 && spec->queues <= BOX_QUEUES_MAX &&
	       size != 0 && size <= VIRTQ_SIZE_MAX && (size & (size - 1)) == 0 &&
	       spec->config_bytes <= VIRTIO_CONFIG_MAX &&
	       (spec->features & 1ull << VIRTIO_F_VERSION_1) != 0;
}

static int init_msix(struct virtio_pci *dev)
{
	int eventfds[MSIX_VECTORS_MAX];

	memcpy(eventfds, dev->spec.call, dev->spec.queues * sizeof(int));
	eventfds[dev->spec.queues] = dev->config_event;
	return msix_init(&dev->msix, dev->spec.machine, eventfds, dev->spec.queues + 1);
}

/* Frees what init_msix() and plugging did not get to. */
static void virtio_pci_free(struct virtio_pci *dev)
{
	cc_close(&dev->config_event);
	pthread_mutex_destroy(&dev->config_lock);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}

static struct virtio_pci *virtio_pci_make(struct pci_host *host, const struct virtio_pci_spec *spec)
{
	struct virtio_pci *dev = calloc(1, sizeof(*dev));

	if (dev == NULL)
		return NULL;
	dev->host = host;
	dev->spec = *spec;
	memcpy(dev->config, spec->config, sizeof(dev->config));
	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->config_lock, NULL);
	dev->config_event = -1;
	return dev;
}

int virtio_pci_create(struct virtio_pci **out, struct pci_host *host,
		      const struct virtio_pci_spec *spec)
{
	struct virtio_pci *dev;
	int ret;

	if (!spec_makes_sense(spec))
		return -EINVAL;
	dev = virtio_pci_make(host, spec);
	if (dev == NULL)
		return -ENOMEM;
	dev->config_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ret = dev->config_event < 0 ? -errno : init_msix(dev);
	if (ret != 0)
		goto free_dev;
	virtio_common_reset(dev);
	ret = init_pci(dev);
	if (ret == 0)
		ret = pci_plug(host, &dev->pci);
	if (ret != 0)
		goto fini_msix;
	*out = dev;
	return 0;
fini_msix:
	msix_fini(&dev->msix);
free_dev:
	virtio_pci_free(dev);
	return ret;
}

void virtio_pci_destroy(struct virtio_pci *dev)
{
	if (dev == NULL)
		return;
	pci_unplug(dev->host, &dev->pci);
	msix_fini(&dev->msix);
	virtio_pci_free(dev);
}
