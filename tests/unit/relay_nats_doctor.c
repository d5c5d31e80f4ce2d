/*
 * relay_nats_doctor.c
 *		What the doctor finds at real NATS servers, set up well and badly.
 *
 * Owns: one case per set-up.  Does not own: how findings are shown.
 */
#include "nats_pipeline_test.h"

#include "doctor_internal.h"

#define OUT                                                                          \
	"{\"sink_type\":\"nats\",\"url\":\"nats://127.0.0.1:%d\",\"stream\":\"ORDERS\"," \
	"\"subject_template\":\"orders.{op}.%s\"}"
#define IN                                                                             \
	"{\"source_type\":\"nats\",\"url\":\"nats://127.0.0.1:%d\",\"stream\":\"ORDERS\"," \
	"\"subject\":\"orders.*.%s\",\"durable_name\":\"d\"}"

static TideDoctor doctor;

/* Examines the pipeline as the doctor of that region. */
static void
examine(TestPipeline *p, const char *direction)
{
	if (doctor.arena == NULL)
		doctor.arena = tide_arena_new();
	tide_arena_reset(doctor.arena);
	doctor.first = doctor.last = NULL;
	json_decref(doctor.status);
	doctor.status = json_pack("{s:s}", "region", p->info.region);
	tide_doctor_check_nats(&doctor, p->info.name, direction, p->info.target, p->info.config);
}

static const TideFinding *
finding(const char *check)
{
	for (const TideFinding *f = doctor.first; f != NULL; f = f->next)
	{
		if (strcmp(f->check, check) == 0)
			return f;
	}
	return NULL;
}

static bool
found_at(TideDoctorLevel level, const char *check)
{
	const TideFinding *f = finding(check);

	return f != NULL && f->level == level;
}

static void
assert_finds(TideDoctorLevel level, const char *check, const char *setting)
{
	const TideFinding *f = finding(check);

	if (f == NULL)
		fail_msg("%s was not found", check);
	assert_int_equal(f->level, level);
	if (strstr(f->message, setting) == NULL &&
		strstr(f->hint != NULL ? f->hint : "", setting) == NULL)
		fail_msg("%s does not name %s: %s", check, setting, f->message);
}

static void
assert_well(void)
{
	for (const TideFinding *f = doctor.first; f != NULL; f = f->next)
	{
		if (f->level == TIDE_DOCTOR_WARN || f->level == TIDE_DOCTOR_ERROR)
			fail_msg("%s: %s", f->check, f->message);
	}
	assert_non_null(doctor.first);
}

static void
a_good_set_up_is_well(void **state)
{
	TestServer us;
	TestServer eu;
	TestPipeline us_out;
	TestPipeline eu_out;
	TestPipeline eu_in;
	TideSink *sink[2];
	TideSource *source = NULL;
	TideBatch *batch = tide_batch_new();
	long long end;

	(void) state;
	test_home_clear();
	two_regions(&us, &eu);
	test_pipeline(&us_out, "us-out", "us-east", "order_events", OUT, us.port, "us-east");
	test_pipeline(&eu_out, "eu-out", "eu-west", "order_events", OUT, eu.port, "eu-west");
	test_pipeline(&eu_in, "eu-in", "eu-west", "replicated", IN, eu.port, "us-east");
	ASSERT_OK(tide_sink_nats.open(&us_out.info, &sink[0], &err));
	ASSERT_OK(tide_sink_nats.open(&eu_out.info, &sink[1], &err));
	ASSERT_OK(tide_source_nats.open(&eu_in.info, &source, &err));

	/* Until the source has been heard of for the first time, that is a finding. */
	end = tide_monotonic_ms() + 30000;
	do
	{
		ASSERT_OK(tide_source_nats.finish(source, batch, 200, &err));
		examine(&eu_in, "inbox");
	}
	while ((finding("nats.source") || finding("nats.source_silent")) && tide_monotonic_ms() < end);
	assert_well();
	assert_finds(TIDE_DOCTOR_NOTE, "nats.sync", "sync_interval");
	assert_finds(TIDE_DOCTOR_NOTE, "nats.replicas", "num_replicas");
	examine(&us_out, "outbox");
	assert_well();

	/* The other region's server goes away. */
	test_server_kill(&us);
	TEST_WAIT((examine(&eu_in, "inbox"), finding("nats.source_silent")), 30000);
	assert_finds(TIDE_DOCTOR_WARN, "nats.source_silent", "us-east");
	tide_sink_nats.close(sink[0]);
	tide_sink_nats.close(sink[1]);
	tide_source_nats.close(source);
	tide_batch_free(batch);
	test_pipeline_free(&us_out);
	test_pipeline_free(&eu_out);
	test_pipeline_free(&eu_in);
	test_server_free(&us);
	test_server_free(&eu);
}

