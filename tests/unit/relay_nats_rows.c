/*
 * relay_nats_rows.c
 *		Tests of frames of rows on NATS: labels and parts, and a link's reading of a stream
 *		on real servers, with the publisher played by the test.
 */
#include "nats_test.h"

#include "link_internal.h"
#include "nats_consumer.h"
#include "nats_mailbox.h"
#include "nats_rows.h"
#include "rows_send.h"
#include "tide_frame.h"
#include "tide_subject.h"

#define ORIGIN "us-east"
#define HERE "eu-west"
#define RUN "1-1-a"

static TideError err;

/* ---- labels and parts ---- */

static natsMsg *
message(const TideRowsLabel *label, const char *data)
{
	natsMsg *msg = NULL;

	assert_int_equal(tide_rows_message(ORIGIN, "s", NULL, label, data, strlen(data), &msg),
					 NATS_OK);
	return msg;
}

static TideRowsLabel
label_of(const char *run, uint64_t number, uint64_t start, uint64_t end, uint8_t flags)
{
	TideRowsLabel label = {.number = number, .start = start, .end = end, .flags = flags};

	label.part = label.parts = 1;
	snprintf(label.run, sizeof(label.run), "%s", run);
	return label;
}

static void
labels_survive_the_way(void **state)
{
	TideRowsLabel label = label_of(RUN, 7, UINT64_C(0x123456789a), UINT64_MAX, TIDE_FRAME_OPEN);
	TideRowsLabel read;
	natsMsg *msg;

	(void) state;
	label.part = 3;
	label.parts = 5;
	msg = message(&label, "x");
	assert_true(tide_rows_label(msg, &read));
	assert_string_equal(read.run, RUN);
	assert_int_equal(read.number, 7);
	assert_true(read.start == label.start && read.end == label.end);
	assert_int_equal(read.flags, TIDE_FRAME_OPEN);
	assert_int_equal(read.part, 3);
	assert_int_equal(read.parts, 5);
	natsMsg_Destroy(msg);
}

static void
other_messages_have_none(void **state)
{
	static const char *const wrong[] = {
		"",
		"r",
		"r 1 0/1",
		"r x 0/1 0/2 0",
		"r 1 0/1 0/2 999",
		"r 1 0/1 0/2",
		"r 1 zz 0/2 0",
		"r  1 0/1 0/2 0",
		"r 1 0/1 0/2 -1",
	};
	TideRowsLabel label;

	(void) state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		natsMsg *msg = NULL;

		assert_int_equal(natsMsg_Create(&msg, "s", NULL, "x", 1), NATS_OK);
		assert_int_equal(natsMsgHeader_Set(msg, "Tide-Frame", wrong[i]), NATS_OK);
		if (tide_rows_label(msg, &label))
			fail_msg("\"%s\" was taken for a label", wrong[i]);
		assert_int_equal(label.parts, 0);
		natsMsg_Destroy(msg);
	}
}

static bool
add(TideRowsParts *parts, uint64_t number, uint32_t part, uint32_t n, const char *data)
{
	TideRowsLabel label = label_of(RUN, number, 1, 2, 0);
	natsMsg *msg;
	bool whole;

	label.part = part;
	label.parts = n;
	msg = message(&label, data);
	assert_true(tide_rows_add_part(parts, &label, msg, &whole, &err));
	natsMsg_Destroy(msg);
	return whole;
}

static void
frames_are_whole_or_nothing(void **state)
{
	TideRowsParts parts = {0};

	(void) state;
	tide_buf_init(&parts.data);
	assert_true(add(&parts, 1, 1, 1, "one"));
	assert_string_equal(tide_buf_cstr(&parts.data), "one");
	assert_false(add(&parts, 2, 1, 3, "a"));
	assert_false(add(&parts, 2, 2, 3, "b"));
	assert_true(add(&parts, 2, 3, 3, "c"));
	assert_string_equal(tide_buf_cstr(&parts.data), "abc");
	/* One lost, one of another frame, a beginning in the middle. */
	assert_false(add(&parts, 3, 1, 3, "a"));
	assert_false(add(&parts, 3, 3, 3, "c"));
	assert_false(add(&parts, 4, 1, 2, "a"));
	assert_false(add(&parts, 5, 2, 2, "b"));
	assert_false(add(&parts, 6, 2, 2, "b"));
	assert_true(add(&parts, 7, 1, 1, "good"));
	assert_string_equal(tide_buf_cstr(&parts.data), "good");
	tide_buf_free(&parts.data);
}

