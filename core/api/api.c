/* SPDX-License-Identifier: Apache-2.0 */
#include "core/api/api.h"

#include <stddef.h>

int api_start(struct api **out, struct vmm *vmm, const char *path, struct option_error *error)
{
	(void)vmm, (void)path, (void)error;
	*out = NULL;
	return 0;
}

void api_stop(struct api *api)
{
	(void)api;
}