/* What a naive reader of the tutorial would build: both streams on orders.>, nothing sourced. */
static void
wide_subjects_are_found(void **state)
{
	TestServer us;
	TestServer eu;
	TestPipeline us_out;
	TestPipeline eu_in;
	TideSink *sink = NULL;

	(void) state;
	two_regions(&us, &eu);
	api(&us, "STREAM.CREATE.ORDERS",
		json_pack("{s:s, s:[s], s:s}", "name", "ORDERS", "subjects", "orders.>", "storage",
				  "file"));
	api(&eu, "STREAM.CREATE.ORDERS",
		json_pack("{s:s, s:[s], s:s}", "name", "ORDERS", "subjects", "orders.>", "storage",
				  "file"));
	test_pipeline(&us_out, "us-out", "us-east", "order_events", OUT, us.port, "us-east");
	test_pipeline(&eu_in, "eu-in", "eu-west", "replicated", IN, eu.port, "us-east");
	ASSERT_OK(tide_sink_nats.open(&us_out.info, &sink, &err));
	TEST_WAIT((examine(&eu_in, "inbox"), finding("nats.wide_subjects")), 10000);
	assert_finds(TIDE_DOCTOR_ERROR, "nats.wide_subjects", "subjects");
	tide_sink_nats.close(sink);
	test_pipeline_free(&us_out);
	test_pipeline_free(&eu_in);
	test_server_free(&us);
	test_server_free(&eu);
}

static void
one_jetstream_for_two_regions_is_found(void **state)
{
	TestServer server;
	TestPipeline us_out;
	TestPipeline eu_in;
	TideSink *sink = NULL;

	(void) state;
	test_server_new(&server, NULL, "");
	test_pipeline(&us_out, "us-out", "us-east", "order_events", OUT, server.port, "us-east");
	test_pipeline(&eu_in, "eu-in", "eu-west", "replicated", IN, server.port, "us-east");
	ASSERT_OK(tide_sink_nats.open(&us_out.info, &sink, &err));
	/* Who is there has a moment to answer; on a busy machine that can be too short. */
	TEST_WAIT((examine(&eu_in, "inbox"), found_at(TIDE_DOCTOR_WARN, "nats.domain")), 30000);
	assert_finds(TIDE_DOCTOR_WARN, "nats.domain", "domain");
	tide_sink_nats.close(sink);

	/* Nobody else there: only a note. */
	TEST_WAIT((examine(&eu_in, "inbox"), found_at(TIDE_DOCTOR_NOTE, "nats.domain")), 30000);
	assert_finds(TIDE_DOCTOR_NOTE, "nats.domain", "domain");
	test_pipeline_free(&us_out);
	test_pipeline_free(&eu_in);
	test_server_free(&server);
}

/* The tutorial's gateways, with what it takes to make such servers start at all. */
static void
gateway_server(TestServer *server, const char *region, int gateway, const char *peer,
			   int peer_gateway)
{
	char more[900];
	int route = test_free_port();

	snprintf(
		more, sizeof(more),
		"server_name: %s\n"
		"cluster { name: \"%s\", listen: \"127.0.0.1:%d\", routes: [ \"nats://127.0.0.1:%d\" ] }\n"
		"gateway { name: \"%s\", listen: \"127.0.0.1:%d\", gateways: [ { name: \"%s\","
		" urls: [ \"nats://127.0.0.1:%d\" ] } ] }\n",
		region, region, route, route, region, gateway, peer, peer_gateway);
	test_server_new(server, NULL, more);
}

