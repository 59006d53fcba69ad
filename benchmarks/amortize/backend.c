/* SPDX-License-Identifier: Apache-2.0 */
#include "benchmarks/amortize/backend.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/cc.h"

_Noreturn static void child_main(pid_t parent, int socket, int (*begin)(void *ctx), void *ctx)
{
	int ret;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(1);
	ret = begin(ctx);
	if (send(socket, &ret, sizeof(ret), MSG_NOSIGNAL) != sizeof(ret) || ret != 0)
		_exit(1);
	for (;;)
		pause();
}

int backend_fork(struct backend *b, int (*begin)(void *ctx), void *ctx)
{
	const pid_t parent = getpid();
	int ends[2], ret = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return -errno;
	b->vmm = ends[0];
	b->device = ends[1];
	b->pid = fork();
	if (b->pid == 0)
		child_main(parent, b->device, begin, ctx);
	if (b->pid < 0)
		ret = -errno;
	cc_close(&b->device);
	if (ret == 0 && recv(b->vmm, &ret, sizeof(ret), 0) != sizeof(ret))
		ret = -EPIPE;
	return ret;
}

void backend_stop(struct backend *b)
{
	if (b->pid > 0 && kill(b->pid, SIGKILL) == 0)
		waitpid(b->pid, NULL, 0);
	if (b->vmm > 0)
		close(b->vmm);
	*b = (struct backend){ 0 };
}
