/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket and libmicrohttpd: a thread a connection, so that a request that waits (a replacement
 * does) keeps nobody else.  A body is collected up to a limit; what is above it is read and dropped,
 * so that the client, which writes first, gets to read why.  All else is api_dispatch().
 */
#include "core/api/api.h"

#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/api/internal.h"
#include "core/box/news.h"
#include "core/cc.h"
#include "core/cond.h"
#include "core/confine.h"
#include "core/unixsock.h"

#define BODY_MAX (64u << 10)
#define DRAIN_MAX (16u << 20) /* of a body that is too long: then the connection is closed */
#define CONNECTIONS_MAX 64
#define IDLE_S 30
#define BACKLOG 16
#define LAST_WORDS_MS 500

struct api {
	struct api_state state;
	struct MHD_Daemon *daemon; /* owns .. */
	int fd;                    /* .. this, from its start on */
	char path[OPTION_SOCKET_MAX];
	pthread_mutex_t lock;
	pthread_cond_t answered;
	unsigned int answering; /* requests that have arrived whole and whose answers are not out */
};

/* A request on its way in. */
struct request {
	size_t bytes;   /* seen so far */
	bool answering; /* it is one of api.answering */
	char data[BODY_MAX];
};

/* ---- requests ---- */

static enum MHD_Result request_take(struct request *r, const char *data, size_t *bytes)
{
	if (r->bytes + *bytes > DRAIN_MAX)
		return MHD_NO;
	if (r->bytes + *bytes <= sizeof(r->data))
		memcpy(r->data + r->bytes, data, *bytes);
	r->bytes += *bytes;
	*bytes = 0;
	return MHD_YES;
}

static void answer_begins(struct api *api, struct request *r)
{
	r->answering = true;
	pthread_mutex_lock(&api->lock);
	api->answering++;
	pthread_mutex_unlock(&api->lock);
}

/* r: NULL for a connection that ended without one. */
static void answer_is_out(struct api *api, const struct request *r)
{
	if (r == NULL || !r->answering)
		return;
	pthread_mutex_lock(&api->lock);
	if (--api->answering == 0)
		pthread_cond_signal(&api->answered);
	pthread_mutex_unlock(&api->lock);
}

/* Until all answers are out, but for LAST_WORDS_MS at most: there may be a client that does not read. */
static void wait_for_answers(struct api *api)
{
	const uint64_t end = now_ns() + LAST_WORDS_MS * NS_PER_MS;

	pthread_mutex_lock(&api->lock);
	while (api->answering != 0 && cond_wait_until(&api->answered, &api->lock, end) == 0)
		;
	pthread_mutex_unlock(&api->lock);
}

/* Takes text or stream over. NULL: no memory. */
static struct MHD_Response *make_response(struct MHD_Connection *connection, struct api_call *call)
{
	const size_t length = call->text != NULL ? strlen(call->text) : 0;
	struct MHD_Response *response;

	if (call->stream != NULL)
		return api_stream(call->stream, connection);
	response = MHD_create_response_from_buffer(length, call->text,
						   call->text != NULL ? MHD_RESPMEM_MUST_FREE
								      : MHD_RESPMEM_PERSISTENT);
	if (response == NULL)
		free(call->text);
	return response;
}

static enum MHD_Result respond(struct MHD_Connection *connection, struct api_call *call)
{
	struct MHD_Response *response = make_response(connection, call);
	enum MHD_Result result = MHD_NO;

	if (response == NULL)
		return MHD_NO;
	if (call->type != NULL)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, call->type);
	if (call->allow[0] != '\0')
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, call->allow);
	result = MHD_queue_response(connection, call->status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *bytes, void **slot)
{
	struct api *api = arg;
	struct request *r = *slot;
	struct api_call call = { .state = &api->state,
				 .station = api->state.station,
				 .vmm = api->state.vmm };

	(void)version;
	if (r == NULL) {
		*slot = calloc(1, sizeof(*r));
		return *slot != NULL ? MHD_YES : MHD_NO;
	}
	if (*bytes != 0)
		return request_take(r, data, bytes);
	answer_begins(api, r);
	if (r->bytes > sizeof(r->data))
		api_fault(&call, 413 /* the name of it changed */,
			  "the body is longer than %u bytes", BODY_MAX);
	else
		api_dispatch(&call, method, url, r->data, r->bytes);
	return respond(connection, &call);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **slot,
			 enum MHD_RequestTerminationCode code)
{
	(void)connection, (void)code;
	answer_is_out(arg, *slot);
	free(*slot);
	*slot = NULL;
}

/* ---- the socket ---- */

static struct api *api_make(struct station *station, struct vmm *vmm, const char *path)
{
	struct api *api = calloc(1, sizeof(*api));

	if (api == NULL)
		return NULL;
	cond_init(&api->answered);
	pthread_mutex_init(&api->lock, NULL);
	snprintf(api->path, sizeof(api->path), "%s", path);
	api->state = (struct api_state){ .station = station, .vmm = vmm, .log = -1 };
	return api;
}

static void api_free(struct api *api)
{
	if (api == NULL)
		return;
	pthread_cond_destroy(&api->answered);
	pthread_mutex_destroy(&api->lock);
	free(api);
}

static int fail(struct api *api, const char *path, int ret, struct option_error *error)
{
	snprintf(error->text, sizeof(error->text), "cannot listen at %.180s: %s", path,
		 unixsock_error(ret));
	api_free(api);
	return ret;
}

/* What MHD makes inherits from who asks it. */
static void *start_daemon(void *arg)
{
	struct api *api = arg;

	confine_thread(station_faults_allowed(api->state.station) ? CONFINE_HAND : CONFINE_API);
	api->daemon =
		MHD_start_daemon(MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
					 MHD_USE_POLL | MHD_USE_ITC,
				 0, NULL, NULL, on_request, api, MHD_OPTION_LISTEN_SOCKET, api->fd,
				 MHD_OPTION_NOTIFY_COMPLETED, on_completed, api,
				 MHD_OPTION_CONNECTION_LIMIT, (unsigned int)CONNECTIONS_MAX,
				 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int)IDLE_S,
				 MHD_OPTION_END);
	return NULL;
}

int api_start(struct api **out, struct station *station, struct vmm *vmm, const char *path,
	      struct option_error *error)
{
	struct api *api = api_make(station, vmm, path);
	pthread_t starter;

	*out = NULL;
	if (api == NULL)
		return fail(api, path, -ENOMEM, error);
	api->fd = unixsock_listen(path, BACKLOG, 0);
	if (api->fd < 0)
		return fail(api, path, api->fd, error);
	if (pthread_create(&starter, NULL, start_daemon, api) == 0)
		pthread_join(starter, NULL);
	if (api->daemon == NULL) {
		close(api->fd);
		unlink(path);
		return fail(api, path, -ENOMEM, error);
	}
	*out = api;
	return 0;
}

void api_stop(struct api *api)
{
	if (api == NULL)
		return;
	unlink(api->path);
	/* Who was heard is answered: a guest may have ended before its InstanceStart is.  Who reads the
	 * events comes to their end. */
	news_end(station_news(api->state.station));
	wait_for_answers(api);
	MHD_stop_daemon(api->daemon);
	/* The log stays open: there may still be something to say. */
	api_free(api);
}