static void
need_is_told_from_positions(void **state)
{
	TideRowsLabel whole = label_of(RUN, 1, 10, 20, 0);
	TideRowsLabel open = label_of(RUN, 2, 20, 20, TIDE_FRAME_OPEN);
	TideRowsLabel last = label_of(RUN, 3, 20, 30, TIDE_FRAME_CONTINUES);

	(void) state;
	assert_true(tide_rows_needed(&whole, 19));
	assert_false(tide_rows_needed(&whole, 20));
	assert_true(tide_rows_needed(&open, 20));
	assert_false(tide_rows_needed(&open, 30));
	assert_true(tide_rows_needed(&last, 20));
	assert_false(tide_rows_needed(&last, 30));
}

/* A stream for one region has nothing in common with any other, whatever regions are called. */
static void
each_way_has_names_of_its_own(void **state)
{
	json_t *options = json_pack("{s:s}", "stream", "CHOSEN");
	TideRowsStream shared;
	TideRowsStream own;
	char subject[TIDE_ROWS_SUBJECT];

	(void) state;
	tide_rows_stream(options, ORIGIN, NULL, true, &shared);
	tide_rows_stream(options, ORIGIN, HERE, true, &own);
	json_decref(options);
	assert_string_equal(shared.name, "CHOSEN");
	assert_string_equal(own.name, "TIDE_ROWS_us-east+eu-west");
	assert_string_equal(own.subject, "tide.rows.us-east.eu-west.frames");
	assert_true(tide_subject_covers(own.filter, own.subject));
	assert_false(tide_subject_covers(shared.filter, own.subject));
	assert_false(tide_subject_covers(own.filter, shared.subject));
	tide_rows_topic(TIDE_ROWS_CONFIRM, ORIGIN, HERE, subject, sizeof(subject));
	assert_string_equal(subject, "_TIDE.rows.us-east.eu-west.confirm");
	tide_rows_topic(TIDE_ROWS_CONFIRM, ORIGIN, NULL, subject, sizeof(subject));
	assert_string_equal(subject, "_TIDE.rows.us-east.confirm");
}

/* ---- a publisher played by the test ---- */

typedef struct TestOrigin
{
	TestPipeline pipeline;
	TideNats *nats;
	TideJs *js;
	TideRowsStream stream;
	TideMailbox *box;
	TideRowsSend *send;
} TestOrigin;

static void
origin_open(TestOrigin *origin, int port, const char *more)
{
	TideStreamState state;

	test_pipeline(&origin->pipeline, "rows:publish", ORIGIN, ORIGIN,
				  "{\"url\":\"nats://127.0.0.1:%d\"%s}", port, more);
	tide_rows_stream(origin->pipeline.info.config, ORIGIN, NULL, true, &origin->stream);
	ASSERT_OK(tide_nats_open(origin->pipeline.info.config, "origin", NULL, &origin->nats, &err));
	ASSERT_OK(tide_js_open(origin->nats, NULL, &origin->js, &err));
	ASSERT_OK(tide_provision_stream(origin->js, &origin->stream.want, &state, &err));
	tide_stream_clear(&state);
	ASSERT_OK(tide_mailbox_new(origin->nats, &origin->box, &err));
	ASSERT_OK(tide_rows_send_new(&origin->pipeline.info, origin->js, &origin->stream, origin->box,
								 0, &origin->send, &err));
	tide_rows_send_begin(origin->send, RUN);
}

