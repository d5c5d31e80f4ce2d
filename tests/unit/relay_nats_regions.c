/*
 * relay_nats_regions.c
 *		Two JetStream domains joined by a leaf node: how the ends find each other.
 *
 * Owns: sourcing between regions, and the questions relays ask each other.
 */
#include "nats_pipeline_test.h"

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

/* The region's own stream is there, the other region is not: that is no failure. */
static void
waits_for_a_region_that_is_not_there_yet(void **state)
{
	TestServer us;
	TestServer eu;
	TestPipeline out;
	TestPipeline back;
	TestPipeline in;
	TideSink *sink;
	TideSink *back_sink;
	TideSource *source = NULL;
	TideBatch *batch = tide_batch_new();
	long long began;
	int turns = 0;

	(void) state;
	test_home_clear();
	two_regions(&us, &eu);
	test_pipeline(&out, "pub", "us-east", "order_events", SINK_CONFIG, us.port,
				  "orders.{op}.us-east");
	test_pipeline(&back, "pub", "eu-west", "order_events", SINK_CONFIG, eu.port,
				  "orders.{op}.eu-west");
	test_pipeline(&in, "sub", "eu-west", "replicated", SOURCE_CONFIG, eu.port, "orders.*.us-east",
				  "eu");
	back_sink = open_sink(&back);
	ASSERT_OK(tide_source_nats.open(&in.info, &source, &err));
	began = tide_monotonic_ms();
	while (tide_monotonic_ms() - began < 2500)
	{
		ASSERT_OK(receive(source, batch, 100));
		turns++;
	}
	assert_in_range(turns, 15, 26); /* it waits, and does so without being busy */
	sink = open_sink(&out);
	make_batch(batch, "us-east", 0, 100);
	ASSERT_OK(deliver(sink, batch));
	receive_until(source, batch, 100, 20000);
	assert_complete_and_ordered(100);
	tide_source_nats.close(source);
	tide_sink_nats.close(sink);
	tide_sink_nats.close(back_sink);
	tide_batch_free(batch);
	test_pipeline_free(&in);
	test_pipeline_free(&back);
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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_other_region_by_itself),
		cmocka_unit_test(waits_for_a_region_that_is_not_there_yet),
		cmocka_unit_test(changes_streams_that_have_both),
		cmocka_unit_test(sources_from_the_peer_domain_named),
		cmocka_unit_test(tells_what_the_inbox_has),
	};
	int failed;

	if (!test_have_server())
	{
		printf("1..0 # SKIP no nats-server in PATH\n");
		return 0;
	}
	tide_home = &test_home_ops;
	failed = cmocka_run_group_tests_name("relay_nats_regions", tests, NULL, NULL);
	tide_nats_shutdown();
	return failed;
}
