/* SPDX-License-Identifier: Apache-2.0 */
/* A device of QUEUES queues, which who includes this has said, and a driver that has found it: for each test
 * anew, and nothing of it may be left. */
#ifndef MAYFLY_TESTS_UNIT_VIRTIO_FIXTURE_H
#define MAYFLY_TESTS_UNIT_VIRTIO_FIXTURE_H

#include "tests/unit/virtio_driver.h"

static struct fake_rig rig;
static struct driver drv;

static int setup(void **state)
{
	(void)state;
	assert_int_equal(fake_rig_init(&rig, QUEUES), 0);
	driver_probe(&drv, &rig);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_rig_free(&rig);
	assert_int_equal(rig.machine.wrong, 0);
	assert_int_equal(rig.backend.wrong, 0);
	assert_int_equal(fake_bells(&rig.machine), 0);
	assert_int_equal(fake_gsis(&rig.machine), 0);
	return 0;
}

#endif
