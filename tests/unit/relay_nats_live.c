/*
 * relay_nats_live.c
 *		The NATS source and sink against real servers: streams, order, faults.
 *
 * Owns: cases that need a nats-server and no database.  Does not own: the form
 * of messages (relay_nats_message.c).
 */
#include "nats_test.h"

#include <time.h>

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
static void
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
		event->published_us = 1700000000000000 + i;
	}
}

static bool
deliver(TideSink *sink, TideBatch *batch)
{
	return tide_sink_nats.start(sink, batch, &err) && tide_sink_nats.finish(sink, batch, &err);
}

/* Opens with retries, as a pipeline does; the server may be down. */
static TideSink *
open_sink(TestPipeline *p)
{
	TideSink *sink = NULL;

	TEST_WAIT(tide_sink_nats.open(&p->info, &sink, &err), 15000);
	return sink;
}

static TideSource *
open_source(TestPipeline *p)
{
	TideSource *source = NULL;

	TEST_WAIT(tide_source_nats.open(&p->info, &source, &err), 15000);
	return source;
}

static json_t *
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
static void
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

static const char *
text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/*
 * Streams
 */

static void
creates_a_stream_no_wider_than_the_template(void **state)
{
	TestServer server;
	TestPipeline p;
	TideSink *sink;
	json_t *config;

	(void) state;
	test_server_new(&server, NULL, "");
	test_pipeline(&p, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	sink = open_sink(&p);
	config = stream_config(&server, "ORDERS");
	assert_int_equal(json_array_size(json_object_get(config, "subjects")), 1);
	assert_string_equal(json_string_value(json_array_get(json_object_get(config, "subjects"), 0)),
						"orders.*.us-east");
	assert_string_equal(text(config, "storage"), "file");
	assert_string_equal(text(config, "description"), TIDE_NATS_MADE_BY);
	json_decref(config);
	tide_sink_nats.close(sink);
	test_pipeline_free(&p);

	/* A second pipeline's subject is added; what somebody set meanwhile stays. */
	config = stream_config(&server, "ORDERS");
	json_object_set_new(config, "max_msgs", json_integer(12345));
	api(&server, "STREAM.UPDATE.ORDERS", config);
	test_pipeline(&p, "pub2", "us-east", "bills", SINK_CONFIG, server.port, "bills.{entity}");
	sink = open_sink(&p);
	config = stream_config(&server, "ORDERS");
	assert_int_equal(json_array_size(json_object_get(config, "subjects")), 2);
	assert_int_equal(json_integer_value(json_object_get(config, "max_msgs")), 12345);
	json_decref(config);
	tide_sink_nats.close(sink);
	test_pipeline_free(&p);
	test_server_free(&server);
}

static void
leaves_foreign_streams_alone(void **state)
{
	TestServer server;
	TestPipeline p;
	TideSink *sink = NULL;
	json_t *before;
	json_t *after;

	(void) state;
	test_server_new(&server, NULL, "");
	api(&server, "STREAM.CREATE.ORDERS",
		json_pack("{s:s, s:[s], s:s}", "name", "ORDERS", "subjects", "orders.*.asia", "storage",
				  "file"));
	before = stream_config(&server, "ORDERS");
	test_pipeline(&p, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	assert_false(tide_sink_nats.open(&p.info, &sink, &err));
	assert_int_equal(err.class, TIDE_ERR_CONFIG);
	assert_non_null(strstr(err.message, "ORDERS"));
	assert_non_null(strstr(err.message, "orders.*.us-east"));
	after = stream_config(&server, "ORDERS");
	assert_true(json_equal(before, after));
	json_decref(before);
	json_decref(after);
	test_pipeline_free(&p);

	/* One that covers the subject is used as it is. */
	test_pipeline(&p, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.asia");
	ASSERT_OK(tide_sink_nats.open(&p.info, &sink, &err));
	tide_sink_nats.close(sink);
	test_pipeline_free(&p);
	test_server_free(&server);
}

static void
refuses_memory_streams(void **state)
{
	TestServer server;
	TestPipeline p;
	TideSink *sink = NULL;

	(void) state;
	test_server_new(&server, NULL, "");
	api(&server, "STREAM.CREATE.ORDERS",
		json_pack("{s:s, s:[s], s:s}", "name", "ORDERS", "subjects", "orders.>", "storage",
				  "memory"));
	test_pipeline(&p, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	assert_false(tide_sink_nats.open(&p.info, &sink, &err));
	assert_int_equal(err.class, TIDE_ERR_CONFIG);
	assert_non_null(strstr(err.message, "memory"));
	test_pipeline_free(&p);
	test_server_free(&server);
}

/*
 * Publishing
 */

static void
publishes_and_recognises_duplicates(void **state)
{
	TestServer server;
	TestPipeline p;
	TideSink *sink;
	TideBatch *batch = tide_batch_new();

	(void) state;
	test_server_new(&server, NULL, "");
	test_pipeline(&p, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	sink = open_sink(&p);
	make_batch(batch, "us-east", 0, 5000);
	ASSERT_OK(deliver(sink, batch));
	assert_int_equal(batch->n_stored, 5000);
	make_batch(batch, "us-east", 4000, 2000);
	ASSERT_OK(deliver(sink, batch));
	assert_int_equal(batch->n_stored, 1000);
	assert_int_equal(batch->n_duplicates, 1000);

	/* Sent again on purpose, the same events are stored anew. */
	make_batch(batch, "us-east", 0, 10);
	batch->again = true;
	ASSERT_OK(deliver(sink, batch));
	assert_int_equal(batch->n_stored, 10);
	tide_batch_free(batch);
	tide_sink_nats.close(sink);
	test_pipeline_free(&p);
	test_server_free(&server);
}

static void
rejects_single_events(void **state)
{
	TestServer server;
	TestPipeline p;
	TideSink *sink;
	TideBatch *batch = tide_batch_new();
	char *big = tide_malloc(2000001);
	json_t *config;

	(void) state;
	test_server_new(&server, NULL, "");
	test_pipeline(&p, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	sink = open_sink(&p);
	config = stream_config(&server, "ORDERS");
	json_object_set_new(config, "max_msg_size", json_integer(100000));
	api(&server, "STREAM.UPDATE.ORDERS", config);

	make_batch(batch, "us-east", 0, 10);
	memset(big, '1', 2000000);
	big[2000000] = '\0';
	batch->events[3].payload = (TideSlice){big, 2000000}; /* over max_payload */
	batch->events[5].payload = (TideSlice){big, 200000};  /* over max_msg_size */
	ASSERT_OK(deliver(sink, batch));
	assert_int_equal(batch->n_stored, 8);
	for (size_t i = 0; i < 10; i++)
		assert_true((batch->events[i].reject != NULL) == (i == 3 || i == 5));
	assert_int_equal(batch->events[3].reject->class, TIDE_ERR_DATA);
	assert_non_null(strstr(batch->events[3].reject->hint, "max_payload"));
	assert_non_null(strstr(batch->events[5].reject->hint, "max_msg_size"));
	free(big);
	tide_batch_free(batch);
	tide_sink_nats.close(sink);
	test_pipeline_free(&p);
	test_server_free(&server);
}

static void
a_full_stream_throttles(void **state)
{
	TestServer server;
	TestPipeline p;
	TideSink *sink;
	TideBatch *batch = tide_batch_new();

	(void) state;
	test_server_new(&server, NULL, "");
	test_pipeline(&p, "pub", "us-east", "order_events",
				  "{\"sink_type\":\"nats\","
				  "\"url\":\"nats://127.0.0.1:%d\",\"stream\":\"ORDERS\",\"max_bytes\":100000,"
				  "\"subject_template\":\"orders.{op}.us-east\"}",
				  server.port);
	sink = open_sink(&p);
	make_batch(batch, "us-east", 0, 1000);
	assert_false(deliver(sink, batch));
	assert_int_equal(err.class, TIDE_ERR_THROTTLED);
	assert_string_equal(err.code, "10077");
	tide_sink_nats.close(sink);

	/* With room, the same batch goes through. */
	json_t *config = stream_config(&server, "ORDERS");

	json_object_set_new(config, "max_bytes", json_integer(10000000));
	api(&server, "STREAM.UPDATE.ORDERS", config);
	sink = open_sink(&p);
	make_batch(batch, "us-east", 0, 1000);
	ASSERT_OK(deliver(sink, batch));
	assert_int_equal(batch->n_stored + batch->n_duplicates, 1000);
	tide_batch_free(batch);
	tide_sink_nats.close(sink);
	test_pipeline_free(&p);
	test_server_free(&server);
}

static void
a_stale_lease_stops_publishing(void **state)
{
	TestServer server;
	TestPipeline p;
	TideSink *sink;
	TideBatch *batch = tide_batch_new();
	bool fresh = false;

	(void) state;
	test_server_new(&server, NULL, "");
	test_pipeline(&p, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	p.info.lease_arg = &fresh;
	sink = open_sink(&p);
	make_batch(batch, "us-east", 0, 10);
	assert_false(deliver(sink, batch));
	assert_int_equal(err.class, TIDE_ERR_STALE);
	tide_batch_free(batch);
	tide_sink_nats.close(sink);
	test_pipeline_free(&p);
	test_server_free(&server);
}

static void
a_deleted_stream_is_noticed_and_made_again(void **state)
{
	TestServer server;
	TestPipeline p;
	TideSink *sink;
	TideBatch *batch = tide_batch_new();

	(void) state;
	test_server_new(&server, NULL, "");
	test_pipeline(&p, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	sink = open_sink(&p);
	api(&server, "STREAM.DELETE.ORDERS", NULL);
	make_batch(batch, "us-east", 0, 10);
	assert_false(deliver(sink, batch));
	assert_int_equal(err.class, TIDE_ERR_UNAVAILABLE);
	assert_non_null(strstr(err.message, "orders.*.us-east"));
	tide_sink_nats.close(sink);
	sink = open_sink(&p);
	ASSERT_OK(deliver(sink, batch));
	tide_batch_free(batch);
	tide_sink_nats.close(sink);
	test_pipeline_free(&p);
	test_server_free(&server);
}

/*
 * Reading
 */

/* What a pipeline does with one batch: commit it with its position, then confirm. */
static bool
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

static void
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
static void
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

static void
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

static void
reads_in_order_and_goes_on_where_it_was(void **state)
{
	TestServer server;
	TestPipeline out;
	TestPipeline in;
	TideSource *source;
	TideBatch *batch = tide_batch_new();
	size_t before;

	(void) state;
	test_home_clear();
	test_server_new(&server, NULL, "");
	test_pipeline(&out, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	test_pipeline(&in, "sub", "eu-west", "replicated", SOURCE_CONFIG, server.port,
				  "orders.*.us-east", "eu");
	publish_range(&out, "us-east", 0, 3000);
	source = open_source(&in);
	receive_until(source, batch, 1500, 20000);
	tide_source_nats.close(source);
	before = test_home.n_ids;

	source = open_source(&in);
	ASSERT_OK(receive(source, batch, 2000));
	assert_true(batch->n_events > 0);
	assert_int_equal(strtol(batch->events[0].id.ptr, NULL, 16), before);
	receive_until(source, batch, 3000, 20000);
	assert_complete_and_ordered(3000);
	assert_string_equal(batch->events[0].origin.ptr, "us-east");
	assert_string_equal(batch->events[0].entity.ptr, "orders");
	ASSERT_OK(receive(source, batch, 100));
	assert_int_equal(batch->n_events, 0);
	tide_source_nats.close(source);
	tide_batch_free(batch);
	test_pipeline_free(&in);
	test_pipeline_free(&out);
	test_server_free(&server);
}

/* Both ends at work while the server is killed again and again. */
static void
keeps_order_through_kills(void **state)
{
	TestServer server;
	TestPipeline out;
	TestPipeline in;
	TideSink *sink = NULL;
	TideSource *source = NULL;
	TideBatch *batch = tide_batch_new();
	TideBatch *got = tide_batch_new();
	const int total = 30000;
	int sent = 0;
	int kills = 0;
	unsigned seed = 4711;
	long long limit = tide_monotonic_ms() + 120000;

	(void) state;
	test_home_clear();
	test_server_new(&server, NULL, "");
	test_pipeline(&out, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	test_pipeline(&in, "sub", "eu-west", "replicated", SOURCE_CONFIG, server.port,
				  "orders.*.us-east", "eu");
	while ((int) test_home.n_ids < total)
	{
		assert_true(tide_monotonic_ms() < limit);
		if (kills < 12 && rand_r(&seed) % 8 == 0)
		{
			test_server_kill(&server);
			kills++;
		}
		if (sink == NULL && server.pid > 0)
			sink = open_sink(&out);
		if (source == NULL && server.pid > 0)
			source = open_source(&in);
		if (sink != NULL && sent < total)
		{
			make_batch(batch, "us-east", sent, 500);
			if (!tide_sink_nats.start(sink, batch, &err))
			{
				tide_sink_nats.close(sink);
				sink = NULL;
			}
			if (sink != NULL && kills < 12 && rand_r(&seed) % 8 == 0)
			{
				test_server_kill(&server); /* in the middle of a window */
				kills++;
			}
			if (sink != NULL && !tide_sink_nats.finish(sink, batch, &err))
			{
				tide_sink_nats.close(sink);
				sink = NULL;
			}
			else if (sink != NULL)
				sent += 500;
		}
		if (source != NULL && !receive(source, got, 50))
		{
			tide_source_nats.close(source);
			source = NULL;
		}
		if (server.pid <= 0)
			test_server_start(&server);
	}
	assert_true(kills >= 10);
	assert_complete_and_ordered(total);
	tide_sink_nats.close(sink);
	tide_source_nats.close(source);
	tide_batch_free(batch);
	tide_batch_free(got);
	test_pipeline_free(&in);
	test_pipeline_free(&out);
	test_server_free(&server);
}

/* Takes the consumer's next message away, as a connection that died with it would. */
static void
steal_message(TestServer *server)
{
	json_t *config = json_pack("{s:o}", "url", json_sprintf("nats://127.0.0.1:%d", server->port));
	TideNats *nats;
	natsMsg *msg = NULL;

	ASSERT_OK(tide_nats_open(config, "thief", NULL, &nats, &err));
	assert_int_equal(natsConnection_RequestString(&msg, tide_nats_connection(nats),
												  "$JS.API.CONSUMER.MSG.NEXT.ORDERS.eu", "1", 5000),
					 NATS_OK);
	natsMsg_Destroy(msg);
	tide_nats_close(nats);
	json_decref(config);
}

static void
notices_a_lost_message(void **state)
{
	TestServer server;
	TestPipeline out;
	TestPipeline in;
	TideSource *source;
	TideBatch *batch = tide_batch_new();

	(void) state;
	test_home_clear();
	test_server_new(&server, NULL, "");
	test_pipeline(&out, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	test_pipeline(&in, "sub", "eu-west", "replicated", SOURCE_CONFIG, server.port,
				  "orders.*.us-east", "eu");
	publish_range(&out, "us-east", 0, 100);
	source = open_source(&in); /* has asked for nothing yet */
	steal_message(&server);
	assert_false(receive(source, batch, 2000));
	assert_int_equal(err.class, TIDE_ERR_UNAVAILABLE);
	assert_string_equal(err.code, "gap");
	assert_int_equal(test_home.n_ids, 0);
	tide_source_nats.close(source);
	source = open_source(&in);
	receive_until(source, batch, 100, 20000);
	assert_complete_and_ordered(100);
	tide_source_nats.close(source);
	tide_batch_free(batch);
	test_pipeline_free(&in);
	test_pipeline_free(&out);
	test_server_free(&server);
}

static void
publish_raw(TestServer *server, const char *subject, const char *header, const char *value,
			const char *body)
{
	json_t *config = json_pack("{s:o}", "url", json_sprintf("nats://127.0.0.1:%d", server->port));
	TideNats *nats;
	natsMsg *msg;

	ASSERT_OK(tide_nats_open(config, "other", NULL, &nats, &err));
	assert_int_equal(natsMsg_Create(&msg, subject, NULL, body, (int) strlen(body)), NATS_OK);
	if (header != NULL)
		assert_int_equal(natsMsgHeader_Set(msg, header, value), NATS_OK);
	assert_int_equal(natsConnection_PublishMsg(tide_nats_connection(nats), msg), NATS_OK);
	natsMsg_Destroy(msg);
	assert_int_equal(natsConnection_FlushTimeout(tide_nats_connection(nats), 5000), NATS_OK);
	tide_nats_close(nats);
	json_decref(config);
}

/* Other programs' messages, also those that look like the server's own words. */
static void
takes_foreign_messages(void **state)
{
	TestServer server;
	TestPipeline out;
	TestPipeline in;
	TideSink *sink;
	TideSource *source;
	TideBatch *batch = tide_batch_new();

	(void) state;
	test_home_clear();
	test_server_new(&server, NULL, "");
	test_pipeline(&out, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	test_pipeline(&in, "sub", "eu-west", "replicated", SOURCE_CONFIG, server.port,
				  "orders.*.us-east", "eu");
	sink = open_sink(&out);
	publish_raw(&server, "orders.x.us-east", NULL, NULL, "plain text");
	publish_raw(&server, "orders.x.us-east", "Status", "503", "");
	publish_raw(&server, "orders.x.us-east", "Status", "409", "");
	publish_raw(&server, "orders.x.us-east", "Nats-Msg-Id", "mine", "[1]");
	publish_raw(&server, "orders.x.us-east", NULL, NULL, "");
	source = open_source(&in);
	for (long long end = tide_monotonic_ms() + 20000; test_home.n_ids < 5;)
	{
		assert_true(tide_monotonic_ms() < end);
		if (receive(source, batch, 500))
			continue;
		tide_source_nats.close(source);
		source = open_source(&in);
	}
	assert_string_equal(test_home.ids[3], "mine");
	tide_source_nats.close(source);
	tide_sink_nats.close(sink);
	tide_batch_free(batch);
	test_pipeline_free(&in);
	test_pipeline_free(&out);
	test_server_free(&server);
}

static void
notices_deleted_consumers_and_streams(void **state)
{
	TestServer server;
	TestPipeline out;
	TestPipeline in;
	TideSource *source;
	TideBatch *batch = tide_batch_new();
	long long began;

	(void) state;
	test_home_clear();
	test_server_new(&server, NULL, "");
	test_pipeline(&out, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	test_pipeline(&in, "sub", "eu-west", "replicated", SOURCE_CONFIG, server.port,
				  "orders.*.us-east", "eu");
	publish_range(&out, "us-east", 0, 100);
	source = open_source(&in);
	ASSERT_OK(receive(source, batch, 2000));

	api(&server, "CONSUMER.DELETE.ORDERS.eu", NULL);
	began = tide_monotonic_ms();
	while (receive(source, batch, 500))
		assert_true(tide_monotonic_ms() - began < 6000);
	assert_int_equal(err.class, TIDE_ERR_UNAVAILABLE);
	tide_source_nats.close(source);
	source = open_source(&in);
	publish_range(&out, "us-east", 100, 100);
	receive_until(source, batch, 200, 20000);

	api(&server, "STREAM.DELETE.ORDERS", NULL);
	began = tide_monotonic_ms();
	while (receive(source, batch, 500))
		assert_true(tide_monotonic_ms() - began < 8000);
	assert_int_equal(err.class, TIDE_ERR_UNAVAILABLE);
	tide_source_nats.close(source);

	/* Made again by the other side, it is read from its beginning. */
	source = open_source(&in);
	publish_range(&out, "us-east", 200, 100);
	began = tide_monotonic_ms();
	receive_until(source, batch, 300, 10000);
	assert_complete_and_ordered(300);
	tide_source_nats.close(source);
	tide_batch_free(batch);
	test_pipeline_free(&in);
	test_pipeline_free(&out);
	test_server_free(&server);
}

static void
stops_within_a_moment(void **state)
{
	TestServer server;
	TestPipeline in;
	TideSource *source;
	TideBatch *batch = tide_batch_new();
	long long began;

	(void) state;
	test_home_clear();
	test_server_new(&server, NULL, "");
	test_pipeline(&in, "sub", "eu-west", "replicated", SOURCE_CONFIG, server.port,
				  "orders.*.us-east", "eu");
	source = open_source(&in);
	tide_stop_request(in.info.stop);
	began = tide_monotonic_ms();
	assert_false(receive(source, batch, 5000));
	assert_int_equal(err.class, TIDE_ERR_STOPPED);
	assert_true(tide_monotonic_ms() - began < 300);
	tide_source_nats.close(source);
	tide_batch_free(batch);
	test_pipeline_free(&in);
	test_server_free(&server);
}

/*
 * Two regions
 */

static void
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

static void
finds_the_other_region_by_itself(void **state)
{
	TestServer us;
	TestServer eu;
	TestPipeline out;
	TestPipeline in;
	TideSource *source;
	TideSink *sink;
	TideBatch *batch = tide_batch_new();
	long long began;
	json_t *config;

	(void) state;
	test_home_clear();
	two_regions(&us, &eu);
	test_pipeline(&out, "pub", "us-east", "order_events", SINK_CONFIG, us.port,
				  "orders.{op}.us-east");
	test_pipeline(&in, "sub", "eu-west", "replicated", SOURCE_CONFIG, eu.port, "orders.*.us-east",
				  "eu");

	/* The inbound side comes first and has to wait until somebody publishes. */
	source = open_source(&in);
	ASSERT_OK(receive(source, batch, 300));
	publish_range(&out, "us-east", 0, 200);
	sink = open_sink(&out); /* answers who it is */
	began = tide_monotonic_ms();
	receive_until(source, batch, 200, 20000);
	assert_complete_and_ordered(200);
	config = stream_config(&eu, "ORDERS");
	assert_int_equal(json_array_size(json_object_get(config, "subjects")), 0);
	assert_int_equal(json_array_size(json_object_get(config, "sources")), 1);
	json_decref(config);

	/* An outbound pipeline of the same region adds its own subject to that stream. */
	TestPipeline back;
	TideSink *back_sink;

	test_pipeline(&back, "pub", "eu-west", "order_events", SINK_CONFIG, eu.port,
				  "orders.{op}.eu-west");
	back_sink = open_sink(&back);
	config = stream_config(&eu, "ORDERS");
	assert_int_equal(json_array_size(json_object_get(config, "subjects")), 1);
	assert_int_equal(json_array_size(json_object_get(config, "sources")), 1);
	json_decref(config);

	/* The link dies with its server; both go on after it is back. */
	test_server_kill(&us);
	tide_sink_nats.close(sink);
	test_server_start(&us);
	publish_range(&out, "us-east", 200, 200);
	began = tide_monotonic_ms();
	receive_until(source, batch, 400, 60000);
	print_message("resumed %lld ms after the other region's server was back\n",
				  tide_monotonic_ms() - began);
	assert_complete_and_ordered(400);
	tide_source_nats.close(source);
	tide_sink_nats.close(back_sink);
	tide_batch_free(batch);
	test_pipeline_free(&back);
	test_pipeline_free(&in);
	test_pipeline_free(&out);
	test_server_free(&us);
	test_server_free(&eu);
}

/* Servers before 2.10 refuse that in one step; nothing may be lost or refused meanwhile. */
static void
changes_streams_that_have_both(void **state)
{
	TestServer us;
	TestServer eu;
	TestPipeline out;
	TestPipeline back;
	TestPipeline more;
	TestPipeline in;
	TideSink *sink;
	TideSink *back_sink;
	TideSink *more_sink;
	TideSource *source;
	TideBatch *batch = tide_batch_new();
	TideBatch *got = tide_batch_new();
	json_t *config;

	(void) state;
	test_home_clear();
	two_regions(&us, &eu);
	test_pipeline(&out, "pub", "us-east", "order_events", SINK_CONFIG, us.port,
				  "orders.{op}.us-east");
	test_pipeline(&back, "pub", "eu-west", "order_events", SINK_CONFIG, eu.port,
				  "orders.{op}.eu-west");
	test_pipeline(&more, "bills", "eu-west", "bills", SINK_CONFIG, eu.port, "bills.eu-west");
	test_pipeline(&in, "sub", "eu-west", "replicated", SOURCE_CONFIG, eu.port, "orders.*.us-east",
				  "eu");
	sink = open_sink(&out);
	back_sink = open_sink(&back);
	make_batch(batch, "eu-west", 1000000, 1000);
	ASSERT_OK(tide_sink_nats.start(back_sink, batch, &err));
	source = open_source(&in); /* adds a source while events are on their way */
	ASSERT_OK(tide_sink_nats.finish(back_sink, batch, &err));

	/* Once it flows, a subject is added while the other region publishes. */
	make_batch(batch, "us-east", 0, 1000);
	ASSERT_OK(deliver(sink, batch));
	receive_until(source, got, 1000, 20000);
	make_batch(batch, "us-east", 1000, 5000);
	ASSERT_OK(tide_sink_nats.start(sink, batch, &err));
	more_sink = open_sink(&more);
	ASSERT_OK(tide_sink_nats.finish(sink, batch, &err));
	receive_until(source, got, 6000, 60000);
	assert_complete_and_ordered(6000);
	config = stream_config(&eu, "ORDERS");
	assert_int_equal(json_array_size(json_object_get(config, "subjects")), 2);
	assert_int_equal(json_array_size(json_object_get(config, "sources")), 1);
	json_decref(config);
	tide_source_nats.close(source);
	tide_sink_nats.close(sink);
	tide_sink_nats.close(back_sink);
	tide_sink_nats.close(more_sink);
	tide_batch_free(batch);
	tide_batch_free(got);
	test_pipeline_free(&in);
	test_pipeline_free(&more);
	test_pipeline_free(&back);
	test_pipeline_free(&out);
	test_server_free(&us);
	test_server_free(&eu);
}

static void
sources_from_the_peer_domain_named(void **state)
{
	TestServer us;
	TestServer eu;
	TestPipeline out;
	TestPipeline in;
	TideSource *source = NULL;
	TideSink *sink;
	json_t *config;

	(void) state;
	test_home_clear();
	two_regions(&us, &eu);
	test_pipeline(&in, "sub", "eu-west", "replicated",
				  "{\"source_type\":\"nats\",\"url\":"
				  "\"nats://127.0.0.1:%d\",\"stream\":\"ORDERS\",\"subject\":\"orders.*.us-east\","
				  "\"durable_name\":\"eu\",\"peer_domain\":\"us-east\"}",
				  eu.port);
	source = open_source(&in);
	config = stream_config(&eu, "ORDERS");
	assert_int_equal(json_array_size(json_object_get(config, "sources")), 1);
	json_decref(config);
	tide_source_nats.close(source);
	test_pipeline_free(&in);

	/* What would go round in circles is refused, naming it. */
	test_pipeline(&out, "pub", "eu-west", "order_events", SINK_CONFIG, eu.port,
				  "orders.{op}.{key}");
	assert_false(tide_sink_nats.open(&out.info, &sink, &err));
	assert_int_equal(err.class, TIDE_ERR_CONFIG);
	assert_non_null(strstr(err.message, "circles"));
	test_pipeline_free(&out);
	test_server_free(&us);
	test_server_free(&eu);
}

/* One thread plays both sides, so the answer needs the source's finish() in between. */
static void
tells_what_the_inbox_has(void **state)
{
	TestServer server;
	TestPipeline out;
	TestPipeline in;
	TideSink *sink;
	TideSource *source;
	TideBatch *batch = tide_batch_new();
	TideBatch *ids = tide_batch_new();
	TideArena *arena = tide_arena_new();
	TideAnswer answer = {0};
	bool got = false;

	(void) state;
	test_home_clear();
	test_server_new(&server, NULL, "");
	test_pipeline(&out, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	test_pipeline(&in, "sub", "eu-west", "replicated", SOURCE_CONFIG, server.port,
				  "orders.*.us-east", "eu");
	sink = open_sink(&out);
	make_batch(ids, "us-east", 0, 4096);
	ids->events[7].id = test_slice(ids->arena, "not a uuid");
	ids->position = test_slice(ids->arena, "here");

	/* Nobody is there: no answer and no error. */
	ASSERT_OK(tide_sink_nats.ask(sink, ids, &err));
	ASSERT_OK(tide_sink_nats.answer(sink, arena, &answer, &got, 200, &err));
	assert_false(got);

	source = open_source(&in);
	publish_range(&out, "us-east", 0, 10);
	receive_until(source, batch, 10, 20000);
	ASSERT_OK(tide_sink_nats.ask(sink, ids, &err));
	for (int i = 0; i < 100 && !got; i++)
	{
		ASSERT_OK(receive(source, batch, 50));
		ASSERT_OK(tide_sink_nats.answer(sink, arena, &answer, &got, 10, &err));
	}
	assert_true(got);
	assert_string_equal(answer.region.ptr, "eu-west");
	assert_string_equal(answer.position.ptr, "here");
	assert_int_equal(answer.n_missing, 4096 - 9);
	assert_int_equal(answer.pending, 0);
	tide_source_nats.close(source);
	tide_sink_nats.close(sink);
	tide_arena_free(arena);
	tide_batch_free(ids);
	tide_batch_free(batch);
	test_pipeline_free(&in);
	test_pipeline_free(&out);
	test_server_free(&server);
}

/*
 * Failing to connect
 */

static void
names_what_is_wrong_with_the_connection(void **state)
{
	TestServer server;
	TestPipeline p;
	TideSink *sink = NULL;

	(void) state;
	test_pipeline(&p, "pub", "us-east", "order_events", SINK_CONFIG, test_free_port(),
				  "orders.{op}.us-east");
	assert_false(tide_sink_nats.open(&p.info, &sink, &err));
	assert_int_equal(err.class, TIDE_ERR_UNAVAILABLE);
	test_pipeline_free(&p);

	test_server_new(&server, NULL, "authorization { user: a, password: b }\n");
	test_pipeline(&p, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	assert_false(tide_sink_nats.open(&p.info, &sink, &err));
	assert_int_equal(err.class, TIDE_ERR_AUTH);
	test_pipeline_free(&p);
	setenv("TIDE_TEST_SECRET", "b", 1);
	test_pipeline(&p, "pub", "us-east", "order_events",
				  "{\"sink_type\":\"nats\","
				  "\"url\":\"nats://127.0.0.1:%d\",\"stream\":\"ORDERS\",\"user\":\"a\","
				  "\"password\":\"env:TIDE_TEST_SECRET\"}",
				  server.port);
	ASSERT_OK(tide_sink_nats.open(&p.info, &sink, &err));
	tide_sink_nats.close(sink);
	test_pipeline_free(&p);
	test_server_kill(&server);

	/* May log in but not ask JetStream. */
	snprintf(
		server.extra, sizeof(server.extra),
		"jetstream { store_dir: \"%s/js\" }\n"
		"authorization { users: [ { user: a, password: b, permissions: { publish: \"x\" } } ] }\n",
		server.dir);
	test_server_start(&server);
	test_pipeline(&p, "pub", "us-east", "order_events",
				  "{\"sink_type\":\"nats\","
				  "\"url\":\"nats://127.0.0.1:%d\",\"stream\":\"ORDERS\",\"user\":\"a\","
				  "\"password\":\"env:TIDE_TEST_SECRET\"}",
				  server.port);
	assert_false(tide_sink_nats.open(&p.info, &sink, &err));
	assert_int_equal(err.class, TIDE_ERR_PERMISSION);
	test_pipeline_free(&p);
	test_server_kill(&server);

	/* No JetStream. */
	snprintf(server.extra, sizeof(server.extra), "debug: false\n");
	test_server_start(&server);
	test_pipeline(&p, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	assert_false(tide_sink_nats.open(&p.info, &sink, &err));
	assert_non_null(strstr(err.hint, "jetstream"));
	test_pipeline_free(&p);
	test_server_free(&server);
}

/* Processor time of this process and of the server, in microseconds. */
static double
cpu_us(const TestServer *server)
{
	char path[64];
	FILE *f;
	unsigned long user = 0;
	unsigned long sys = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int) server->pid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(
		fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys), 2);
	fclose(f);
	return (double) (user + sys) * 1e6 / (double) sysconf(_SC_CLK_TCK);
}

static double
own_cpu_us(void)
{
	return (double) clock() * 1e6 / CLOCKS_PER_SEC;
}

/*
 * Not a test: "relay_nats_live speed" prints how fast both ends are.
 */
static int
speed(void)
{
	const int total = 300000;
	TestServer server;
	TestPipeline out;
	TestPipeline in;
	TideSink *sink;
	TideSource *source;
	TideBatch *batch = tide_batch_new();
	char payload[501];
	long long spent = 0;
	long long began;
	int got = 0;
	double own;
	double served;

	test_server_new(&server, NULL, "");
	test_pipeline(&out, "pub", "us-east", "order_events", SINK_CONFIG, server.port,
				  "orders.{op}.us-east");
	test_pipeline(&in, "sub", "eu-west", "replicated",
				  "{\"source_type\":\"nats\",\"url\":"
				  "\"nats://127.0.0.1:%d\",\"stream\":\"ORDERS\",\"subject\":\"orders.*.us-east\","
				  "\"durable_name\":\"eu\"}",
				  server.port);
	sink = open_sink(&out);
	own = own_cpu_us();
	served = cpu_us(&server);
	memset(payload, 'x', sizeof(payload));
	payload[0] = payload[499] = '"';
	payload[500] = '\0';
	for (int i = 0; i < total; i += 2000)
	{
		make_batch(batch, "us-east", i, 2000);
		for (int k = 0; k < 2000; k++)
			batch->events[k].payload = (TideSlice){payload, 500};
		began = tide_wall_us();
		ASSERT_OK(deliver(sink, batch));
		spent += tide_wall_us() - began;
	}
	printf("sink: %.0f events/s (batches of 2000, %d bytes); CPU per event %.1f us here, %.1f us"
		   " in the server\n",
		   total * 1e6 / (double) spent, 500, (own_cpu_us() - own) / total,
		   (cpu_us(&server) - served) / total);
	began = tide_wall_us();
	for (int i = 0; i < 1000; i++)
	{
		make_batch(batch, "us-east", total + i, 1);
		ASSERT_OK(deliver(sink, batch));
	}
	printf("sink, one at a time: %.0f us\n", (double) (tide_wall_us() - began) / 1000);
	source = open_source(&in);
	own = own_cpu_us();
	served = cpu_us(&server);
	began = tide_wall_us();
	while (got < total)
	{
		tide_batch_reset(batch);
		ASSERT_OK(tide_source_nats.start(source, &err) &&
				  tide_source_nats.finish(source, batch, 2000, &err) &&
				  tide_source_nats.confirm(source, batch, &err));
		got += (int) batch->n_events;
	}
	printf("source: %.0f events/s; CPU per event %.1f us here, %.1f us in the server\n",
		   total * 1e6 / (double) (tide_wall_us() - began), (own_cpu_us() - own) / total,
		   (cpu_us(&server) - served) / total);
	tide_source_nats.close(source);
	tide_sink_nats.close(sink);
	tide_batch_free(batch);
	test_pipeline_free(&in);
	test_pipeline_free(&out);
	test_server_free(&server);
	return 0;
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(creates_a_stream_no_wider_than_the_template),
		cmocka_unit_test(leaves_foreign_streams_alone),
		cmocka_unit_test(refuses_memory_streams),
		cmocka_unit_test(publishes_and_recognises_duplicates),
		cmocka_unit_test(rejects_single_events),
		cmocka_unit_test(a_full_stream_throttles),
		cmocka_unit_test(a_stale_lease_stops_publishing),
		cmocka_unit_test(a_deleted_stream_is_noticed_and_made_again),
		cmocka_unit_test(reads_in_order_and_goes_on_where_it_was),
		cmocka_unit_test(keeps_order_through_kills),
		cmocka_unit_test(notices_a_lost_message),
		cmocka_unit_test(takes_foreign_messages),
		cmocka_unit_test(notices_deleted_consumers_and_streams),
		cmocka_unit_test(stops_within_a_moment),
		cmocka_unit_test(finds_the_other_region_by_itself),
		cmocka_unit_test(changes_streams_that_have_both),
		cmocka_unit_test(sources_from_the_peer_domain_named),
		cmocka_unit_test(tells_what_the_inbox_has),
		cmocka_unit_test(names_what_is_wrong_with_the_connection),
	};
	int failed;

	if (!test_have_server())
	{
		printf("1..0 # SKIP no nats-server in PATH\n");
		return 0;
	}
	tide_home = &test_home_ops;
	if (argc > 1 && strcmp(argv[1], "speed") == 0)
		return speed();
	failed = cmocka_run_group_tests_name("relay_nats_live", tests, NULL, NULL);
	tide_nats_shutdown();
	return failed;
}
