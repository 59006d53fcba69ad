/* SPDX-License-Identifier: Apache-2.0 */
/* What --require-seal makes of what a host has and of what its kernel could do. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <errno.h>

#include "core/box/host.h"
#include "core/cc.h"
#include "devmodel/abi/launch.h"
#include "devmodel/abi/seal.h"

#define ALL                                                                                        \
	(SEAL_WANT_IDS | SEAL_WANT_LANDLOCK | SEAL_WANT_MSEAL | SEAL_WANT_MDWE | SEAL_WANT_LISTENER)
#define LAYER(NAME) (1u << SEAL_LAYER_##NAME)
#define ALL_LAYERS ((1u << SEAL_LAYER_COUNT) - 1)

static void test_kernels(void **state)
{
	static const struct {
		uint32_t major, minor;
		int landlock;
		uint32_t can;
	} kernels[] = {
		{ 0, 0, -ENOSYS, SEAL_WANT_IDS }, /* it did not say */
		{ 5, 5, -ENOSYS, SEAL_WANT_IDS },
		{ 5, 6, -ENOSYS, SEAL_WANT_IDS | SEAL_WANT_LISTENER },
		{ 5, 10, -ENOSYS, SEAL_WANT_IDS | SEAL_WANT_LISTENER },
		{ 5, 15, 1, SEAL_WANT_IDS | SEAL_WANT_LISTENER | SEAL_WANT_LANDLOCK },
		{ 6, 1, 2, SEAL_WANT_IDS | SEAL_WANT_LISTENER | SEAL_WANT_LANDLOCK },
		{ 6, 1, -EOPNOTSUPP, SEAL_WANT_IDS | SEAL_WANT_LISTENER | SEAL_WANT_LANDLOCK },
		{ 6, 1, -EPERM, SEAL_WANT_IDS | SEAL_WANT_LISTENER | SEAL_WANT_LANDLOCK },
		{ 6, 1, -ENOSYS, SEAL_WANT_IDS | SEAL_WANT_LISTENER },
		{ 6, 3, 3, ALL & ~SEAL_WANT_MSEAL },
		{ 6, 9, 4, ALL & ~SEAL_WANT_MSEAL },
		{ 6, 10, 5, ALL },
		{ 7, 0, 9, ALL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kernels); i++) {
		const uint32_t release = SEAL_RELEASE(kernels[i].major, kernels[i].minor);

		assert_int_equal(seal_kernel_can(release, kernels[i].landlock, true),
				 kernels[i].can);
		assert_int_equal(seal_kernel_can(release, kernels[i].landlock, false),
				 kernels[i].can & ~SEAL_WANT_IDS);
	}
}

static void test_lacks(void **state)
{
	static const struct {
		uint32_t seal, kernel; /* in force, possible */
		uint32_t layers;
		bool by_kernel;
		uint32_t lacks;
	} cases[] = {
		{ ALL, ALL, ALL_LAYERS, true, 0 },
		{ 0, 0, 0, false, 0 },
		{ 0, ALL, 0, false, 0 }, /* nothing is required */
		/* Of an old kernel no more is wanted than it can do, but by name. */
		{ SEAL_WANT_IDS, SEAL_WANT_IDS, 0, true, 0 },
		{ SEAL_WANT_IDS, SEAL_WANT_IDS, ALL_LAYERS, false,
		  LAYER(LANDLOCK) | LAYER(MSEAL) | LAYER(MDWE) | LAYER(LISTENER) },
		{ SEAL_WANT_IDS, SEAL_WANT_IDS, LAYER(MSEAL) | LAYER(SECCOMP), false,
		  LAYER(MSEAL) },
		/* Landlock switched off at boot; no root. */
		{ ALL & ~SEAL_WANT_LANDLOCK, ALL, 0, true, LAYER(LANDLOCK) },
		{ ALL & ~SEAL_WANT_IDS, ALL, 0, true, LAYER(IDS) },
		{ 0, ALL, 0, true,
		  LAYER(IDS) | LAYER(LANDLOCK) | LAYER(MSEAL) | LAYER(MDWE) | LAYER(LISTENER) },
		/* What every box has is never missing. */
		{ 0, 0, LAYER(SECCOMP) | LAYER(MAPS) | LAYER(NAMESPACES), true, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct seal_host host = { .seal = cases[i].seal, .kernel = cases[i].kernel };

		assert_int_equal(seal_host_lacks(&host, cases[i].layers, cases[i].by_kernel),
				 cases[i].lacks);
	}
}

/* On this host: what is in force, the kernel can do. */
static void test_probe(void **state)
{
	struct seal_host host;

	(void)state;
	seal_host_probe(&host);
	assert_int_equal(host.seal & ~host.kernel, 0);
	assert_int_equal(!!(host.seal & SEAL_WANT_IDS), geteuid() == 0);
	assert_int_equal(!!(host.kernel & SEAL_WANT_IDS), geteuid() == 0);
	assert_int_equal(!!(host.seal & SEAL_WANT_LANDLOCK), host.landlock_abi > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernels),
		cmocka_unit_test(test_lacks),
		cmocka_unit_test(test_probe),
	};

	return cmocka_run_group_tests_name("seal_host", tests, NULL, NULL);
}
