/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where memory can be added: the window for every size of boot RAM and address width, and places in it
 * against a search that looks at every block.
 */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/cc.h"
#include "core/machine/layout.h"
#include "core/machine/mem_window.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define TIB (1ull << 40)
#define PAGE 4096

static const struct {
	struct mem_window_config config;
	struct mem_window want;
} made[] = {
	/* below the hole: at 4 GiB, one for the memory and one a slot */
	{ { 512 * MIB, GIB, 1, 40 }, { 4 * GIB, 6 * GIB, 128 * MIB } },
	{ { 3 * GIB, 4 * GIB, 64, 40 }, { 4 * GIB, 69 * GIB, 128 * MIB } },
	/* the first byte above it moves the window by a GiB */
	{ { 3 * GIB + MIB, 8 * GIB, 2, 40 }, { 5 * GIB, 12 * GIB, 128 * MIB } },
	{ { 4 * GIB, 8 * GIB, 2, 40 }, { 5 * GIB, 11 * GIB, 128 * MIB } },
	/* blocks of 2 GiB begin where RAM ends at 64 GiB */
	{ { 63 * GIB - MIB, 128 * GIB, 1, 40 }, { 64 * GIB, 131 * GIB, 128 * MIB } },
	{ { 63 * GIB, 128 * GIB, 1, 40 }, { 64 * GIB, 132 * GIB, 2 * GIB } },
	{ { 64 * GIB, 66 * GIB, 64, 40 }, { 66 * GIB, 196 * GIB, 2 * GIB } },
	/* it may end where addresses end */
	{ { GIB, 59 * GIB, 2, 36 }, { 4 * GIB, 64 * GIB, 128 * MIB } },
	{ { GIB, 49 * TIB, 64, 46 }, { 4 * GIB, 49 * TIB + 67 * GIB, 128 * MIB } },
	{ { GIB, GIB + 128 * MIB, 1, 40 }, { 4 * GIB, 6 * GIB, 128 * MIB } },
};

static const struct {
	struct mem_window_config config;
	const char *what;
} refused[] = {
	{ { GIB, GIB, 1, 40 }, "128 MiB at least" },
	{ { GIB, GIB + 128 * MIB - 1, 1, 40 }, "128 MiB at least" },
	{ { GIB, 512 * MIB, 1, 40 }, "larger than the memory at boot" },
	{ { 64 * GIB, 66 * GIB - 1, 1, 40 }, "2 GiB at least" },
	{ { GIB, 2 * GIB, 0, 40 }, "slots must be 1 to 64" },
	{ { GIB, 2 * GIB, 65, 40 }, "slots must be 1 to 64" },
	{ { GIB, 59 * GIB + 1, 2, 36 }, "more addresses than this CPU has" },
	{ { GIB, 60 * GIB, 2, 36 }, "more addresses than this CPU has" },
	{ { GIB, 58 * GIB, 4, 36 }, "more addresses than this CPU has" },
	{ { GIB, 64 * GIB, 2, 36 }, "more than this CPU can address" },
	{ { GIB, UINT64_MAX, 2, 52 }, "more than this CPU can address" },
	{ { 0, GIB, 1, 40 }, "must be more than 0" },
	{ { GIB, 2 * GIB, 1, 31 }, "address width" },
	{ { GIB, 2 * GIB, 1, 53 }, "address width" },
};

static void test_made(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
		const char *what = "";
		struct mem_window got;

		assert_int_equal(mem_window_make(&got, &made[i].config, &what), 0);
		assert_int_equal(got.base, made[i].want.base);
		assert_int_equal(got.end, made[i].want.end);
		assert_int_equal(got.block_bytes, made[i].want.block_bytes);
	}
}

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		const char *what = "";
		struct mem_window got = { 1, 1, 1 };

		assert_int_equal(mem_window_make(&got, &refused[i].config, &what), -EINVAL);
		assert_non_null(strstr(what, refused[i].what));
		assert_int_equal(got.base | got.end | got.block_bytes, 0);
	}
}

static struct mem_window window_of(uint64_t boot, uint64_t max, uint32_t slots)
{
	const struct mem_window_config config = { boot, max, slots, 40 };
	struct mem_window window;
	const char *what = "";