static void
origin_close(TestOrigin *origin)
{
	tide_rows_send_free(origin->send);
	tide_js_close(origin->js);
	tide_nats_close(origin->nats);
	tide_mailbox_free(origin->box);
	test_pipeline_free(&origin->pipeline);
}

/* Works until everything is acknowledged. */
static void
origin_work(TestOrigin *origin)
{
	do
	{
		natsMsg *msg;
		int tag;

		ASSERT_OK(tide_rows_send_turn(origin->send, &err));
		while (tide_mailbox_take(origin->box, &msg, &tag))
		{
			ASSERT_OK(tide_rows_send_answer(origin->send, msg, &err));
			natsMsg_Destroy(msg);
		}
		usleep(500);
	}
	while (tide_rows_send_busy(origin->send) ||
		   atomic_load(&origin->pipeline.metrics.gauges[TIDE_G_IN_FLIGHT]) > 0);
}

/* Publishes a frame with that many bytes of records that mean nothing. */
static void
origin_send(TestOrigin *origin, uint64_t start, uint64_t end, uint8_t flags, size_t bytes)
{
	TideFrameHeader header = {.flags = flags,
							  .start = start,
							  .end = end,
							  .system_id = 1,
							  .timeline = 1,
							  .wal_end = end,
							  .origin = ORIGIN,
							  .origin_len = strlen(ORIGIN)};
	char *records = tide_malloc(bytes + 1);
	TideBuf out;
	TideFrame frame;

	for (size_t i = 0; i < bytes; i++)
		records[i] = (char) (i * 2654435761u >> 13);
	tide_buf_init(&out);
	assert_true(tide_frame_build(&header, records, bytes, 0, &out));
	frame = (TideFrame){.data = out.data,
						.len = out.len,
						.flags = flags,
						.start = start,
						.end = end,
						.raw_bytes = bytes};
	tide_rows_send_start(origin->send, &frame);
	origin_work(origin);
	tide_buf_free(&out);
	free(records);
}

/* ---- a link ---- */

typedef struct TestLink
{
	TidePipeline pipeline;
	TideMetrics metrics;
	TideLink link;
} TestLink;

static void
link_init(TestLink *l, const char *name, int port, const char *more)
{
	char text[600];

	memset(l, 0, sizeof(*l));
	l->pipeline.spec.name = name;
	l->pipeline.spec.metrics = &l->metrics;
	l->pipeline.drain = tide_stop_new();
	l->pipeline.source_info = (TidePipelineInfo){.name = name, .region = HERE};
	snprintf(text, sizeof(text), "{\"url\":\"nats://127.0.0.1:%d\"%s}", port, more);
	l->link.pipeline = &l->pipeline;
	l->link.transport = &tide_transport_nats;
	l->link.spec.region = (char *) ORIGIN;
	l->link.spec.system_id = l->link.spec.timeline = 1;
	l->link.spec.options = json_loads(text, 0, NULL);
	assert_non_null(l->link.spec.options);
}

static void
link_free(TestLink *l)
{
	json_decref(l->link.spec.options);
	tide_stop_free(l->pipeline.drain);
}

static TideFrameSource *
link_open(TestLink *l, uint64_t position)
{
	TideFrameSource *source = NULL;

	ASSERT_OK(tide_transport_nats.open(&l->link, position, &source, &err));
	return source;
}

/* Waits up to limit_ms for the next frame; false: none came.  Errors are left in err. */
static bool
link_next(TideFrameSource *source, TideFrame *frame, int limit_ms)
{
	long long end = tide_monotonic_ms() + limit_ms;
	bool have = false;

	tide_error_clear(&err);
	while (!have && tide_monotonic_ms() < end)
	{
		struct pollfd fd;

		assert_int_equal(tide_transport_nats.poll(source, &fd), 1);
		(void) poll(&fd, 1, 20);
		if (!tide_transport_nats.turn(source, &err) ||
			!tide_transport_nats.next(source, frame, &have, &err))
			return false;
	}
	return have;
}

