/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The common configuration structure (virtio 1.2 section 4.1.4.3) as a table, a line a register.
 * Only accesses that match a register's offset and size have a meaning (section 4.1.3.1: a 64-bit
 * field is accessed by halves); anything else reads as 0 and writes nothing.
 *
 * The registers of a queue are written between FEATURES_OK and DRIVER_OK, and until the queue is
 * enabled; its vector at any time.  A queue that does not exist reads as 0.  Ring addresses are
 * taken as they come: whether they are in guest memory is for the box to find out.
 */
#include <string.h>

#include "core/bus/virtio_internal.h"
#include "core/cc.h"
#include "devmodel/abi/virtio.h"

struct virtio_reg {
	uint16_t at;
	uint8_t size;
	uint8_t arg; /* for the functions */
	uint32_t (*read)(struct virtio_pci *dev, uint32_t arg);
	void (*write)(struct virtio_pci *dev, uint32_t arg, uint32_t value); /* NULL: read-only */
};

/* The selected queue; NULL: there is none. */
static struct virtio_queue *selected(struct virtio_pci *dev)
{
	return dev->queue_select < dev->spec.queues ? &dev->queues[dev->queue_select] : NULL;
}

/* The same if it may be configured now. */
static struct virtio_queue *configurable(struct virtio_pci *dev)
{
	const uint8_t phase = dev->status & (VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
	struct virtio_queue *q = selected(dev);

	return q != NULL && !q->enabled && phase == VIRTIO_STATUS_FEATURES_OK ? q : NULL;
}

uint64_t virtio_features(const struct virtio_pci *dev)
{
	return (uint64_t)dev->driver_features[1] << 32 | dev->driver_features[0];
}

bool virtio_features_acceptable(const struct virtio_pci *dev)
{
	const uint64_t features = virtio_features(dev);

	return !(features & ~dev->spec.features) && (features & 1ull << VIRTIO_F_VERSION_1) &&
	       !(dev->spec.required & ~features) && !dev->driver_features[2] &&
	       !dev->driver_features[3];
}

static uint32_t device_feature_select_read(struct virtio_pci *dev, uint32_t arg)
{
	(void)arg;
	return dev->device_feature_select;
}

static void device_feature_select_write(struct virtio_pci *dev, uint32_t arg, uint32_t value)
{
	(void)arg;
	dev->device_feature_select = value;
}

static uint32_t device_feature_read(struct virtio_pci *dev, uint32_t arg)
{
	const uint32_t select = dev->device_feature_select;

	(void)arg;
	return select < 2 ? (uint32_t)(dev->spec.features >> (32 * select)) : 0;
}

static uint32_t driver_feature_select_read(struct virtio_pci *dev, uint32_t arg)
{
	(void)arg;
	return dev->driver_feature_select;
}

static void driver_feature_select_write(struct virtio_pci *dev, uint32_t arg, uint32_t value)
{
	(void)arg;
	dev->driver_feature_select = value;
}

static uint32_t driver_feature_read(struct virtio_pci *dev, uint32_t arg)
{
	const uint32_t select = dev->driver_feature_select;

	(void)arg;
	return select < ARRAY_SIZE(dev->driver_features) ? dev->driver_features[select] : 0;
}

static void driver_feature_write(struct virtio_pci *dev, uint32_t arg, uint32_t value)
{
	const uint32_t select = dev->driver_feature_select;

	(void)arg;
	if (select < ARRAY_SIZE(dev->driver_features) && !(dev->status & VIRTIO_STATUS_FEATURES_OK))
		dev->driver_features[select] = value;
}

static uint32_t config_vector_read(struct virtio_pci *dev, uint32_t arg)
{
	(void)arg;
	return dev->msix.source[dev->spec.queues].vector;
}

static void config_vector_write(struct virtio_pci *dev, uint32_t arg, uint32_t value)
{
	(void)arg;
	msix_bind(&dev->msix, dev->spec.queues, (uint16_t)value);
}

static uint32_t num_queues_read(struct virtio_pci *dev, uint32_t arg)
{
	(void)arg;
	return dev->spec.queues;
}

static uint32_t status_read(struct virtio_pci *dev, uint32_t arg)
{
	(void)arg;
	return virtio_status(dev);
}

static void status_write(struct virtio_pci *dev, uint32_t arg, uint32_t value)
{
	(void)arg;
	virtio_status_write(dev, (uint8_t)value);
}

static uint32_t generation_read(struct virtio_pci *dev, uint32_t arg)
{
	uint8_t generation;

	(void)arg;
	pthread_mutex_lock(&dev->config_lock);
	generation = dev->config_generation;
	pthread_mutex_unlock(&dev->config_lock);
	return generation;
}

static uint32_t queue_select_read(struct virtio_pci *dev, uint32_t arg)
{
	(void)arg;
	return dev->queue_select;
}

static void queue_select_write(struct virtio_pci *dev, uint32_t arg, uint32_t value)
{
	(void)arg;
	dev->queue_select = (uint16_t)value;
}

static uint32_t queue_size_read(struct virtio_pci *dev, uint32_t arg)
{
	const struct virtio_queue *q = selected(dev);

	(void)arg;
	return q != NULL ? q->size : 0;
}

static void queue_size_write(struct virtio_pci *dev, uint32_t arg, uint32_t value)
{
	struct virtio_queue *q = configurable(dev);

	(void)arg;
	if (q != NULL && value != 0 && value <= dev->spec.queue_size && !(value & (value - 1)))
		q->size = (uint16_t)value;
}

static uint32_t queue_vector_read(struct virtio_pci *dev, uint32_t arg)
{
	(void)arg;
	return selected(dev) != NULL ? dev->msix.source[dev->queue_select].vector : 0;
}

static void queue_vector_write(struct virtio_pci *dev, uint32_t arg, uint32_t value)
{
	(void)arg;
	if (selected(dev) != NULL)
		msix_bind(&dev->msix, dev->queue_select, (uint16_t)value);
}

static uint32_t queue_enable_read(struct virtio_pci *dev, uint32_t arg)
{
	const struct virtio_queue *q = selected(dev);

	(void)arg;
	return q != NULL && q->enabled;
}

static void queue_enable_write(struct virtio_pci *dev, uint32_t arg, uint32_t value)
{
	struct virtio_queue *q = configurable(dev);

	(void)arg;
	if (q != NULL && value == 1)
		q->enabled = true;
}

static uint32_t queue_notify_off_read(struct virtio_pci *dev, uint32_t arg)
{
	(void)arg;
	return selected(dev) != NULL ? dev->queue_select : 0;
}

static uint32_t queue_area_read(struct virtio_pci *dev, uint32_t arg)
{
	const struct virtio_queue *q = selected(dev);

	return q != NULL ? q->word[arg] : 0;
}

static void queue_area_write(struct virtio_pci *dev, uint32_t arg, uint32_t value)
{
	struct virtio_queue *q = configurable(dev);

	if (q != NULL)
		q->word[arg] = value;
}

static const struct virtio_reg registers[] = {
	{ 0x00, 4, 0, device_feature_select_read, device_feature_select_write },
	{ 0x04, 4, 0, device_feature_read, NULL },
	{ 0x08, 4, 0, driver_feature_select_read, driver_feature_select_write },
	{ 0x0c, 4, 0, driver_feature_read, driver_feature_write },
	{ 0x10, 2, 0, config_vector_read, config_vector_write },
	{ 0x12, 2, 0, num_queues_read, NULL },
	{ 0x14, 1, 0, status_read, status_write },
	{ 0x15, 1, 0, generation_read, NULL },
	{ 0x16, 2, 0, queue_select_read, queue_select_write },
	{ 0x18, 2, 0, queue_size_read, queue_size_write },
	{ 0x1a, 2, 0, queue_vector_read, queue_vector_write },
	{ 0x1c, 2, 0, queue_enable_read, queue_enable_write },
	{ 0x1e, 2, 0, queue_notify_off_read, NULL },
	{ 0x20, 4, 0, queue_area_read, queue_area_write },
	{ 0x24, 4, 1, queue_area_read, queue_area_write },
	{ 0x28, 4, 2, queue_area_read, queue_area_write },
	{ 0x2c, 4, 3, queue_area_read, queue_area_write },
	{ 0x30, 4, 4, queue_area_read, queue_area_write },
	{ 0x34, 4, 5, queue_area_read, queue_area_write },
};

static const struct virtio_reg *register_at(uint32_t at, uint32_t size)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(registers); i++) {
		if (registers[i].at == at && registers[i].size == size)
			return &registers[i];
	}
	return NULL;
}

