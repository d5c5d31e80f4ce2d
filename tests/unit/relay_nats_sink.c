/*
 * relay_nats_sink.c
 *		The NATS sink against real servers: streams, windows, refusals.
 *
 * Owns: cases that publish.  Does not own: the form of messages
 * (relay_nats_message.c).
 */
#include "nats_pipeline_test.h"

static const char *
text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

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

int
main(void)
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
		cmocka_unit_test(names_what_is_wrong_with_the_connection),
	};
	int failed;

	if (!test_have_server())
	{
		printf("1..0 # SKIP no nats-server in PATH\n");
		return 0;
	}
	tide_home = &test_home_ops;
	failed = cmocka_run_group_tests_name("relay_nats_sink", tests, NULL, NULL);
	tide_nats_shutdown();
	return failed;
}
