/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COM1 as the guest reaches it: eight ports whose accesses a sealed box answers, and the shadow of
 * what was written to them.
 */
#ifndef MAYFLY_CORE_BUS_SERIAL_H
#define MAYFLY_CORE_BUS_SERIAL_H

#include <stdint.h>

#include "core/box/box.h"
#include "core/bus/bus.h"

/* For struct device_spec: keeps the last value written to each register (16550A; the divisor latch
 * hides behind the first two). */
void serial_shadow(uint8_t *shadow, uint8_t offset, uint8_t value);

/* Claims the ports; ctx of the range is the device. 0 or -errno. */
int serial_attach(struct bus *ports, struct device *dev);

#endif
