/* SPDX-License-Identifier: Apache-2.0 */
/* prepare() and begin() are the order in which all comes, process_main() the one in which it goes. */
#include "core/process.h"

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
#include "core/cc.h"
#include "core/confine.h"
#include "core/log.h"
#include "core/programs.h"
#include "core/relay.h"

struct process {
	const struct process_ops *ops;
	const void *verb_options;
	struct run_options options;
	struct process_site site;
	struct process_made made;
	struct spawner *spawners;
	uint32_t spawner_count; /* started */
	struct loop *loop;
	struct api *api;
	int log;
	int signals;
	int state_dir;
	int pid_file;
	struct loop_source on_signal;
	bool root; /* it was, at the start */
	char programs[OPTION_PATH_MAX];
};

/* fmt has one %s, for what. */
static int complain(const struct process *p, const char *fmt, const char *what, int ret)
{
	fprintf(stderr, "mayfly %s: ", p->ops->verb);
	fprintf(stderr, fmt, what);
	fprintf(stderr, ": %s\n", strerror(-ret));
	return ret;
}

/* Where a hook returned ret. */
static int hooked(const struct process *p, int ret, const struct option_error *error)
{
	if (ret != 0)
		fprintf(stderr, "mayfly %s: %s\n", p->ops->verb, error->text);
	return ret;
}

static int confine_to_files(void *ctx, const char **what)
{
	const struct process *p = ctx;

	return process_confine_files(p->ops, &p->options, p->programs, what);
}

static int start_spawners(struct process *p)
{
	const struct spawner_before before = { confine_to_files, p };
	const uint32_t count = p->ops->spawners(&p->options);
	const char *what = "";
	int ret = programs_find(p->programs, sizeof(p->programs), p->options.faulty_programs);

	if (ret != 0)
		return complain(p, "no device programs in %s", p->programs, ret);
	what = "start the spawner";
	p->spawners = calloc(count, sizeof(p->spawners[0]));
	ret = p->spawners != NULL ? spawners_start(p->spawners, count, p->programs, &before, &what)
				  : -ENOMEM;
	if (ret != 0)
		return complain(p, "cannot %s (mayfly doctor says what is missing)", what, ret);
	p->spawner_count = count;
	return 0;
}

static void stop_spawners(struct process *p)
{
	for (uint32_t i = 0; i < p->spawner_count; i++)
		spawner_stop(&p->spawners[i]);
	free(p->spawners);
}

static int open_log(struct process *p)
{
	if (p->options.log_file[0] != '\0') {
		p->log = log_open_file(p->options.log_file);
		if (p->log < 0)
			return complain(p, "cannot open the log file %s", p->options.log_file,
					p->log);
	}
	log_open(p->log >= 0 ? p->log : STDERR_FILENO, (enum log_level)p->options.log_level);
	log_show(p->options.log_show_level, p->options.log_show_origin);
	return 0;
}

/* ---- the state directory ---- */

static int state_defaults(struct process *p)
{
	struct run_options *o = &p->options;
	const char *base = p->root ? "/run" : getenv("XDG_RUNTIME_DIR");

	if (o->state_dir[0] == '\0' && base == NULL)
		return complain(p, "give %s: XDG_RUNTIME_DIR is not set", "--state-dir", -ENOENT);
	if (o->state_dir[0] == '\0' && snprintf(o->state_dir, sizeof(o->state_dir), "%s/mayfly/%s",
						base, o->id) >= (int)sizeof(o->state_dir))
		return complain(p, "the state directory's name is too long: %s", o->id,
				-ENAMETOOLONG);
	if (o->api_socket[0] != '\0')
		return 0;
	if (strlen(o->state_dir) + sizeof("/api.sock") > sizeof(o->api_socket))
		return complain(p, "give --api-socket: no room for a socket's name in %s",
				o->state_dir, -ENAMETOOLONG);
	stpcpy(stpcpy(o->api_socket, o->state_dir), "/api.sock");
	return 0;
}

/* Each part of the path that is missing, whatever the umask; the last is our own, 0700.  shared: of
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

__attribute__((format(printf, 2, 3))) static int refuse(const struct process *p, const char *fmt,
							...)
{
	va_list ap;

	fprintf(stderr, "mayfly %s: the state directory ", p->ops->verb);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputs(" give another --state-dir\n", stderr);
	return -EPERM;
}

/* One that was there already may be anybody's: who can write into it can put a socket or a pid file
 * in the place of ours. */
