/* SPDX-License-Identifier: Apache-2.0 */
/* What core/box/box.c makes of reports from boxes that have no business to say them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "core/log.h"

static struct device dev = { .spec = { .id = "disk0", .queues = 1 } };
static struct generation *gen;
static struct box *box;
static struct launch_record launch;
static int other; /* the box's end */
static int log_in;

static int setup(void **state)
{
	int pair[2], log[2];

	(void)state;
	gen = calloc(1, sizeof(*gen) + sizeof(gen->boxes[0]));
	if (gen == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0 ||
	    pipe2(log, O_CLOEXEC | O_NONBLOCK) != 0)
		return -1;
	gen->dev = &dev;
	gen->lanes = 1;
	box = &gen->boxes[0];
	box_init(box, gen, 0);
	box->control = pair[0];
	box->launch = &launch;
	other = pair[1];
	log_in = log[0];
	log_open(log[1], LOG_LEVEL_WARN);
	*state = (void *)(intptr_t)log[1];
	return 0;
}

static int teardown(void **state)
{
	log_open(2, LOG_LEVEL_WARN);
	close((int)(intptr_t)*state);
	cc_close(&log_in);
	cc_close(&other);
	cc_close(&box->control);
	free(gen);
	return 0;
}

static void say(uint32_t type, uint32_t value, uint64_t detail)
{
	const struct box_report r = { type, value, detail };

	assert_int_equal(send(other, &r, sizeof(r), MSG_DONTWAIT | MSG_NOSIGNAL), sizeof(r));
	box->on_control.ready(&box->on_control, 0);
}

static bool was_logged(void)
{
	char text[512];

	return read(log_in, text, sizeof(text)) > 0;
}

/* Only who is being sealed can say of the seal that it failed: others would fill the operator's log
 * with it, whatever has become of them meanwhile. */
static void test_failed_is_said_in_sealing_only(void **state)
{
	static const enum box_state deaf[] = { BOX_STOPPING, BOX_PENDING, BOX_FENCED, BOX_DYING };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(deaf); i++) {
		box->state = deaf[i];
		for (uint32_t layer = 0; layer < SEAL_LAYER_COUNT; layer++)
			say(REPORT_FAILED, layer, 1);
		assert_false(was_logged());
		assert_int_equal(box->state, deaf[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_failed_is_said_in_sealing_only, setup,
						teardown),
	};

	return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
