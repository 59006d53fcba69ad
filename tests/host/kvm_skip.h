/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that need a VM, where there can be none: skipped, with the reason.  After cmocka.h. */
#ifndef MAYFLY_TESTS_HOST_KVM_SKIP_H
#define MAYFLY_TESTS_HOST_KVM_SKIP_H

#include <stdio.h>

#include "tests/rig/mayfly.h"

/* True: /dev/kvm can be used.  Otherwise the test is skipped here. */
static inline bool kvm_or_skip(void)
{
	const char *why;

	if (mayfly_kvm_usable(&why))
		return true;
	printf("%s\n", why);
	skip();
	return false;
}

#endif
