/*
 * nats_pipeline_test.h
 *		Both ends of a NATS pipeline, worked by hand, for tests in C.
 *
 * Owns: batches whose events are numbered, what a pipeline does with a batch,
 * raw requests to JetStream, two regions joined by a leaf node.  Does not own:
 * servers and the stand-in for a database (nats_test.h).
 */
#ifndef NATS_PIPELINE_TEST_H
#define NATS_PIPELINE_TEST_H

#include "nats_test.h"

#include "nats_api.h"
#include "nats_conn.h"
#include "nats_peer.h"
#include "nats_provision.h"
#include "sink_nats.h"
#include "source_nats.h"

#define SINK_CONFIG                                                                  \
	"{\"sink_type\":\"nats\",\"url\":\"nats://127.0.0.1:%d\",\"stream\":\"ORDERS\"," \
	"\"subject_template\":\"%s\"}"
#define SOURCE_CONFIG                                            \
	"{\"source_type\":\"nats\",\"url\":\"nats://127.0.0.1:%d\"," \
	"\"stream\":\"ORDERS\",\"subject\":\"%s\",\"durable_name\":\"%s\",\"batch_size\":500}"

#define KEYS 7

static TideError err;

/* n events whose payloads count from first; key k gets the numbers that are k modulo KEYS. */
static inline void
make_batch(TideBatch *batch, const char *region, int first, int n)
{
	tide_batch_reset(batch);
	for (int i = first; i < first + n; i++)
	{
		TideEvent *event = tide_batch_add(batch);

		event->id = test_slice(
			batch->arena, tide_arena_printf(batch->arena, "%08x-0000-7000-8000-000000000000", i));
		event->origin = test_slice(batch->arena, region);
		event->outbox = test_slice(batch->arena, "order_events");
		event->entity = test_slice(batch->arena, "orders");
		event->op = test_slice(batch->arena, "insert");
		event->key = test_slice(batch->arena, tide_arena_printf(batch->arena, "key%d", i % KEYS));
		event->payload = test_slice(batch->arena,
									tide_arena_printf(batch->arena, "{\"n\": %d}", i));
		event->headers = test_slice(batch->arena, "{}");
		event->published_us = tide_wall_us();
	}
}

static inline bool
deliver(TideSink *sink, TideBatch *batch)
{
	return tide_sink_nats.start(sink, batch, &err) && tide_sink_nats.finish(sink, batch, &err);
}

/* Opens with retries, as a pipeline does; the server may be down. */
static inline TideSink *
open_sink(TestPipeline *p)
{
	TideSink *sink = NULL;

	TEST_WAIT(tide_sink_nats.open(&p->info, &sink, &err), 15000);
	return sink;
}

static inline TideSource *
open_source(TestPipeline *p)
{
	TideSource *source = NULL;

	TEST_WAIT(tide_source_nats.open(&p->info, &source, &err), 15000);
	return source;
}

static inline json_t *
stream_config(TestServer *server, const char *stream)
{
	json_t *config = json_pack("{s:o}", "url", json_sprintf("nats://127.0.0.1:%d", server->port));
	TideNats *nats;
	TideJs *js;
	TideStreamState state;
	json_t *found = NULL;

	ASSERT_OK(tide_nats_open(config, "test", NULL, &nats, &err));
	ASSERT_OK(tide_js_open(nats, NULL, &js, &err));
	ASSERT_OK(tide_stream_load(js, stream, &state, &err));
	if (state.exists)
		found = json_deep_copy(json_object_get(state.info, "config"));
	tide_stream_clear(&state);
	tide_js_close(js);
	tide_nats_close(nats);
	json_decref(config);
	return found;
}

/* Sends one raw API request. */
static inline void
api(TestServer *server, const char *op, json_t *body)
{
	json_t *config = json_pack("{s:o}", "url", json_sprintf("nats://127.0.0.1:%d", server->port));
	TideNats *nats;
	TideJs *js;

	ASSERT_OK(tide_nats_open(config, "test", NULL, &nats, &err));
	ASSERT_OK(tide_js_open(nats, NULL, &js, &err));
	ASSERT_OK(tide_js_request(js, op, body, NULL, &err));
	tide_js_close(js);
	tide_nats_close(nats);
	json_decref(config);
	json_decref(body);
}

/* What a pipeline does with one batch: commit it with its position, then confirm. */
static inline bool
receive(TideSource *source, TideBatch *batch, int timeout_ms)
{
	tide_batch_reset(batch);
	if (!tide_source_nats.start(source, &err) ||
		!tide_source_nats.finish(source, batch, timeout_ms, &err))
		return false;
	for (size_t i = 0; i < batch->n_events; i++)
	{
		/* Only the last few thousand can come again; searching them all would take for ever. */
		size_t from = test_home.n_ids > 5000 ? test_home.n_ids - 5000 : 0;
		bool known = false;

		for (size_t k = test_home.n_ids; k > from && !known; k--)
			known = strcmp(test_home.ids[k - 1], batch->events[i].id.ptr) == 0;
		if (!known)
			test_home_add(batch->events[i].id.ptr);
	}
	if (batch->n_events > 0)
		snprintf(test_home.position, sizeof(test_home.position), "%s", batch->position.ptr);
	return tide_source_nats.confirm(source, batch, &err);
}

static inline void
receive_until(TideSource *source, TideBatch *batch, size_t n, int limit_ms)
{
	long long began = tide_monotonic_ms();

	while (test_home.n_ids < n)
	{
		ASSERT_OK(receive(source, batch, 500));
		if (tide_monotonic_ms() - began > limit_ms)
			fail_msg("%zu of %zu events within %d ms", test_home.n_ids, n, limit_ms);
	}
}

/* Everything from 0 to n - 1 arrived, and each key's in order. */
static inline void
assert_complete_and_ordered(int n)
{
	int last[KEYS];

	for (int k = 0; k < KEYS; k++)
		last[k] = -1;
	assert_int_equal(test_home.n_ids, n);
	for (size_t i = 0; i < test_home.n_ids; i++)
	{
		int number = (int) strtol(test_home.ids[i], NULL, 16);

		assert_int_equal(number,
						 last[number % KEYS] < 0 ? number % KEYS : last[number % KEYS] + KEYS);
		last[number % KEYS] = number;
	}
}

static inline void
publish_range(TestPipeline *p, const char *region, int first, int n)
{
	TideBatch *batch = tide_batch_new();
	TideSink *sink = open_sink(p);

	for (int done = 0; done < n; done += 1000)
	{
		make_batch(batch, region, first + done, n - done < 1000 ? n - done : 1000);
		ASSERT_OK(deliver(sink, batch));
	}
	tide_sink_nats.close(sink);
	tide_batch_free(batch);
}

static inline void
two_regions(TestServer *us, TestServer *eu)
{
	char more[200];
	int leaf = test_free_port();

	snprintf(more, sizeof(more), "server_name: us\nleafnodes { listen: \"127.0.0.1:%d\" }\n", leaf);
	test_server_new(us, "us-east", more);
	snprintf(more, sizeof(more),
			 "server_name: eu\nleafnodes { reconnect: 1, remotes: [ { url:"
			 " \"nats-leaf://127.0.0.1:%d\" } ] }\n",
			 leaf);
	test_server_new(eu, "eu-west", more);
}

#endif /* NATS_PIPELINE_TEST_H */
