/* SPDX-License-Identifier: Apache-2.0 */
/* `mayfly run`. */
#ifndef MAYFLY_CORE_RUN_H
#define MAYFLY_CORE_RUN_H

#include "core/options.h"

/* Runs a VM until its end; returns the exit status: 0 powered off or asked to end, 1 host or
 * configuration error, 3 crashed (with no_reboot).  Call from the main thread, without others. */
int run_main(const struct run_options *options);

#endif