	assert_int_equal(mem_window_make(&window, &config, &what), 0);
	return window;
}

static uint64_t place(const struct mem_window *w, const struct mem_region *regions, uint32_t count,
		      uint64_t bytes, uint64_t page)
{
	const char *what = "";
	uint64_t gpa = 0;

	assert_int_equal(mem_window_place(w, regions, count, bytes, page, &gpa, &what), 0);
	return gpa;
}

static void refuse(const struct mem_window *w, const struct mem_region *regions, uint32_t count,
		   uint64_t bytes, uint64_t page, int ret, const char *words)
{
	const char *what = "";
	uint64_t gpa = 42;

	assert_int_equal(mem_window_place(w, regions, count, bytes, page, &gpa, &what), ret);
	assert_non_null(strstr(what, words));
	assert_int_equal(gpa, 42);
}

static void test_first_fit(void **state)
{
	const struct mem_window w = window_of(3 * GIB + 512 * MIB, 8 * GIB, 2);
	const uint64_t b = w.base;
	/* Out of order; boot RAM, one that reaches in, one that touches the end, one behind it. */
	const struct mem_region taken[] = {
		{ .gpa = b + 3 * GIB, .bytes = 256 * MIB },
		{ .gpa = w.end, .bytes = GIB },
		{ .gpa = b + 256 * MIB, .bytes = 256 * MIB },
		{ .gpa = LAYOUT_RAM_HIGH, .bytes = w.base - LAYOUT_RAM_HIGH + 128 * MIB },
		{ .gpa = 0, .bytes = LAYOUT_RAM_LOW_END },
	};
	const uint32_t n = ARRAY_SIZE(taken);

	(void)state;
	assert_int_equal(b, 5 * GIB);
	assert_int_equal(place(&w, NULL, 0, 128 * MIB, PAGE), b);
	assert_int_equal(place(&w, taken, n, 128 * MIB, PAGE), b + 128 * MIB);
	assert_int_equal(place(&w, taken, n, 256 * MIB, PAGE), b + 512 * MIB);
	assert_int_equal(place(&w, taken, n, 2 * GIB + 512 * MIB, PAGE), b + 512 * MIB);
	assert_int_equal(place(&w, taken, n, 2 * GIB + 640 * MIB, PAGE), b + 3 * GIB + 256 * MIB);
	assert_int_equal(place(&w, taken, n, GIB, GIB), b + GIB);
	assert_int_equal(place(&w, taken, n, 3 * GIB, GIB), b + 4 * GIB);
	refuse(&w, taken, n, 4 * GIB, GIB, -ENOSPC, "no gap");
	refuse(&w, taken, n, 16 * GIB, PAGE, -ENOSPC, "no gap");
	refuse(&w, taken, n, 1ull << 63, PAGE, -ENOSPC, "no gap");
	refuse(&w, taken, n, 0, PAGE, -EINVAL, "multiple of 128 MiB");
	refuse(&w, taken, n, 64 * MIB, PAGE, -EINVAL, "multiple of 128 MiB");
	refuse(&w, taken, n, 128 * MIB + 1, PAGE, -EINVAL, "multiple of 128 MiB");
	refuse(&w, taken, n, 128 * MIB, GIB, -EINVAL, "multiple of the page size");
}

static void test_other_windows(void **state)
{
	const struct mem_window none = { 0 }, large = window_of(64 * GIB, 128 * GIB, 4);

	(void)state;
	refuse(&none, NULL, 0, GIB, PAGE, -ENOSPC, "give max");
	refuse(&large, NULL, 0, GIB, PAGE, -EINVAL, "multiple of 2 GiB");
	assert_int_equal(place(&large, NULL, 0, 4 * GIB, GIB) % (2 * GIB), 0);
}

/* Whether it lies in the window, apart from all that are there. */
static bool is_free(const struct mem_window *w, const struct mem_region *regions, uint32_t count,
		    uint64_t gpa, uint64_t bytes)
{
	bool is = gpa >= w->base && gpa + bytes <= w->end;

	for (uint32_t i = 0; i < count; i++)
		is = is &&
		     (regions[i].gpa + regions[i].bytes <= gpa || gpa + bytes <= regions[i].gpa);
	return is;
}

