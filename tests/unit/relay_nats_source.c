/*
 * relay_nats_source.c
 *		The NATS source against real servers: order, positions, faults.
 *
 * Owns: cases that read, and a measurement of both ends ("relay_nats_source
 * speed").  Does not own: two regions (relay_nats_regions.c).
 */
#include "nats_pipeline_test.h"

#include <time.h>

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

/* Processor time of this process and of the server, in microseconds. */
static double
cpu_us(const TestServer *server)
{
	char path[64];
	char line[1024];
	char *p;
	FILE *f;
	double ticks = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int) server->pid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	p = strrchr(line, ')'); /* the fields after the name are numbered from 3 */
	for (int field = 3; p != NULL && field <= 15; field++)
	{
		p = strchr(p + 1, ' ');
		if (p != NULL && field >= 14)
			ticks += strtod(p + 1, NULL);
	}
	return ticks * 1e6 / (double) sysconf(_SC_CLK_TCK);
}

static double
own_cpu_us(void)
{
	return (double) clock() * 1e6 / CLOCKS_PER_SEC;
}

/*
 * Not a test: "relay_nats_source speed" prints how fast both ends are.
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
		cmocka_unit_test(reads_in_order_and_goes_on_where_it_was),
		cmocka_unit_test(keeps_order_through_kills),
		cmocka_unit_test(notices_a_lost_message),
		cmocka_unit_test(takes_foreign_messages),
		cmocka_unit_test(notices_deleted_consumers_and_streams),
		cmocka_unit_test(stops_within_a_moment),
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
	failed = cmocka_run_group_tests_name("relay_nats_source", tests, NULL, NULL);
	tide_nats_shutdown();
	return failed;
}