uint32_t virtio_common_read(struct virtio_pci *dev, uint32_t at, uint32_t size)
{
	const struct virtio_reg *reg = register_at(at, size);

	virtio_settle(dev);
	return reg != NULL ? reg->read(dev, reg->arg) : 0;
}

void virtio_common_write(struct virtio_pci *dev, uint32_t at, uint32_t size, uint32_t value)
{
	const struct virtio_reg *reg = register_at(at, size);

	virtio_settle(dev);
	if (reg != NULL && reg->write != NULL && !dev->resetting)
		reg->write(dev, reg->arg, value);
}

/* What a driver wrote there is forgotten, what the device says stays. */
static void device_config_reset(struct virtio_pci *dev)
{
	pthread_mutex_lock(&dev->config_lock);
	for (uint32_t i = 0; i < dev->spec.config_bytes; i++) {
		const uint8_t mask = dev->spec.config_writable[i];

		dev->config[i] = (uint8_t)((dev->config[i] & ~mask) | (dev->spec.config[i] & mask));
	}
	pthread_mutex_unlock(&dev->config_lock);
}

void virtio_common_reset(struct virtio_pci *dev)
{
	dev->device_feature_select = 0;
	dev->driver_feature_select = 0;
	memset(dev->driver_features, 0, sizeof(dev->driver_features));
	dev->queue_select = 0;
	memset(dev->queues, 0, sizeof(dev->queues));
	for (uint32_t i = 0; i < dev->spec.queues; i++)
		dev->queues[i].size = dev->spec.queue_size;
	for (uint32_t i = 0; i < dev->msix.sources; i++)
		msix_bind(&dev->msix, i, MSIX_NO_VECTOR);
	__atomic_store_n(&dev->isr, 0, __ATOMIC_RELEASE);
	device_config_reset(dev);
}