static void
expect(TideFrameSource *source, uint64_t start, uint64_t end)
{
	TideFrame frame = {0};

	if (!link_next(source, &frame, 8000))
		fail_msg("frame %d to %d did not come: %s", (int) start, (int) end, err.message);
	assert_int_equal(frame.start, start);
	assert_int_equal(frame.end, end);
}

static void
expect_none(TideFrameSource *source, int ms)
{
	TideFrame frame;

	if (link_next(source, &frame, ms))
		fail_msg("a frame came that is not for us: %d to %d", (int) frame.start, (int) frame.end);
	assert_int_equal(err.class, TIDE_ERR_NONE);
}

static void
expect_error(TideFrameSource *source, const char *code)
{
	TideFrame frame;

	assert_false(link_next(source, &frame, 10000));
	assert_int_not_equal(err.class, TIDE_ERR_NONE);
	assert_string_equal(err.code, code);
}

/* ---- cases with servers ---- */

static TestServer server;

static int
start_server(void **state)
{
	(void) state;
	test_server_new(&server, NULL, "");
	return 0;
}

static int
end_server(void **state)
{
	(void) state;
	test_server_free(&server);
	return 0;
}

static void
the_chain_is_kept(void **state)
{
	TestOrigin origin;
	TestLink l;
	TideFrameSource *source;

	(void) state;
	origin_open(&origin, server.port, "");
	link_init(&l, "link:chain", server.port, "");
	origin_send(&origin, 10, 20, 0, 100);
	origin_send(&origin, 20, 30, 0, 100);
	origin_send(&origin, 30, 40, 0, 100);
	source = link_open(&l, 20);
	expect(source, 20, 30);
	expect(source, 30, 40);
	/* What came before, something that overlaps, and nothing twice. */
	tide_rows_send_begin(origin.send, "1-1-b");
	origin_send(&origin, 10, 35, 0, 100);
	origin_send(&origin, 35, 45, 0, 100);
	expect(source, 35, 45);
	/* 45 to 50 is lost; it comes later, and with it what was not for us yet. */
	origin_send(&origin, 50, 60, 0, 100);
	expect_none(source, 500);
	tide_rows_send_begin(origin.send, "1-1-c");
	origin_send(&origin, 45, 60, 0, 100);
	origin_send(&origin, 60, 60, 0, 0);
	origin_send(&origin, 60, 70, 0, 100);
	expect(source, 45, 60);
	expect(source, 60, 70);
	tide_transport_nats.close(source);
	link_free(&l);
	origin_close(&origin);
}

/* What is not acknowledged comes again, what is does not. */
static void
durable_is_acknowledged(void **state)
{
	TestOrigin origin;
	TestLink l;
	TideFrameSource *source;

	(void) state;
	origin_open(&origin, server.port, "");
	link_init(&l, "link:ack", server.port, "");
	for (uint64_t i = 1000; i < 1100; i += 10)
		origin_send(&origin, i, i + 10, 0, 10);
	source = link_open(&l, 1000);
	for (uint64_t i = 1000; i < 1100; i += 10)
		expect(source, i, i + 10);
	ASSERT_OK(tide_transport_nats.confirm(source, 1050, &err));
	tide_transport_nats.close(source);
	source = link_open(&l, 1050);
	expect(source, 1050, 1060);
	tide_transport_nats.close(source);
	/* Nothing of it was flushed: the database went back behind what it acknowledged. */
	source = link_open(&l, 1020);
	expect(source, 1020, 1030);
	ASSERT_OK(tide_transport_nats.confirm(source, 1030, &err));
	tide_transport_nats.close(source);
	link_free(&l);
	origin_close(&origin);
}