/* Come and go at random: what is placed is free, nothing lower was, and what is refused fits nowhere. */
static void test_random(void **state)
{
	const struct mem_window w = window_of(GIB, 9 * GIB, 8);
	struct mem_region regions[16];
	uint32_t count = 0, placed = 0, none = 0;
	unsigned seed = 7;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		const uint64_t page = rand_r(&seed) % 4 ? PAGE : GIB;
		const uint64_t step = page > w.block_bytes ? page : w.block_bytes;
		const uint64_t bytes =
			step * (1 + (uint64_t)rand_r(&seed) % (page == PAGE ? 12 : 2));
		const char *what = "";
		uint64_t gpa = 0, want = w.base;

		if (count == ARRAY_SIZE(regions) || (count && rand_r(&seed) % 3 == 0)) {
			regions[(uint32_t)rand_r(&seed) % count] = regions[count - 1];
			count--;
			continue;
		}
		while (want < w.end && !is_free(&w, regions, count, want, bytes))
			want += step;
		const int ret = mem_window_place(&w, regions, count, bytes, page, &gpa, &what);

		assert_int_equal(ret, want < w.end ? 0 : -ENOSPC);
		if (ret == 0) {
			assert_int_equal(gpa, want);
			regions[count++] = (struct mem_region){ .gpa = gpa, .bytes = bytes };
			placed++;
		} else {
			none++;
		}
	}
	assert_true(placed > 1000 && none > 100);
}

/* What the losses are for: as many huge ranges as there are slots, each behind a small one, fit. */
static void test_losses(void **state)
{
	const uint32_t slots = 8;
	const struct mem_window w = window_of(GIB, GIB + 4 * (GIB + 128 * MIB), slots);
	struct mem_region regions[8];

	(void)state;
	for (uint32_t i = 0; i < slots; i++) {
		const uint64_t bytes = i % 2 ? GIB : 128 * MIB, page = i % 2 ? GIB : PAGE;

		// cppcheck-suppress unreadVariable // it is, by place()
		regions[i] = (struct mem_region){ .gpa = place(&w, regions, i, bytes, page),
						  .bytes = bytes };
	}
	assert_true(regions[slots - 1].gpa + GIB <= w.end);
}

/* Behind boot RAM or behind the last, each where its largest pages and blocks can lie. */
static void test_reserve(void **state)
{
	struct mem_window_config config = { .boot_bytes = GIB, .phys_bits = 36 };
	const char *what = "";
	uint64_t end = 0, gpa;

	(void)state;
	assert_int_equal(mem_window_reserve(&config, 128 * MIB, 4096, &end, &gpa, &what), 0);
	assert_true(gpa == 4 * GIB && end == 4 * GIB + 128 * MIB);
	assert_int_equal(mem_window_reserve(&config, 59 * GIB, 4096, &end, &gpa, &what), 0);
	assert_true(gpa == 5 * GIB && end == 64 * GIB);
	assert_int_equal(mem_window_reserve(&config, 2 * MIB, 4096, &end, &gpa, &what), -EINVAL);
	assert_non_null(strstr(what, "more than this CPU can address"));
	end = 0;
	assert_int_equal(mem_window_reserve(&config, UINT64_MAX, 4096, &end, &gpa, &what), -EINVAL);
	config = (struct mem_window_config){ .boot_bytes = 63 * GIB, .phys_bits = 46 };
	assert_int_equal(mem_window_reserve(&config, GIB, 4096, &end, &gpa, &what), 0);
	assert_int_equal(gpa, 64 * GIB); /* the guest's block is 2 GiB there */
	assert_int_equal(mem_window_reserve(&config, GIB, 4096, &end, &gpa, &what), 0);
	assert_int_equal(gpa, 66 * GIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reserve),       cmocka_unit_test(test_made),
		cmocka_unit_test(test_refused),       cmocka_unit_test(test_first_fit),
		cmocka_unit_test(test_other_windows), cmocka_unit_test(test_random),
		cmocka_unit_test(test_losses),
	};

	return cmocka_run_group_tests_name("mem_window", tests, NULL, NULL);
}
