/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process around a VM: configuration, spawner (before any thread), then log, state directory,
 * signals, API, guest; and all of it back in the other order, whatever happens.
 */
#include "core/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "core/api/api.h"
#include "core/box/spawn.h"
#include "core/cc.h"
#include "core/config.h"
#include "core/confine.h"
#include "core/log.h"
#include "core/programs.h"
#include "core/relay.h"
#include "core/vmm.h"

struct run {
	struct run_options options;
	struct spawner spawner;
	struct loop *loop;
	struct vmm *vmm;
	struct api *api;
	int log;
	int signals;
	int state_dir;
	int pid_file;
	struct loop_source on_signal;
	bool root; /* it was, at the start */
	char programs[OPTION_PATH_MAX];
};

static int complain(const char *fmt, const char *what, int ret)
{
	fprintf(stderr, "mayfly run: ");
	fprintf(stderr, fmt, what);
	fprintf(stderr, ": %s\n", strerror(-ret));
	return ret;
}

static int confine_to_files(void *ctx, const char **what)
{
	struct run *run = ctx;

	return run_confine_files(&run->options, run->programs, what);
}

static int start_spawner(struct run *run)
{
	const struct spawner_before before = { confine_to_files, run };
	const char *what = "";
	int ret = programs_find(run->programs, sizeof(run->programs), run->options.faulty_programs);

	if (ret != 0)
		return complain("no device programs in %s", run->programs, ret);
	ret = spawner_start(&run->spawner, run->programs, &before, &what);
	return ret == 0 ? 0 : complain("cannot %s (mayfly doctor says what is missing)", what, ret);
}

static int open_log(struct run *run)
{
	if (run->options.log_file[0] != '\0') {
		run->log = log_open_file(run->options.log_file);
		if (run->log < 0)
			return complain("cannot open the log file %s", run->options.log_file,
					run->log);
	}
	log_open(run->log >= 0 ? run->log : STDERR_FILENO, (enum log_level)run->options.log_level);
	log_show(run->options.log_show_level, run->options.log_show_origin);
	return 0;
}

/* ---- the state directory ---- */

static int state_defaults(struct run *run)
{
	struct run_options *o = &run->options;
	const char *base = run->root ? "/run" : getenv("XDG_RUNTIME_DIR");

	if (o->id[0] == '\0')
		snprintf(o->id, sizeof(o->id), "vm%d", getpid());
	if (o->state_dir[0] == '\0' && base == NULL)
		return complain("give %s: XDG_RUNTIME_DIR is not set", "--state-dir", -ENOENT);
	if (o->state_dir[0] == '\0' && snprintf(o->state_dir, sizeof(o->state_dir), "%s/mayfly/%s",
						base, o->id) >= (int)sizeof(o->state_dir))
		return complain("the state directory's name is too long: %s", o->id, -ENAMETOOLONG);
	if (o->api_socket[0] != '\0')
		return 0;
	if (strlen(o->state_dir) + sizeof("/api.sock") > sizeof(o->api_socket))
		return complain("give --api-socket: no room for a socket's name in %s",
				o->state_dir, -ENAMETOOLONG);
	stpcpy(stpcpy(o->api_socket, o->state_dir), "/api.sock");
	return 0;
}

/* Each part of the path that is missing, whatever the umask; the last is the VM's own, 0700.  shared: of
 * the others somebody else has to find the way. */
static int make_directories(char *path, bool shared)
{
	const mode_t mask = umask(shared ? 066 : 077);
	int ret = 0;

	for (char *p = strchr(path + 1, '/'); p != NULL && ret == 0; p = strchr(p + 1, '/')) {
		*p = '\0';
		ret = mkdir(path, 0777) != 0 && errno != EEXIST ? -errno : 0;
		*p = '/';
	}
	if (ret == 0)
		ret = mkdir(path, 0700) != 0 && errno != EEXIST ? -errno : 0;
	umask(mask);
	return ret;
}