static void
consumers_and_streams_may_vanish(void **state)
{
	TestOrigin origin;
	TestLink l;
	TideFrameSource *source;

	(void) state;
	origin_open(&origin, server.port, "");
	link_init(&l, "link:vanish", server.port, "");
	origin_send(&origin, 2000, 2010, 0, 10);
	source = link_open(&l, 2000);
	expect(source, 2000, 2010);
	ASSERT_OK(tide_js_requestf(origin.js, NULL, NULL, &err, "CONSUMER.DELETE.TIDE_ROWS_%s.tide_%s",
							   ORIGIN, HERE));
	origin_send(&origin, 2010, 2020, 0, 10);
	{
		TideFrame frame;

		assert_false(link_next(source, &frame, 15000));
		assert_int_equal(err.class, TIDE_ERR_UNAVAILABLE);
	}
	tide_transport_nats.close(source);
	source = link_open(&l, 2010);
	expect(source, 2010, 2020);
	tide_transport_nats.close(source);
	/* The stream is gone: not there is said, and what is published anew is taken. */
	ASSERT_OK(tide_js_requestf(origin.js, NULL, NULL, &err, "STREAM.DELETE.TIDE_ROWS_%s", ORIGIN));
	assert_false(tide_transport_nats.open(&l.link, 2020, &source, &err));
	assert_string_equal(err.code, TIDE_JS_STREAM_NOT_FOUND);
	origin_close(&origin);
	origin_open(&origin, server.port, "");
	origin_send(&origin, 2000, 2030, 0, 10);
	source = link_open(&l, 2020);
	expect(source, 2000, 2030);
	tide_transport_nats.close(source);
	link_free(&l);
	origin_close(&origin);
}

/* A transaction in parts: of one run, or not at all. */
static void
large_transactions_are_of_one_run(void **state)
{
	const uint8_t middle = TIDE_FRAME_OPEN | TIDE_FRAME_CONTINUES;
	TestOrigin origin;
	TestLink l;
	TideFrameSource *source;

	(void) state;
	origin_open(&origin, server.port, "");
	link_init(&l, "link:parts", server.port, "");
	tide_rows_send_begin(origin.send, "1-1-d");
	origin_send(&origin, 3000, 3010, 0, 10);
	origin_send(&origin, 3010, 3010, TIDE_FRAME_OPEN, 10);
	origin_send(&origin, 3010, 3010, middle, 10);
	source = link_open(&l, 3000);
	expect(source, 3000, 3010);
	expect(source, 3010, 3010);
	expect(source, 3010, 3010);
	/* The publisher was killed; the next run cuts the transaction in another way. */
	tide_rows_send_begin(origin.send, "1-1-e");
	origin_send(&origin, 3010, 3010, TIDE_FRAME_OPEN, 10);
	expect_error(source, "gap");
	tide_transport_nats.close(source);
	source = link_open(&l, 3010);
	expect(source, 3010, 3010);
	origin_send(&origin, 3010, 3020, TIDE_FRAME_CONTINUES, 10);
	expect(source, 3010, 3020);
	/* One whose beginning is missing is a gap. */
	tide_rows_send_begin(origin.send, "1-1-f");
	origin_send(&origin, 3020, 3020, middle, 10);
	origin_send(&origin, 3020, 3030, TIDE_FRAME_CONTINUES, 10);
	expect_none(source, 500);
	tide_rows_send_begin(origin.send, "1-1-g");
	origin_send(&origin, 3020, 3030, 0, 10);
	expect(source, 3020, 3030);
	tide_transport_nats.close(source);
	link_free(&l);
	origin_close(&origin);
}

static void
frames_may_be_larger_than_messages(void **state)
{
	TestOrigin origin;
	TestLink l;
	TideFrameSource *source;
	TideFrame frame;

	(void) state;
	origin_open(&origin, server.port, "");
	link_init(&l, "link:large", server.port, "");
	origin_send(&origin, 4000, 4010, 0, (size_t) 5 << 20);
	origin_send(&origin, 4010, 4020, 0, 10);
	source = link_open(&l, 4000);
	assert_true(link_next(source, &frame, 8000));
	assert_int_equal(frame.start, 4000);
	assert_int_equal(frame.raw_bytes, (size_t) 5 << 20);
	expect(source, 4010, 4020);
	tide_transport_nats.close(source);
	link_free(&l);
	origin_close(&origin);
}

