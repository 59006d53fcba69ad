/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/box/ask.c: questions in turn, their answers, and the nonce that PARKED has to bring back.  On a real
 * socket; the loop is this file's own, and all is on its thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "core/box/internal.h"
#include "core/cc.h"
#include "devmodel/abi/mem.h"

/* ---- the loop ---- */

struct loop {
	char unused;
};

int loop_create(struct loop **out)
{
	(void)out;
	return -ENOSYS;
}

void loop_destroy(struct loop *loop)
{
	(void)loop;
}

void loop_run(struct loop *loop)
{
	(void)loop;
}

void loop_stop(struct loop *loop)
{
	(void)loop;
}

int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events)
{
	(void)loop, (void)source, (void)fd, (void)events;
	return -ENOSYS;
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	(void)loop;
	source->fd = -1;
}

void loop_arm(struct loop *loop, struct loop_timer *timer, uint64_t at_ns)
{
	(void)loop;
	timer->at_ns = at_ns;
	timer->armed = true;
}

void loop_disarm(struct loop *loop, struct loop_timer *timer)
{
	(void)loop;
	timer->armed = false;
}

void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	(void)loop;
	fn(arg);
}

void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	(void)loop;
	fn(arg);
}

/* ---- a box ---- */

static struct supervisor sup;
static struct device dev;
static struct generation *gen;
static struct state_page page;
static int other; /* the box's end */

static struct {
	struct device_question last;
	uint32_t count;
	bool answers; /* there and then, with 5 */
} seen;

static void on_asked(void *ctx, const struct device_question *question)
{
	assert_ptr_equal(ctx, &seen);
	seen.last = *question;
	seen.count++;
	if (seen.answers)
		assert_int_equal(device_answer_question(&dev, question, 5), 0);
}

static const struct device_hooks hooks = { .asked = on_asked };

static struct box *the_box(void)
{
	return &gen->boxes[0];
}

static int setup(void **state)
{
	int pair[2];

	(void)state;
	memset(&seen, 0, sizeof(seen));
	dev = (struct device){ .sup = &sup,
			       .state = DEVICE_STALLED, /* where a suspicion changes nothing */
			       .spec = { .id = "asks",
					 .kind = DEV_KIND_MEM,
					 .queues = 1,
					 .lanes = 1,
					 .hooks = &hooks,
					 .ctx = &seen } };
	gen = calloc(1, sizeof(*gen) + sizeof(gen->boxes[0]));
	if (gen == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return -1;
	gen->dev = &dev;
	gen->number = 7;
	gen->lanes = 1;
	dev.active = gen;
	box_init(the_box(), gen, 0);
	the_box()->control = the_box()->on_control.fd = pair[0];
	the_box()->page = &page;
	the_box()->state = BOX_ACTIVE;
	other = pair[1];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ask_end(the_box());
	cc_close(&the_box()->control);
	cc_close(&other);
	free(gen);
	return 0;
}

static int say(uint8_t request, uint64_t addr)
{
	const struct box_report r = { REPORT_ASK, mem_ask_value(request, 3, 4), addr };

	return errand_do(the_box(), &r);
}

static int hear(struct ctl_answer *answer)
{
	return (int)recv(other, answer, sizeof(*answer), MSG_DONTWAIT);
}

/* What core/box makes of PARKED with this nonce: the state after it. */
static enum box_state park(uint32_t nonce)
{
	const struct box_report r = { REPORT_PARKED, nonce, 0 };

	assert_int_equal(send(other, &r, sizeof(r), 0), sizeof(r));
	the_box()->on_control.ready(&the_box()->on_control, EPOLLIN);
	return the_box()->state;
}

static void test_question_and_answer(void **state)
{
	struct ctl_answer answer;

	(void)state;
	assert_int_equal(say(MEM_PLUG, 1ull << 40), 0);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last.generation, 7);
	assert_int_equal(seen.last.lane, 0);
	assert_int_equal(seen.last.value, mem_ask_value(MEM_PLUG, 3, 4));
	assert_int_equal(seen.last.detail, 1ull << 40);
	assert_true(hear(&answer) < 0);
	assert_int_equal(device_answer_question(&dev, &seen.last, 99), 0);
	assert_int_equal(hear(&answer), sizeof(answer));
	assert_int_equal(answer.header.type, CTL_ANSWER);
	assert_int_equal(answer.header.value, 99);
	assert_int_equal(answer.nonce, the_box()->nonce);
	assert_int_equal(device_answer_question(&dev, &seen.last, 99), -ESTALE);
	assert_true(hear(&answer) < 0);
}

/* The answer to one question is not that of the next. */
static void test_answer_of_an_earlier_one(void **state)
{
	struct ctl_answer answer;

	(void)state;
	assert_int_equal(say(MEM_PLUG, 0), 0);
	const struct device_question first = seen.last;

	assert_int_equal(device_answer_question(&dev, &first, 1), 0);
	assert_int_equal(hear(&answer), sizeof(answer));
	assert_int_equal(say(MEM_UNPLUG, 0), 0);
	assert_int_equal(device_answer_question(&dev, &first, 1), -ESTALE);
	assert_true(hear(&answer) < 0);
	assert_int_equal(device_answer_question(&dev, &seen.last, 2), 0);
	assert_int_equal(hear(&answer), sizeof(answer));
	assert_int_equal(answer.header.value, 2);
}

