/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a virtio device as its driver sees it (virtio 1.2 sections 2.1, 2.4, 3.1).
 *
 * Status bits can only be added; a write that would take one away is ignored, so is a bit whose
 * turn has not come: DRIVER after ACKNOWLEDGE, FEATURES_OK after DRIVER and only with features that
 * were offered, DRIVER_OK after FEATURES_OK.  A driver finds out by reading the status back.
 *
 * The backend runs from DRIVER_OK, with Bus Master on, to a reset.  Without Bus Master a device may
 * not touch memory: the backend is not started, or, if it runs, stopped.  Where its rings then stand
 * is not known to anyone, so it does not go on when the bit comes back; it needs a reset.
 *
 * A reset is complete, and the status reads 0, only when the backend says that nothing touches the
 * rings, and not before its turn: each reset of a device that was started costs the host a new
 * generation of processes, also where it was stopped in between for want of Bus Master.  A burst is
 * free, then it is one a period (reset_ration).  Nothing waits for either: whoever accesses the
 * registers next looks whether it is time.  Until then the status reads as it was, and writes are
 * ignored.
 */
#include <string.h>
#include <sys/eventfd.h>

#include "core/bus/virtio_internal.h"
#include "core/cc.h"
#include "core/log.h"
#include "core/ration.h"

static const struct ration reset_ration = { .burst = 20, .period_ns = 100 * NS_PER_MS };

/* What a driver may set, and what each bit needs. */
static const struct status_rule {
	uint8_t bit;
	uint8_t after;
} status_rules[] = {
	{ VIRTIO_STATUS_ACKNOWLEDGE, 0 },
	{ VIRTIO_STATUS_DRIVER, VIRTIO_STATUS_ACKNOWLEDGE },
	{ VIRTIO_STATUS_FEATURES_OK, VIRTIO_STATUS_DRIVER },
	{ VIRTIO_STATUS_DRIVER_OK, VIRTIO_STATUS_FEATURES_OK },
	{ VIRTIO_STATUS_FAILED, 0 },
};

static bool virtio_broken(const struct virtio_pci *dev)
{
	return __atomic_load_n(&dev->broken, __ATOMIC_ACQUIRE) != 0;
}

uint8_t virtio_status(const struct virtio_pci *dev)
{
	const uint8_t status = __atomic_load_n(&dev->status, __ATOMIC_ACQUIRE);

	return virtio_broken(dev) ? status | VIRTIO_STATUS_NEEDS_RESET : status;
}

static void status_set(struct virtio_pci *dev, uint8_t status)
{
	__atomic_store_n(&dev->status, status, __ATOMIC_RELEASE);
}

/* Any thread.  A full eventfd is as good as signalled. */
static void virtio_config_interrupt(struct virtio_pci *dev)
{
	if (!(__atomic_load_n(&dev->status, __ATOMIC_ACQUIRE) & VIRTIO_STATUS_DRIVER_OK))
		return;
	__atomic_fetch_or(&dev->isr, VIRTIO_ISR_CONFIG, __ATOMIC_ACQ_REL);
	(void)eventfd_write(dev->config_event, 1);
}

void virtio_complain(struct virtio_pci *dev, const char *what, int ret)
{
	if (!__atomic_exchange_n(&dev->complained, true, __ATOMIC_RELAXED))
		log_warn("%s: %s: error %d", dev->spec.id, what, -ret);
}

static void virtio_start(struct virtio_pci *dev)
{
	struct ctl_queue queues[BOX_QUEUES_MAX] = { 0 };
	int ret;

	if (dev->run != VIRTIO_STOPPED || !dev->master || virtio_broken(dev) || dev->resetting ||
	    (dev->status & VIRTIO_STATUS_FAILED) || !(dev->status & VIRTIO_STATUS_DRIVER_OK))
		return;
	for (uint32_t i = 0; i < dev->spec.queues; i++) {
		const struct virtio_queue *q = &dev->queues[i];

		queues[i] = (struct ctl_queue){
			.desc_gpa = (uint64_t)q->word[1] << 32 | q->word[0],
			.avail_gpa = (uint64_t)q->word[3] << 32 | q->word[2],
			.used_gpa = (uint64_t)q->word[5] << 32 | q->word[4],
			.size = q->enabled ? q->size : 0,
		};
	}
	dev->run = VIRTIO_STARTED;
	ret = dev->spec.backend->start(dev->spec.backend->ctx, virtio_features(dev), queues);
	dev->was_started = ret == 0;
	if (ret == 0)
		return;
	virtio_complain(dev, "cannot start", ret);
	dev->run = VIRTIO_STOPPED;
	virtio_pci_needs_reset(dev);
}

