/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hotplug/memory on real memory and a made-up KVM and supervisor, which note what is asked of them and fail
 * where they are told to.  Includes the sources, so as to stand between them and the real ones.
 */
#ifndef MAYFLY_TESTS_UNIT_MEMORY_WORLD_H
#define MAYFLY_TESTS_UNIT_MEMORY_WORLD_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/cc.h"
#include "core/log.h"
#include "core/machine/layout.h"
#include "hotplug/memory.h"

#define MIB (1ull << 20)
#define BOOT (64 * MIB)
#define BLOCK (128 * MIB)
#define WINDOW (4ull << 30)

/* NAME, as it stands in the log. */
#define STEPS(X)                                                                                   \
	X(SLOT, "slot")                                                                            \
	X(PREPARE, "prepare")                                                                      \
	X(ABANDON, "abandon") X(MOVED, "moved") X(GONE, "gone") X(INSERT, "insert") X(ASK, "ask")

enum step {
#define STEP_ENUM(NAME, name) STEP_##NAME,
	STEPS(STEP_ENUM)
#undef STEP_ENUM
		STEP_COUNT
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char said[512];
static struct {
	enum step step;
	int ret;
	uint32_t times;
} fault;
static uint32_t map_of_kvm, map_of_boxes, map_before;
static struct memmap map;
static struct memory *memory;

static int note(enum step step)
{
	static const char *const names[] = {
#define STEP_NAME(NAME, name) name,
		STEPS(STEP_NAME)
#undef STEP_NAME
	};
	int ret = 0;

	pthread_mutex_lock(&lock);
	snprintf(said + strlen(said), sizeof(said) - strlen(said), "%s ", names[step]);
	if (fault.times > 0 && fault.step == step) {
		fault.times--;
		ret = fault.ret;
	}
	pthread_mutex_unlock(&lock);
	return ret;
}

static int fake_set_memory(struct vm *vm, const struct box_memory *epoch)
{
	const int ret = note(STEP_SLOT);

	(void)vm;
	if (ret == 0)
		map_of_kvm = epoch->map.epoch;
	return ret;
}

/* Where somebody is to be held until the test lets go of it: once, when it is shut. */
struct gate {
	sem_t shut, reached, open;
};
static struct gate prepare_gate, pages_gate; /* all 0: as sem_init() makes them */

static inline void gate_shut(struct gate *gate)
{
	sem_post(&gate->shut);
}

static inline void gate_await(struct gate *gate)
{
	while (sem_wait(&gate->reached) != 0)
		;
}

static inline void gate_open(struct gate *gate)
{
	sem_post(&gate->open);
}

static void gate_pass(struct gate *gate)
{
	if (sem_trywait(&gate->shut) != 0)
		return;
	sem_post(&gate->reached);
	while (sem_wait(&gate->open) != 0)
		;
}

static int gated_fallocate(int fd, int mode, off_t offset, off_t bytes)
{
	gate_pass(&pages_gate);
	return fallocate(fd, mode, offset, bytes);
}

static int fake_prepare(struct supervisor *sup, const struct box_memory *next, uint32_t timeout_ms,
			char *who)
{
	(void)sup, (void)timeout_ms;
	gate_pass(&prepare_gate);
	map_before = map_of_boxes;
	map_of_boxes = next->map.epoch;
	snprintf(who, DEVICE_ID_MAX + 1, "disk0");
	return note(STEP_PREPARE);
}

static void fake_abandon(struct supervisor *sup)
{
	(void)sup;
	note(STEP_ABANDON);
	map_of_boxes = map_before;
}

static int fake_move(struct supervisor *sup, enum epoch_until until, uint32_t timeout_ms, char *who)
{
	(void)sup, (void)timeout_ms;
	snprintf(who, DEVICE_ID_MAX + 1, "disk0");
	return note(until == EPOCH_GONE ? STEP_GONE : STEP_MOVED);
}

/* The answer to the last question that has one: to those before it one may come late, to nobody. */
static struct {
	uint32_t value, number;
} answered;

static void (*on_answer)(void); /* once */

static int fake_answer(struct device *dev, const struct device_question *question, uint32_t value)
{
	void (*const once)(void) = on_answer;

	(void)dev;
	on_answer = NULL;
	if (once != NULL)
		once();
	pthread_mutex_lock(&lock);
	if (question->number > answered.number) {
		answered.value = value;
		answered.number = question->number;
	}
	pthread_mutex_unlock(&lock);
	return 0;
}

#define vm_set_memory fake_set_memory
#define supervisor_prepare_memory fake_prepare
#define supervisor_abandon_memory fake_abandon
#define supervisor_move_memory fake_move
#define device_answer_question fake_answer
#define fallocate gated_fallocate
#include "hotplug/memory.c"
#include "hotplug/memory_change.c"
#include "hotplug/reserve.c"
#undef fallocate

static void assert_said(const char *want)
{
	/* The guest is told after who asked is answered. */
	for (int ms = 0; ms < 5000 && strlen(said) < strlen(want); ms++)
		usleep(1000);
	assert_string_equal(said, want);
	said[0] = '\0';
}

#endif