static void test_answered_in_the_hook(void **state)
{
	struct ctl_answer answer;

	(void)state;
	seen.answers = true;
	for (int i = 0; i < 10; i++) {
		assert_int_equal(say(MEM_STATE, 0), 0);
		assert_int_equal(hear(&answer), sizeof(answer));
		assert_int_equal(answer.header.value, 5);
	}
}

static void test_out_of_turn(void **state)
{
	(void)state;
	assert_int_equal(say(MEM_PLUG, 0), 0);
	assert_int_equal(say(MEM_PLUG, 0), -EPROTO);
	assert_int_equal(seen.count, 1);
}

static void test_not_a_question(void **state)
{
	(void)state;
	for (uint32_t request = MEM_REQUEST_END; request < 256; request++)
		assert_int_equal(say((uint8_t)request, 0), -EPROTO);
	dev.spec.kind = DEV_KIND_RNG;
	assert_int_equal(say(MEM_PLUG, 0), -EPROTO);
	dev.spec.kind = DEV_KIND_MEM;
	dev.spec.hooks = NULL;
	assert_int_equal(say(MEM_PLUG, 0), -EPROTO);
	assert_int_equal(seen.count, 0);
	assert_false(the_box()->ask.waits);
}

/* Who is no longer heard gets no answer. */
static void test_states(void **state)
{
	struct ctl_answer answer;

	(void)state;
	assert_int_equal(say(MEM_PLUG, 0), 0);
	for (uint32_t s = 0; s < BOX_STATE_COUNT; s++) {
		const bool serves = s == BOX_STARTING || s == BOX_ACTIVE || s == BOX_QUIESCING;

		the_box()->state = s;
		the_box()->ask.waits = true;
		assert_int_equal(device_answer_question(&dev, &seen.last, 1), serves ? 0 : -ESTALE);
		assert_int_equal(hear(&answer), serves ? (int)sizeof(answer) : -1);
	}
	the_box()->state = BOX_ACTIVE;
	the_box()->ask.waits = true;
	gen->number = 8; /* another generation */
	assert_int_equal(device_answer_question(&dev, &seen.last, 1), -ESTALE);
	dev.active = NULL;
	assert_int_equal(device_answer_question(&dev, &seen.last, 1), -ESTALE);
}

/* PARKED is believed of a box that has read all that was sent: not before the answer that is owed, and
 * after it only with the answer's nonce. */
static void test_parked_too_early(void **state)
{
	(void)state;
	assert_int_equal(say(MEM_PLUG, 0), 0);
	the_box()->state = BOX_QUIESCING;
	the_box()->nonce = 1234;
	assert_int_equal(park(1234), BOX_STOPPING);
}

static void test_parked_without_the_answer(void **state)
{
	(void)state;
	assert_int_equal(say(MEM_PLUG, 0), 0);
	the_box()->state = BOX_QUIESCING;
	the_box()->nonce = 1234;
	assert_int_equal(device_answer_question(&dev, &seen.last, 1), 0);
	assert_int_equal(park(1234), BOX_STOPPING);
}

/* The deadline of a first pass passes, and then this is its state. */
static enum box_state late(void)
{
	struct loop_timer *timer = &the_box()->deadline;

	loop_disarm(sup.loop, timer);
	timer->fire(timer);
	return the_box()->state;
}

/* It has time as long as it waits for us, but not for more requests than there can be. */
static void test_deadline(void **state)
{
	(void)state;
	dev.queues[0].size = 2;
	the_box()->state = BOX_STARTING;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(say(MEM_PLUG, 0), 0);
		assert_int_equal(late(), BOX_STARTING);
		assert_true(the_box()->deadline.armed);
		assert_int_equal(device_answer_question(&dev, &seen.last, 1), 0);
	}
	assert_int_equal(say(MEM_PLUG, 0), 0);
	assert_int_equal(late(), BOX_STOPPING);
}

static void test_ration(void **state)
{
	uint32_t n = 0;

	(void)state;
	seen.answers = true;
	while (!the_box()->ask.due.armed && n < 100000) {
		assert_int_equal(say(MEM_STATE, 0), 0);
		n++;
	}
	assert_in_range(n, 256, 2000); /* the burst, and what came meanwhile */
	assert_int_equal(seen.count, n - 1);
	assert_true(the_box()->ask.due.at_ns < now_ns() + 2 * NS_PER_MS);
	assert_int_equal(say(MEM_STATE, 0), -EPROTO); /* it waits for that one */
	loop_disarm(sup.loop, &the_box()->ask.due);
	ask_fire(&the_box()->ask.due);
	assert_int_equal(seen.count, n);
	ask_fire(&the_box()->ask.due); /* answered already */
	assert_int_equal(seen.count, n);
}

#define ask_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ask_test(test_question_and_answer),
		ask_test(test_answer_of_an_earlier_one),
		ask_test(test_answered_in_the_hook),
		ask_test(test_out_of_turn),
		ask_test(test_not_a_question),
		ask_test(test_states),
		ask_test(test_parked_too_early),
		ask_test(test_parked_without_the_answer),
		ask_test(test_deadline),
		ask_test(test_ration),
	};

	return cmocka_run_group_tests_name("ask", tests, NULL, NULL);
}
