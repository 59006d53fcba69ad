/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vhost-user back-end with sealed release programs, and a front-end as QEMU is one: started, stopped, left,
 * come back, its memory and its eventfds changed under load, and replaced all the while.
 */
#include "tests/host/vhost.h"

static void test_serves(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 2 });

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 1);
	vhost_rig_run(v, 2000);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

/* The base is where each ring stands, and it goes on there. */
static void test_stops_and_goes_on(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 2 });
	uint32_t bases[2];

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 2);
	for (uint32_t n = 0; n < 5; n++) {
		vhost_rig_run(v, 300);
		assert_int_equal(vhostclient_stop(&v->client, bases), 0);
		for (uint32_t i = 0; i < 2; i++)
			assert_int_equal(bases[i], ringdrv_peek_used_idx(&v->rings[i]));
		assert_int_equal(vhostclient_start(&v->client, &v->mem, v->rings, 2), 0);
	}
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

static void test_leaves_and_returns(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 1 });

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 3);
	for (uint32_t n = 0; n < 10; n++) {
		vhost_rig_go(v);
		usleep(20000);
		vhostclient_drop(&v->client);
		vhost_rig_connect(v);
		vhost_rig_halt(v);
	}
	vhost_rig_run(v, 100);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

static void test_memory_comes_and_goes(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 2 });
	struct broker_status before, after;

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 4);
	vhost_rig_go(v);
	broker_status(&v->broker, &before);
	for (uint32_t n = 0; n < 20; n++) {
		assert_int_equal(guestmem_add(&v->mem, 4ull << 30, 32ull << 20, GUESTMEM_4K), 0);
		assert_int_equal(vhostclient_set_memory(&v->client, &v->mem), 0);
		assert_int_equal(guestmem_remove(&v->mem, 4ull << 30, NULL), 0);
		assert_int_equal(vhostclient_set_memory(&v->client, &v->mem), 0);
	}
	broker_status(&v->broker, &after);
	assert_true(after.changes >= before.changes + 40);
	vhost_rig_halt(v);
	vhost_rig_check(v);
	vhost_rig_stop(v);
}

/* As QEMU does when the guest masks an interrupt: the ring runs on, and no call is lost. */
static void test_call_changes(void **state)
{
	struct vhost_rig *v = vhost_rig_start(&(struct vhost_rig_config){ .queues = 1 });
	const int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	(void)state;
	vhost_rig_connect(v);
	vhost_rig_load(v, 5);
	vhost_rig_go(v);
	for (uint32_t n = 0; n < 20; n++) {
		assert_int_equal(vhostclient_set_vring_call(&v->client, 0, other), 0);
		assert_int_equal(vhostclient_set_vring_call(&v->client, 0, v->rings[0].fd_call), 0);
	}
	vhost_rig_halt(v);
	vhost_rig_run(v, 100);
	vhost_rig_check(v);
	close(other);
	vhost_rig_stop(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_serves),
		cmocka_unit_test(test_stops_and_goes_on),
		cmocka_unit_test(test_leaves_and_returns),
		cmocka_unit_test(test_memory_comes_and_goes),
		cmocka_unit_test(test_call_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