static bool
try_create(TestServer *server)
{
	json_t *config = json_pack("{s:o}", "url", json_sprintf("nats://127.0.0.1:%d", server->port));
	json_t *body = json_pack("{s:s, s:[s, s], s:s}", "name", "ORDERS", "subjects",
							 "orders.*.us-east", "orders.*.eu-west", "storage", "file");
	TideNats *nats = NULL;
	TideJs *js = NULL;
	bool ok;

	ok = tide_nats_open(config, "test", NULL, &nats, &err) && tide_js_open(nats, NULL, &js, &err) &&
		 tide_js_request(js, "STREAM.CREATE.ORDERS", body, NULL, &err);
	tide_js_close(js);
	tide_nats_close(nats);
	json_decref(config);
	json_decref(body);
	return ok;
}

static void
a_stream_shared_over_a_gateway_is_found(void **state)
{
	TestServer us;
	TestServer eu;
	TestPipeline in;
	int us_gateway = test_free_port();
	int eu_gateway = test_free_port();

	(void) state;
	gateway_server(&us, "us-east", us_gateway, "eu-west", eu_gateway);
	gateway_server(&eu, "eu-west", eu_gateway, "us-east", us_gateway);
	test_pipeline(&in, "eu-in", "eu-west", "replicated", IN, eu.port, "us-east");
	TEST_WAIT(try_create(&us), 60000);
	TEST_WAIT((examine(&in, "inbox"), finding("nats.gateway")), 20000);
	assert_finds(TIDE_DOCTOR_ERROR, "nats.gateway", "domain");
	test_pipeline_free(&in);
	test_server_free(&us);
	test_server_free(&eu);
}

static void
bad_settings_are_found(void **state)
{
	TestServer server;
	TestPipeline out;
	TestPipeline in;

	(void) state;
	test_server_new(&server, "us-east", "max_payload: 65536\n");
	test_pipeline(&out, "us-out", "us-east", "order_events", OUT, server.port, "us-east");
	test_pipeline(&in, "us-in", "us-east", "replicated", IN, server.port, "eu-west");
	examine(&out, "outbox");
	assert_finds(TIDE_DOCTOR_WARN, "nats.stream", "ORDERS");
	assert_finds(TIDE_DOCTOR_NOTE, "nats.max_payload", "max_payload");

	api(&server, "STREAM.CREATE.ORDERS",
		json_pack("{s:s, s:[s], s:s, s:s, s:I, s:I, s:s}", "name", "ORDERS", "subjects",
				  "orders.*.asia", "storage", "memory", "discard", "old", "max_bytes",
				  (json_int_t) 1000000, "duplicate_window", (json_int_t) 1000000000, "retention",
				  "interest"));
	api(&server, "CONSUMER.DURABLE.CREATE.ORDERS.d",
		json_pack("{s:s, s:{s:s, s:s, s:s}}", "stream_name", "ORDERS", "config", "durable_name",
				  "d", "ack_policy", "explicit", "filter_subject", "orders.x.asia"));
	examine(&out, "outbox");
	assert_finds(TIDE_DOCTOR_ERROR, "nats.subjects", "orders.*.us-east");
	assert_finds(TIDE_DOCTOR_ERROR, "nats.storage", "storage");
	assert_finds(TIDE_DOCTOR_WARN, "nats.discard", "discard");
	assert_finds(TIDE_DOCTOR_WARN, "nats.duplicate_window", "duplicate_window");
	assert_finds(TIDE_DOCTOR_WARN, "nats.retention", "retention");
	examine(&in, "inbox");
	assert_finds(TIDE_DOCTOR_ERROR, "nats.source", "peer_domain");
	assert_finds(TIDE_DOCTOR_ERROR, "nats.consumer_filter", "durable_name");

	test_server_kill(&server);
	examine(&in, "inbox");
	assert_finds(TIDE_DOCTOR_ERROR, "nats.connect", "url");
	test_pipeline_free(&out);
	test_pipeline_free(&in);
	test_server_free(&server);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_set_up_is_well),
		cmocka_unit_test(wide_subjects_are_found),
		cmocka_unit_test(one_jetstream_for_two_regions_is_found),
		cmocka_unit_test(a_stream_shared_over_a_gateway_is_found),
		cmocka_unit_test(bad_settings_are_found),
	};
	int failed;

	if (!test_have_server())
	{
		printf("1..0 # SKIP no nats-server in PATH\n");
		return 0;
	}
	tide_home = &test_home_ops;
	failed = cmocka_run_group_tests_name("relay_nats_doctor", tests, NULL, NULL);
	tide_nats_shutdown();
	return failed;
}
