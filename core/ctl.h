/* SPDX-License-Identifier: Apache-2.0 */
/* `mayfly ctl`: asks a running VM, by its API socket. */
#ifndef MAYFLY_CORE_CTL_H
#define MAYFLY_CORE_CTL_H

struct ctl_options;

/* The exit status: 0; 1: no answer, or a refusal, which is printed; 2: usage. */
int ctl_main(const struct ctl_options *options);

#endif