__attribute__((format(printf, 1, 2))) static int refuse(const char *fmt, ...)
{
	va_list ap;

	fputs("mayfly run: the state directory ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs(" give another --state-dir\n", stderr);
	return -EPERM;
}

/* One that was there already may be anybody's: who can write into it can put a socket or a pid file
 * in the place of ours. */
static int check_directory(const struct run *run)
{
	const char *path = run->options.state_dir;
	struct stat st;

	if (fstat(run->state_dir, &st) != 0)
		return complain("cannot look at the state directory %s", path, -errno);
	if (st.st_uid != geteuid())
		return refuse("%s belongs to user %u:", path, st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return refuse("%s can be written by others (mode %04o): chmod it to 0700, or", path,
			      st.st_mode & 07777);
	return 0;
}

/* With a slash behind it a link would be followed. */
static int make_directory(struct run *run)
{
	char *path = run->options.state_dir;
	int ret;

	for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
		path[n - 1] = '\0';
	ret = make_directories(path, run->options.user.uid != 0);
	return ret == 0 ? 0 : complain("cannot make the state directory %s", path, ret);
}

/* Root's last deeds, where it is to be somebody else: the directory that this user could not make. */
static int become_user(struct run *run)
{
	const struct run_user *user = &run->options.user;
	const char *path = run->options.state_dir;
	int ret;

	if (user->uid == 0)
		return 0;
	if (!run->root)
		return complain("%s is for root alone", "--uid", -EPERM);
	ret = make_directory(run);
	if (ret == 0 && lchown(path, user->uid, user->gid) != 0)
		return complain("cannot give the state directory %s away", path, -errno);
	if (ret == 0)
		ret = confine_become(user->uid, user->gid);
	return ret == 0 ? 0 : complain("cannot become the user of %s", "--uid", ret);
}

static int open_directory(struct run *run)
{
	char *path = run->options.state_dir;
	int ret = make_directory(run);

	if (ret != 0)
		return ret;
	run->state_dir = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (run->state_dir < 0 && (errno == ENOTDIR || errno == ELOOP))
		return refuse("%s is no directory (a link is not followed):", path);
	if (run->state_dir < 0)
		return complain("cannot open the state directory %s", path, -errno);
	return check_directory(run);
}

/* The pid file, locked for as long as the VM lives: two VMs cannot share a directory. */
static int write_pid(struct run *run)
{
	const char *path = run->options.state_dir;
	char text[16];

	run->pid_file =
		openat(run->state_dir, "pid", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (run->pid_file < 0)
		return complain("cannot write %s/pid", path, -errno);
	if (flock(run->pid_file, LOCK_EX | LOCK_NB) != 0) {
		const int ret =
			complain("another VM runs in %s (choose another --id)", path, -errno);

		cc_close(&run->pid_file);
		return ret;
	}
	snprintf(text, sizeof(text), "%d\n", getpid());
	if (ftruncate(run->pid_file, 0) != 0 ||
	    write(run->pid_file, text, strlen(text)) != (ssize_t)strlen(text))
		return complain("cannot write %s/pid", path, -errno);
	return 0;
}

static int make_state(struct run *run)
{
	int ret = open_directory(run);

	return ret == 0 ? write_pid(run) : ret;
}

static void remove_state(struct run *run)
{
	if (run->pid_file >= 0) {
		unlinkat(run->state_dir, "pid", 0);
		rmdir(run->options.state_dir); /* stays when something of use is left in it */
	}
	cc_close(&run->pid_file);
	cc_close(&run->state_dir);
}

/* ---- signals ---- */

static void on_signal(struct loop_source *source, uint32_t events)
{
	struct run *run = container_of(source, struct run, on_signal);
	struct signalfd_siginfo info;

	(void)events;
	if (read(run->signals, &info, sizeof(info)) == sizeof(info)) {
		log_info("asked to end by signal %u", info.ssi_signo);
		loop_stop(run->loop);
	}
}

/* The VMM's end must leave the terminal as it was; then it happens as it would have. */
static void on_crash(int signal_number)
{
	relay_restore_terminal(); /* async-signal-safe, all of it: NOLINT(*signal-handler,cert-sig30-c) */
	signal(signal_number, SIG_DFL);
	raise(signal_number);
}

/* Asked for by an operator, a terminal or a session: an orderly end. */
static const int orderly[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

/* What ends no process by default, or is somebody else's: SIGRTMIN is the vCPUs'. */
static bool signal_is_harmless(int number)
{
	static const int harmless[] = { SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP,  SIGTTIN,
					SIGTTOU, SIGURG,  SIGKILL, SIGWINCH, SIGPIPE };

	for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
		if (harmless[i] == number)
			return true;
	return number >= 32 && number <= SIGRTMIN;
}

/* nohup and shells without job control ignore some for their children; so it stays.  SIGTERM is also
 * what Ctrl-A x sends. */
static bool signal_is_ignored(int number)
{
	struct sigaction now;

	return number != SIGTERM && sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

static int take_signals(struct run *run)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(orderly); i++)
		if (!signal_is_ignored(orderly[i]))
			sigaddset(&set, orderly[i]);
	for (int i = 1; i <= SIGRTMAX; i++)
		if (!signal_is_harmless(i) && !signal_is_ignored(i) && !sigismember(&set, i))
			signal(i, on_crash);
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &set, NULL); /* before any thread: all inherit it */
	run->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (run->signals < 0)
		return complain("cannot %s", "take signals", -errno);
	return loop_add(run->loop, &run->on_signal, run->signals, EPOLLIN);
}

/* ---- the verb ---- */

static int load_config(struct run *run)
{
	struct option_error error;

	if (run->options.config[0] == '\0' ||
	    config_load(run->options.config, &run->options, &error) == 0)
		return 0;
	fprintf(stderr, "mayfly run: %s\n", error.text);
	return -EINVAL;
}

/* Before the first thread. */
static int confine(void)
{
	const char *what = "";
	const int ret = confine_begin(relay_restore_terminal, &what);

	return ret == 0 ? 0 : complain("cannot %s", what, ret);
}

static int prepare(struct run *run)
{
	int ret = load_config(run);

	if (ret == 0)
		ret = state_defaults(run);
	if (ret == 0)
		ret = become_user(run);
	if (ret == 0)
		ret = open_log(run);
	if (ret == 0)
		ret = make_state(run);
	if (ret == 0)
		ret = start_spawner(run);
	if (ret == 0)
		ret = loop_create(&run->loop);
	if (ret == 0)
		ret = take_signals(run);
	if (ret == 0)
		ret = vmm_create(&run->vmm, &run->options, &run->spawner, run->loop);
	if (ret == 0)
		ret = confine();
	return ret;
}

static int begin(struct run *run)
{
	struct option_error error = { "" };
	int ret = api_start(&run->api, vmm_station(run->vmm), run->vmm, run->options.api_socket,
			    &error);

	/* Without a kernel the API starts it. */
	if (ret == 0 && run->options.kernel[0] != '\0')
		ret = vmm_start(run->vmm, &error);
	if (ret != 0)
		fprintf(stderr, "mayfly run: %s\n", error.text);
	return ret;
}

int run_main(const struct run_options *options)
{
	struct run *run = calloc(1, sizeof(*run));
	int status = EXIT_FAILURE;

	if (run == NULL)
		return EXIT_FAILURE;
	run->options = *options;
	run->root = geteuid() == 0;
	run->log = run->signals = run->state_dir = run->pid_file = -1;
	run->spawner.socket = run->spawner.pidfd = -1;
	run->on_signal = (struct loop_source){ on_signal, -1 };
	if (prepare(run) == 0 && begin(run) == 0) {
		loop_run(run->loop);
		status = vmm_exit_status(run->vmm);
	}
	if (run->loop != NULL)
		loop_end(run->loop); /* requests that wait for this thread are answered first */
	vmm_wind_up(run->vmm);
	api_stop(run->api);
	vmm_destroy(run->vmm);
	loop_destroy(run->loop);
	spawner_stop(&run->spawner);
	remove_state(run);
	relay_restore_terminal();
	cc_close(&run->signals);
	cc_close(&run->log);
	free(run);
	return status;
}
