/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /events: a line of JSON an event, without an end.  Each reader has a thread of libmicrohttpd's,
 * which waits here, and for nothing but news, the client's going away and the end of all news.
 */
#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "core/api/internal.h"
#include "core/box/autopsy.h"
#include "core/box/news.h"
#include "core/cc.h"

#define LINE_BYTES 1024

struct stream {
	struct news_reader *reader;
	int connection;
	size_t bytes, sent; /* of the line */
	char line[LINE_BYTES];
};

/* ---- an event as JSON ---- */

static const char *const names[] = {
#define EVENT_NAME(NAME, name, wakes, text) name,
	NEWS_EVENTS(EVENT_NAME)
#undef EVENT_NAME
};

/* What news_event.text is called, and whether number is something; NULL: it is nothing. */
static const struct {
	const char *text, *number;
} keys[NEWS_KIND_COUNT] = {
	[NEWS_SUSPECT] = { "reason", NULL },  [NEWS_REPLACED] = { "reason", NULL },
	[NEWS_RESTING] = { NULL, "wait_ms" }, [NEWS_POISONED] = { NULL, "queue" },
	[NEWS_BROKEN] = { "why", NULL },      [NEWS_QUARANTINED] = { "why", NULL },
	[NEWS_FAULT] = { "fault", NULL },     [NEWS_MACHINE] = { "state", NULL },
};

static json_t *event_json(const struct news_event *event)
{
	char time[AUTOPSY_TIME_BYTES];
	json_t *object;
	const char *text = keys[event->kind].text, *number = keys[event->kind].number;

	autopsy_time(event->wall_ns, time);
	object = json_pack("{s:I, s:I, s:s, s:s}", "seq", (json_int_t)event->seq, "t_us",
			   (json_int_t)event->t_us, "time", time, "event", names[event->kind]);
	if (event->device[0] != '\0')
		json_object_set_new(object, "device", json_string(event->device));
	if (event->generation != 0)
		json_object_set_new(object, "generation",
				    json_integer((json_int_t)event->generation));
	if (text != NULL && event->text != NULL)
		json_object_set_new(object, text, json_string(event->text));
	if (number != NULL)
		json_object_set_new(object, number, json_integer(event->number));
	if (event->kind == NEWS_REPLACED)
		api_add_replacement(object, &event->replacement);
	return object;
}

/* Text of the next line. 1; 0: there is none yet; -EPIPE: the end; -ENOMEM. */
static int next_line(struct stream *s)
{
	struct news_event event;
	uint64_t lost = 0;
	const int ret = news_take(s->reader, &event, &lost);
	json_t *object;

	if (ret == 0 || ret == -EPIPE)
		return ret;
	object = ret > 0 ? event_json(&event)
			 : json_pack("{s:s, s:I}", "event", "lost", "count", (json_int_t)lost);
	s->bytes = json_dumpb(object, s->line, sizeof(s->line) - 1,
			      JSON_COMPACT | JSON_REAL_PRECISION(9));
	json_decref(object);
	if (s->bytes == 0)
		return -ENOMEM;
	CHECK(s->bytes < sizeof(s->line));
	s->line[s->bytes++] = '\n';
	s->sent = 0;
	return 1;
}

/* ---- the stream ---- */

/* False: the client is gone. */
static bool wait_for_news(const struct stream *s)
{
	struct pollfd polls[] = { { .fd = news_wake_fd(s->reader), .events = POLLIN },
				  { .fd = s->connection, .events = POLLRDHUP } };

	while (poll(polls, ARRAY_SIZE(polls), -1) < 0)
		CHECK(errno == EINTR);
	return polls[1].revents == 0;
}

static ssize_t on_more(void *arg, uint64_t position, char *buffer, size_t room)
{
	struct stream *s = arg;
	size_t n = 0;

	(void)position;
	while (n < room) {
		const size_t left = s->bytes - s->sent, part = left < room - n ? left : room - n;

		memcpy(buffer + n, s->line + s->sent, part);
		s->sent += part;
		n += part;
		if (s->sent != s->bytes)
			continue;
		const int ret = next_line(s);

		if (ret > 0)
			continue;
		if (n != 0)
			break;
		if (ret < 0 || !wait_for_news(s))
			return ret == -ENOMEM ? MHD_CONTENT_READER_END_WITH_ERROR
					      : MHD_CONTENT_READER_END_OF_STREAM;
	}
	return (ssize_t)n;
}

static void on_over(void *arg)
{
	struct stream *s = arg;

	news_unsubscribe(s->reader);
	free(s);
}

void api_get_events(struct api_call *call)
{
	struct stream *s = calloc(1, sizeof(*s));
	const int ret =
		s != NULL ? news_subscribe(station_news(call->station), &s->reader) : -ENOMEM;

	if (ret == 0) {
		call->status = MHD_HTTP_OK;
		call->type = "application/x-ndjson";
		call->stream = s;
		return;
	}
	free(s);
	api_fault(call, api_status_of(ret), "no more than %d can read events at a time: %s",
		  NEWS_READERS_MAX, strerror(-ret));
}

struct MHD_Response *api_stream(struct stream *s, struct MHD_Connection *connection)
{
	struct MHD_Response *response;

	s->connection =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	/* Nothing happens for hours, if all is well. */
	MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, LINE_BYTES, on_more, s,
						     on_over);
	if (response == NULL)
		on_over(s);
	return response;
}