static void virtio_stop(struct virtio_pci *dev)
{
	if (dev->run != VIRTIO_STARTED)
		return;
	__atomic_store_n(&dev->stopped, 0, __ATOMIC_RELEASE);
	dev->run = VIRTIO_STOPPING;
	dev->spec.backend->reset(dev->spec.backend->ctx);
}

void virtio_settle(struct virtio_pci *dev)
{
	if (dev->run == VIRTIO_STOPPING && __atomic_load_n(&dev->stopped, __ATOMIC_ACQUIRE))
		dev->run = VIRTIO_STOPPED;
	if (!dev->resetting || dev->run != VIRTIO_STOPPED || now_ns() < dev->reset_at_ns)
		return;
	dev->resetting = false;
	__atomic_store_n(&dev->broken, 0, __ATOMIC_RELEASE);
	status_set(dev, 0);
}

static void virtio_reset(struct virtio_pci *dev)
{
	dev->reset_at_ns =
		dev->was_started ? ration_take(&reset_ration, &dev->reset_due_ns, now_ns()) : 0;
	dev->was_started = false;
	dev->resetting = true;
	virtio_stop(dev);
	virtio_common_reset(dev);
	virtio_settle(dev);
}

static bool status_allowed(const struct virtio_pci *dev, const struct status_rule *rule)
{
	if (rule->bit == VIRTIO_STATUS_FEATURES_OK && !virtio_features_acceptable(dev))
		return false;
	if (rule->bit == VIRTIO_STATUS_DRIVER_OK && virtio_broken(dev))
		return false;
	return (dev->status & rule->after) == rule->after;
}

void virtio_status_write(struct virtio_pci *dev, uint8_t value)
{
	if (dev->resetting)
		return;
	if (value == 0) {
		virtio_reset(dev);
		return;
	}
	if (dev->status & ~value)
		return;
	for (uint32_t i = 0; i < ARRAY_SIZE(status_rules); i++) {
		const struct status_rule *rule = &status_rules[i];

		if ((value & ~dev->status & rule->bit) && status_allowed(dev, rule))
			status_set(dev, dev->status | rule->bit);
	}
	virtio_start(dev);
}

void virtio_set_master(struct virtio_pci *dev, bool master)
{
	if (dev->master == master)
		return;
	dev->master = master;
	if (master) {
		virtio_settle(dev);
		virtio_start(dev);
	} else if (dev->run == VIRTIO_STARTED) {
		__atomic_store_n(&dev->broken, 1, __ATOMIC_RELEASE);
		status_set(dev, (uint8_t)(dev->status & ~VIRTIO_STATUS_DRIVER_OK));
		virtio_stop(dev);
	}
}

void virtio_pci_reset_done(struct virtio_pci *dev)
{
	__atomic_store_n(&dev->stopped, 1, __ATOMIC_RELEASE);
}

void virtio_pci_needs_reset(struct virtio_pci *dev)
{
	__atomic_store_n(&dev->broken, 1, __ATOMIC_RELEASE);
	virtio_config_interrupt(dev);
}

static bool config_holds(const struct virtio_pci *dev, uint32_t at, uint32_t bytes)
{
	return bytes <= dev->spec.config_bytes && at <= dev->spec.config_bytes - bytes;
}

void virtio_pci_config_get(struct virtio_pci *dev, uint32_t at, void *config, uint32_t bytes)
{
	CHECK(config_holds(dev, at, bytes));
	pthread_mutex_lock(&dev->config_lock);
	memcpy(config, dev->config + at, bytes);
	pthread_mutex_unlock(&dev->config_lock);
}

void virtio_pci_config_set(struct virtio_pci *dev, uint32_t at, const void *config, uint32_t bytes)
{
	CHECK(config_holds(dev, at, bytes));
	pthread_mutex_lock(&dev->config_lock);
	memcpy(dev->config + at, config, bytes);
	dev->config_generation++;
	pthread_mutex_unlock(&dev->config_lock);
}

void virtio_pci_config_changed(struct virtio_pci *dev, uint32_t at, const void *config,
			       uint32_t bytes)
{
	virtio_pci_config_set(dev, at, config, bytes);
	virtio_config_interrupt(dev);
}

void virtio_pci_machine_reset(struct virtio_pci *dev)
{
	pthread_mutex_lock(&dev->lock);
	virtio_common_reset(dev);
	msix_reset(&dev->msix);
	dev->master = false;
	dev->run = VIRTIO_STOPPED;
	dev->was_started = false;
	dev->resetting = false;
	__atomic_store_n(&dev->broken, 0, __ATOMIC_RELEASE);
	status_set(dev, 0);
	pthread_mutex_unlock(&dev->lock);
}