static int check_directory(const struct process *p)
{
	const char *path = p->options.state_dir;
	struct stat st;

	if (fstat(p->state_dir, &st) != 0)
		return complain(p, "cannot look at the state directory %s", path, -errno);
	if (st.st_uid != geteuid())
		return refuse(p, "%s belongs to user %u:", path, st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return refuse(p, "%s can be written by others (mode %04o): chmod it to 0700, or",
			      path, st.st_mode & 07777);
	return 0;
}

/* With a slash behind it a link would be followed. */
static int make_directory(struct process *p)
{
	char *path = p->options.state_dir;
	int ret;

	for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
		path[n - 1] = '\0';
	ret = make_directories(path, p->options.user.uid != 0);
	return ret == 0 ? 0 : complain(p, "cannot make the state directory %s", path, ret);
}

/* Root's last deeds, where it is to be somebody else: the directory that this user could not make. */
static int become_user(struct process *p)
{
	const struct run_user *user = &p->options.user;
	const char *path = p->options.state_dir;
	int ret;

	if (user->uid == 0)
		return 0;
	if (!p->root)
		return complain(p, "%s is for root alone", "--uid", -EPERM);
	ret = make_directory(p);
	if (ret == 0 && lchown(path, user->uid, user->gid) != 0)
		return complain(p, "cannot give the state directory %s away", path, -errno);
	if (ret == 0)
		ret = confine_become(user->uid, user->gid);
	return ret == 0 ? 0 : complain(p, "cannot become the user of %s", "--uid", ret);
}

static int open_directory(struct process *p)
{
	char *path = p->options.state_dir;
	int ret = make_directory(p);

	if (ret != 0)
		return ret;
	p->state_dir = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (p->state_dir < 0 && (errno == ENOTDIR || errno == ELOOP))
		return refuse(p, "%s is no directory (a link is not followed):", path);
	if (p->state_dir < 0)
		return complain(p, "cannot open the state directory %s", path, -errno);
	return check_directory(p);
}

/* The pid file, locked for as long as this lives: two cannot share a directory. */
static int write_pid(struct process *p)
{
	const char *path = p->options.state_dir;
	char text[16];

	p->pid_file = openat(p->state_dir, "pid", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (p->pid_file < 0)
		return complain(p, "cannot write %s/pid", path, -errno);
	if (flock(p->pid_file, LOCK_EX | LOCK_NB) != 0) {
		const int ret = -errno;

		fprintf(stderr, "mayfly %s: another %s runs in %s (choose another --id): %s\n",
			p->ops->verb, p->ops->instance, path, strerror(-ret));
		cc_close(&p->pid_file);
		return ret;
	}
	snprintf(text, sizeof(text), "%d\n", getpid());
	if (ftruncate(p->pid_file, 0) != 0 ||
	    write(p->pid_file, text, strlen(text)) != (ssize_t)strlen(text))
		return complain(p, "cannot write %s/pid", path, -errno);
	return 0;
}

static int make_state(struct process *p)
{
	int ret = open_directory(p);

	return ret == 0 ? write_pid(p) : ret;
}

static void remove_state(struct process *p)
{
	if (p->pid_file >= 0) {
		unlinkat(p->state_dir, "pid", 0);
		rmdir(p->options.state_dir); /* stays when something of use is left in it */
	}
	cc_close(&p->pid_file);
	cc_close(&p->state_dir);
}

/* ---- signals ---- */

static void on_signal(struct loop_source *source, uint32_t events)
{
	struct process *p = container_of(source, struct process, on_signal);
	struct signalfd_siginfo info;

	(void)events;
	if (read(p->signals, &info, sizeof(info)) == sizeof(info)) {
		log_info("asked to end by signal %u", info.ssi_signo);
		loop_stop(p->loop);
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

static int take_signals(struct process *p)
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
	p->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (p->signals < 0)
		return complain(p, "cannot %s", "take signals", -errno);
	return loop_add(p->loop, &p->on_signal, p->signals, EPOLLIN);
}

/* ---- one after the other ---- */

static int configure(struct process *p)
{
	struct option_error error = { "" };

	return hooked(p, p->ops->configure(p->verb_options, &p->options, &error), &error);
}

static int create(struct process *p)
{
	struct option_error error = { "" };

	p->site = (struct process_site){ p->verb_options, &p->options, p->spawners,
					 p->spawner_count, p->loop };
	return hooked(p, p->ops->create(&p->site, &p->made, &error), &error);
}

/* Before the first thread. */
static int confine(const struct process *p)
{
	const char *what = "";
	const int ret = confine_begin(relay_restore_terminal, &what);

	return ret == 0 ? 0 : complain(p, "cannot %s", what, ret);
}

static int make_loop(struct process *p)
{
	const int ret = loop_create(&p->loop);

	return ret == 0 ? 0 : complain(p, "cannot %s", "make the event loop", ret);
}

static int prepare(struct process *p)
{
	int ret = configure(p);

	if (ret == 0)
		ret = state_defaults(p);
	if (ret == 0)
		ret = become_user(p);
	if (ret == 0)
		ret = open_log(p);
	if (ret == 0)
		ret = make_state(p);
	if (ret == 0)
		ret = start_spawners(p);
	if (ret == 0)
		ret = make_loop(p);
	if (ret == 0)
		ret = take_signals(p);
	if (ret == 0)
		ret = create(p);
	return ret == 0 ? confine(p) : ret;
}

static int begin(struct process *p)
{
	struct option_error error = { "" };
	int ret = api_start(&p->api, p->made.station, p->made.vmm, p->options.api_socket, &error);

	if (ret == 0)
		ret = p->ops->start(p->made.self, &p->site, &error);
	return hooked(p, ret, &error);
}

static void end(struct process *p)
{
	if (p->loop != NULL)
		loop_end(p->loop); /* requests that wait for this thread are answered first */
	if (p->made.self != NULL)
		p->ops->wind_up(p->made.self);
	api_stop(p->api);
	if (p->made.self != NULL)
		p->ops->destroy(p->made.self);
	loop_destroy(p->loop);
	stop_spawners(p);
	remove_state(p);
	relay_restore_terminal();
	cc_close(&p->signals);
	cc_close(&p->log);
}

int process_main(const struct process_ops *ops, const void *verb_options)
{
	struct process *p = calloc(1, sizeof(*p));
	int status = EXIT_FAILURE;

	if (p == NULL)
		return EXIT_FAILURE;
	p->ops = ops;
	p->verb_options = verb_options;
	p->root = geteuid() == 0;
	p->log = p->signals = p->state_dir = p->pid_file = -1;
	p->on_signal = (struct loop_source){ on_signal, -1 };
	if (prepare(p) == 0 && begin(p) == 0) {
		loop_run(p->loop);
		status = ops->exit_status(p->made.self);
	}
	end(p);
	free(p);
	return status;
}