/* With many frames in the stream and no consumer, reading begins near the position. */
static void
the_place_is_found(void **state)
{
	TestOrigin origin;
	TestLink l;
	TideFrameSource *source;
	TideConsumerWant want = {.stream = "TIDE_ROWS_" ORIGIN, .name = "tide_" HERE, .filter = ""};
	TideConsumerState consumer;

	(void) state;
	origin_open(&origin, server.port, "");
	link_init(&l, "link:place", server.port, "");
	for (uint64_t i = 5000; i < 6000; i++)
		origin_send(&origin, i, i + 1, 0, 10);
	ASSERT_OK(tide_js_requestf(origin.js, NULL, NULL, &err, "CONSUMER.DELETE.TIDE_ROWS_%s.tide_%s",
							   ORIGIN, HERE));
	source = link_open(&l, 5700);
	expect(source, 5700, 5701);
	ASSERT_OK(tide_consumer_load(origin.js, &want, &consumer, &err));
	assert_true(consumer.exists);
	assert_in_range(consumer.delivered_cseq, 1, 320);
	tide_transport_nats.close(source);
	link_free(&l);
	origin_close(&origin);
}

/* What is missing is asked for, not before the stream could have it. */
static void
the_missing_is_asked_for(void **state)
{
	TestOrigin origin;
	TestLink l;
	TideFrameSource *source;
	TideRowsNote note;
	natsMsg *msg;
	char subject[TIDE_ROWS_SUBJECT];
	int tag;

	(void) state;
	origin_open(&origin, server.port, "");
	tide_rows_topic(TIDE_ROWS_REWIND, ORIGIN, NULL, subject, sizeof(subject));
	ASSERT_OK(tide_mailbox_subscribe(origin.box, subject, 9, &err));
	link_init(&l, "link:missing", server.port, "");
	origin_send(&origin, 7000, 7010, 0, 10);
	source = link_open(&l, 7000);
	expect(source, 7000, 7010);
	origin_send(&origin, 7020, 7030, 0, 10);
	expect_none(source, 5000);
	assert_true(tide_mailbox_take(origin.box, &msg, &tag));
	assert_int_equal(tag, 9);
	assert_true(tide_rows_read_note(msg, &note));
	assert_int_equal(note.position, 7010);
	assert_string_equal(note.region, HERE);
	natsMsg_Destroy(msg);
	assert_false(tide_mailbox_take(origin.box, &msg, &tag));
	tide_transport_nats.close(source);
	link_free(&l);
	origin_close(&origin);
}

/* Whoever makes a stream does so in two steps; who only reads may look between them, and may not be allowed to help. */
static void
readers_change_no_stream(void **state)
{
	TestServer server;
	TideRowsStream stream;
	TideStreamState found;
	TideNats *nats;
	TideJs *js;
	json_t *bare = json_pack("{s:s, s:s, s:[s], s:s}", "name", "TIDE_ROWS_" ORIGIN, "description",
							 TIDE_NATS_MADE_BY, "subjects", "tide-placeholder.rows", "storage",
							 "file");
	json_t *options;

	(void) state;
	test_server_new(&server, "readers", "");
	options = json_pack("{s:o}", "url", json_sprintf("nats://127.0.0.1:%d", server.port));
	ASSERT_OK(tide_nats_open(options, "test", NULL, &nats, &err));
	ASSERT_OK(tide_js_open(nats, NULL, &js, &err));
	ASSERT_OK(tide_js_requestf(js, bare, NULL, &err, "STREAM.CREATE.TIDE_ROWS_%s", ORIGIN));

	tide_rows_stream(options, ORIGIN, NULL, false, &stream);
	ASSERT_OK(tide_provision_stream(js, &stream.want, &found, &err));
	assert_true(found.exists && tide_stream_captures(&found, "tide-placeholder.rows"));
	assert_false(tide_stream_captures(&found, stream.subject));
	tide_stream_clear(&found);

	/* Whoever publishes finishes it. */
	tide_rows_stream(options, ORIGIN, NULL, true, &stream);
	ASSERT_OK(tide_provision_stream(js, &stream.want, &found, &err));
	assert_false(tide_stream_captures(&found, "tide-placeholder.rows"));
	assert_true(tide_stream_captures(&found, stream.subject));
	tide_stream_clear(&found);

	tide_js_close(js);
	tide_nats_close(nats);
	json_decref(options);
	json_decref(bare);
	test_server_free(&server);
}

/* Two regions joined by a leaf node: the stream here sources the origin's. */
static void
frames_cross_domains(void **state)
{
	TestServer us;
	TestServer eu;
	TestOrigin origin;
	TestLink l;
	TideFrameSource *source;
	char more[300];
	int leaf = test_free_port();

	(void) state;
	snprintf(more, sizeof(more), "leafnodes { listen: \"127.0.0.1:%d\" }\n", leaf);
	test_server_new(&us, "us", more);
	snprintf(more, sizeof(more),
			 "leafnodes { reconnect: 1, remotes: [ { url: \"nats-leaf://127.0.0.1:%d\" } ] }\n",
			 leaf);
	test_server_new(&eu, "eu", more);
	origin_open(&origin, us.port, "");
	link_init(&l, "link:domains", eu.port, ",\"peer_domain\":\"us\"");
	origin_send(&origin, 10, 20, 0, 100);
	source = link_open(&l, 10);
	expect(source, 10, 20);
	origin_send(&origin, 20, 30, 0, 100);
	expect(source, 20, 30);
	/* The copy is deleted: it is made again. */
	{
		TideNats *nats;
		TideJs *js;
		TideFrame frame;

		ASSERT_OK(tide_nats_open(l.link.spec.options, "test", NULL, &nats, &err));
		ASSERT_OK(tide_js_open(nats, NULL, &js, &err));
		ASSERT_OK(tide_js_requestf(js, NULL, NULL, &err, "STREAM.DELETE.TIDE_ROWS_%s", ORIGIN));
		assert_false(link_next(source, &frame, 15000));
		tide_js_close(js);
		tide_nats_close(nats);
	}
	tide_transport_nats.close(source);
	source = link_open(&l, 30);
	origin_send(&origin, 30, 40, 0, 100);
	expect(source, 30, 40);
	tide_transport_nats.close(source);
	link_free(&l);
	origin_close(&origin);
	test_server_free(&us);
	test_server_free(&eu);
}

int
main(void)
{
	const struct CMUnitTest pure[] = {
		cmocka_unit_test(labels_survive_the_way),
		cmocka_unit_test(other_messages_have_none),
		cmocka_unit_test(frames_are_whole_or_nothing),
		cmocka_unit_test(need_is_told_from_positions),
		cmocka_unit_test(each_way_has_names_of_its_own),
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_chain_is_kept),
		cmocka_unit_test(durable_is_acknowledged),
		cmocka_unit_test(consumers_and_streams_may_vanish),
		cmocka_unit_test(large_transactions_are_of_one_run),
		cmocka_unit_test(frames_may_be_larger_than_messages),
		cmocka_unit_test(the_place_is_found),
		cmocka_unit_test(the_missing_is_asked_for),
		cmocka_unit_test(readers_change_no_stream),
		cmocka_unit_test(frames_cross_domains),
	};
	int failed;

	if (!tide_nats_init(&err))
		return 1;
	failed = cmocka_run_group_tests_name("relay_nats_rows, messages", pure, NULL, NULL);
	if (test_have_server())
		failed += cmocka_run_group_tests_name("relay_nats_rows", tests, start_server, end_server);
	tide_nats_shutdown();
	return failed;
}
