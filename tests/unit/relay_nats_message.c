/*
 * relay_nats_message.c
 *		Events as NATS messages and back; messages that others sent.
 *
 * Owns: the form of messages.  Needs no server: a message that was made is
 * taken apart again.
 */
#include "nats_test.h"

#include <jansson.h>
#include <time.h>

#include "nats_conn.h"
#include "nats_message.h"

static TideArena *arena;
static unsigned seed;

static const TideMessageSource from = {"ORDERS", "us-east", "2026-11-21T10:00:00Z"};
static const TideJsAck no_ack = {.stream_seq = 42, .timestamp_ns = 1700000000123456789};

static size_t
below(size_t n)
{
	return (size_t) rand_r(&seed) % n;
}

/* Random text: valid UTF-8 of all lengths, controls included, no NUL. */
static TideSlice
random_text(size_t max)
{
	static const char *const bits[] = {"a",
									   "Z",
									   " ",
									   "%",
									   "\"",
									   "\r\n",
									   "\t",
									   ":",
									   "\x7f",
									   "\x01",
									   "\xc3\xa9",
									   "\xe2\x82\xac",
									   "\xf0\x9f\x98\x80",
									   "%0A",
									   "Nats-Msg-Id",
									   "*",
									   ">",
									   "."};
	TideBuf buf;
	TideSlice out;

	tide_buf_init(&buf);
	for (size_t n = below(max + 1); n > 0; n--)
		tide_buf_append_str(&buf, bits[below(sizeof(bits) / sizeof(bits[0]))]);
	out = (TideSlice){tide_arena_memdup(arena, tide_buf_cstr(&buf), buf.len), buf.len};
	tide_buf_free(&buf);
	return out;
}

static TideSlice
json_of(json_t *value)
{
	char *text = json_dumps(value, JSON_ENCODE_ANY);
	TideSlice out = test_slice(arena, text);

	free(text);
	json_decref(value);
	return out;
}

static json_t *
json_string_of(TideSlice text)
{
	return json_stringn(text.ptr, text.len);
}

static TideEvent
random_event(void)
{
	TideEvent event = {0};
	json_t *headers = json_object();

	for (size_t n = below(4); n > 0; n--)
		json_object_set_new(headers, random_text(6).ptr, json_string_of(random_text(20)));
	if (below(2) == 0)
		json_object_set_new(headers, "traceparent", json_string_of(random_text(5)));
	if (below(2) == 0)
		json_object_set_new(headers, "event_type", json_string_of(random_text(5)));
	if (below(3) == 0)
		json_object_set_new(headers, "tide-origin", json_string("forged"));
	if (below(3) == 0)
		json_object_set_new(headers, "n", json_integer(7));
	event.id = test_slice(arena, "01234567-89ab-7cde-8f01-23456789abcd");
	event.origin = test_slice(arena, "us-east");
	event.outbox = test_slice(arena, "order_events");
	event.entity = random_text(10);
	event.op = random_text(5);
	if (below(3) > 0)
		event.key = random_text(8);
	event.headers = json_of(headers);
	event.payload = json_of(below(2) == 0
								? json_string_of(random_text(50))
								: json_pack("[o, {s:b}]", json_string_of(random_text(9)), "x", 1));
	event.published_us = 1700000000000000 + rand_r(&seed);
	event.committed_us = below(2) == 0 ? 0 : event.published_us + 5;
	return event;
}

static void
assert_same(TideSlice a, TideSlice b)
{
	assert_int_equal(a.ptr == NULL, b.ptr == NULL);
	assert_int_equal(a.len, b.len);
	if (a.len > 0)
		assert_memory_equal(a.ptr, b.ptr, a.len);
}

static natsMsg *
encode(const TideEvent *event)
{
	natsMsg *msg;
	TideMessageSize size;

	assert_int_equal(
		tide_message_encode(event, "us-east", "orders.insert.us-east", NULL, &msg, &size), NATS_OK);
	return msg;
}

static void
events_come_back_as_they_were(void **state)
{
	(void) state;
	for (int i = 0; i < 20000; i++)
	{
		TideEvent event = random_event();
		TideEvent back;
		natsMsg *msg = encode(&event);
		json_t *a;
		json_t *b;

		tide_message_decode(msg, &no_ack, &from, arena, &back);
		assert_same(event.id, back.id);
		assert_same(event.origin, back.origin);
		assert_same(event.outbox, back.outbox);
		assert_same(event.entity, back.entity);
		assert_same(event.op, back.op);
		assert_same(event.key, back.key);
		assert_same(event.payload, back.payload);
		a = json_loads(event.headers.ptr, 0, NULL);
		b = json_loads(back.headers.ptr, 0, NULL);
		assert_true(json_equal(a, b));
		json_decref(a);
		json_decref(b);
		assert_int_equal(event.published_us, back.published_us);
		assert_int_equal(event.committed_us, back.committed_us);
		assert_int_equal(back.position, 42);
		natsMsg_Destroy(msg);
		tide_arena_reset(arena);
	}
}

/* No value may break out of its line, whatever the application writes. */
static void
values_never_hold_control_bytes(void **state)
{
	(void) state;
	for (int i = 0; i < 2000; i++)
	{
		TideEvent event = random_event();
		natsMsg *msg = encode(&event);
		const char **names;
		int n;

		assert_int_equal(natsMsgHeader_Keys(msg, &names, &n), NATS_OK);
		for (int k = 0; k < n; k++)
		{
			const char *value;

			assert_int_equal(natsMsgHeader_Get(msg, names[k], &value), NATS_OK);
			for (const char *c = value; *c != '\0'; c++)
				assert_true(*c > 0x20 && *c < 0x7f);
			for (const char *c = names[k]; *c != '\0'; c++)
				assert_true(*c > 0x20 && *c < 0x7f && *c != ':');
		}
		free(names);
		natsMsg_Destroy(msg);
		tide_arena_reset(arena);
	}
}

static const char *
header(natsMsg *msg, const char *name)
{
	const char *value = NULL;

	return natsMsgHeader_Get(msg, name, &value) == NATS_OK ? value : NULL;
}

static void
headers_are_cloudevents(void **state)
{
	TideEvent event = {
		.id = {"id-1", 4},
		.origin = {"us-east", 7},
		.outbox = {"order_events", 12},
		.entity = {"orders", 6},
		.op = {"insert", 6},
		.key = {"k 1", 3},
		.payload = {"{}", 2},
		.headers = {"{\"traceparent\": \"00-ab\", \"Nats-Msg-Id\": \"forged\", \"n\": 1}", 57},
		.published_us = 1700000000000000,
	};
	natsMsg *msg;

	(void) state;
	event.headers.len = strlen(event.headers.ptr);
	msg = encode(&event);
	assert_string_equal(header(msg, "Nats-Msg-Id"), "id-1");
	assert_string_equal(header(msg, "ce-specversion"), "1.0");
	assert_string_equal(header(msg, "ce-id"), "id-1");
	assert_string_equal(header(msg, "ce-source"), "/pg_tide/us-east/order_events");
	assert_string_equal(header(msg, "ce-type"), "tide.orders.insert");
	assert_string_equal(header(msg, "ce-time"), "2023-11-14T22:13:20.000000Z");
	assert_string_equal(header(msg, "ce-subject"), "k%201");
	assert_string_equal(header(msg, "content-type"), "application/json");
	assert_string_equal(header(msg, "traceparent"), "00-ab");
	assert_null(header(msg, "n"));
	assert_null(header(msg, "Tide-Committed-At"));
	natsMsg_Destroy(msg);

	event.headers = (TideSlice){"{\"event_type\": \"order.placed\"}", 30};
	event.key = (TideSlice){NULL, 0};
	msg = encode(&event);
	assert_string_equal(header(msg, "ce-type"), "order.placed");
	assert_null(header(msg, "ce-subject"));
	assert_null(header(msg, "Tide-Key"));
	natsMsg_Destroy(msg);
}

/*
 * Messages of others
 */

static natsMsg *
foreign(const char *subject, const char *body, int len)
{
	natsMsg *msg;

	assert_int_equal(natsMsg_Create(&msg, subject, NULL, body, len), NATS_OK);
	return msg;
}

static TideEvent
decode(natsMsg *msg)
{
	TideEvent event;
	json_t *headers;

	tide_message_decode(msg, &no_ack, &from, arena, &event);
	natsMsg_Destroy(msg);
	assert_true(event.id.len > 0);
	assert_null(event.origin.ptr);
	headers = json_loads(event.headers.ptr, 0, NULL);
	assert_true(json_is_object(headers));
	json_decref(headers);
	return event;
}

static bool
has(TideSlice json, const char *key, const char *value)
{
	json_t *object = json_loads(json.ptr, 0, NULL);
	const char *found = json_string_value(json_object_get(object, key));
	bool same = found != NULL && strcmp(found, value) == 0;

	json_decref(object);
	return same;
}

static void
foreign_bodies_become_json(void **state)
{
	TideEvent event;

	(void) state;
	event = decode(foreign("orders.new", "{\"a\": 1e400}", 12));
	assert_string_equal(event.payload.ptr, "{\"a\": 1e400}");
	assert_string_equal(event.entity.ptr, "orders");
	assert_string_equal(event.op.ptr, "message");
	assert_string_equal(event.id.ptr, "ORDERS:us-east:2026-11-21T10:00:00Z:42");
	assert_true(has(event.headers, "nats-subject", "orders.new"));
	assert_int_equal(event.published_us, 1700000000123456);

	event = decode(foreign("x", "hello \"you\"\n", 12));
	assert_string_equal(event.payload.ptr, "\"hello \\\"you\\\"\\n\"");
	assert_true(has(event.headers, "tide-body", "text"));

	event = decode(foreign("x", "\xff\x00\x01", 3));
	assert_string_equal(event.payload.ptr, "\"/wAB\"");
	assert_true(has(event.headers, "tide-body", "base64"));

	event = decode(foreign("x", "a\0b", 3));
	assert_string_equal(event.payload.ptr, "\"YQBi\"");

	event = decode(foreign("x", NULL, 0));
	assert_string_equal(event.payload.ptr, "null");
	assert_true(has(event.headers, "tide-body", "empty"));
}

static void
foreign_headers_are_understood(void **state)
{
	TideEvent event;
	natsMsg *msg;

	(void) state;
	msg = foreign("x", "1", 1);
	natsMsgHeader_Set(msg, "CE-Id", "7");
	natsMsgHeader_Set(msg, "ce-source", "/shop");
	natsMsgHeader_Set(msg, "ce-type", "com.shop.order.placed");
	natsMsgHeader_Set(msg, "ce-time", "2023-11-14T22:13:20Z");
	natsMsgHeader_Set(msg, "ce-subject", "k%201");
	natsMsgHeader_Set(msg, "X-Bad", "\xff\xfe");
	natsMsgHeader_Add(msg, "X-Two", "a");
	natsMsgHeader_Add(msg, "X-Two", "b");
	event = decode(msg);
	assert_string_equal(event.id.ptr, "/shop 7");
	assert_string_equal(event.entity.ptr, "com.shop.order");
	assert_string_equal(event.op.ptr, "placed");
	assert_string_equal(event.key.ptr, "k 1");
	assert_int_equal(event.published_us, 1700000000000000);
	assert_true(has(event.headers, "X-Bad", "%FF%FE"));

	msg = foreign("x", "1", 1);
	natsMsgHeader_Set(msg, "nats-msg-id", "mine");
	event = decode(msg);
	assert_string_equal(event.id.ptr, "mine");

	/* Something that only pretends to be ours. */
	msg = foreign("x", "not json", 8);
	natsMsgHeader_Set(msg, "Tide-Origin", "us-east");
	event = decode(msg);
	assert_string_equal(event.payload.ptr, "\"not json\"");
}

/* A sourced message has another sequence in every region; its id must not. */
static void
sourced_messages_keep_their_id(void **state)
{
	TideMessageSource elsewhere = {"ORDERS", "asia", "2025-01-01T00:00:00Z"};
	TideJsAck ack = {.stream_seq = 7};
	TideEvent a;
	TideEvent b;
	natsMsg *msg = foreign("x.y", "1", 1);

	(void) state;
	natsMsgHeader_Set(msg, "Nats-Stream-Source", "ORDERS:kZ5CxGvu 42");
	tide_message_decode(msg, &no_ack, &from, arena, &a);
	tide_message_decode(msg, &ack, &elsewhere, arena, &b);
	assert_string_equal(a.id.ptr, b.id.ptr);
	natsMsg_Destroy(msg);
	msg = foreign("x.y", "2", 1);
	natsMsgHeader_Set(msg, "Nats-Stream-Source", "ORDERS:kZ5CxGvu 42");
	tide_message_decode(msg, &no_ack, &from, arena, &b);
	assert_string_not_equal(a.id.ptr, b.id.ptr); /* another stream of that name */
	natsMsg_Destroy(msg);
}

/* Whatever comes, an event comes out, with JSON in it. */
static void
random_bytes_never_harm(void **state)
{
	static const char *const names[] = {"Nats-Msg-Id",		 "ce-id",		 "ce-type",
										"ce-time",			 "Tide-Origin",	 "Tide-Entity",
										"Tide-Op",			 "Tide-Headers", "Tide-Key",
										"Tide-Published-At", "x-y"};

	(void) state;
	for (int i = 0; i < 20000; i++)
	{
		char body[64];
		char value[16];
		size_t len = below(sizeof(body));
		natsMsg *msg;
		TideEvent event;
		json_t *json;

		for (size_t k = 0; k < len; k++)
			body[k] = (char) rand_r(&seed);
		msg = foreign("some.subject", body, (int) len);
		for (size_t n = below(6); n > 0; n--)
		{
			size_t v = below(sizeof(value) - 1);

			for (size_t k = 0; k < v; k++)
				value[k] = (char) (1 + rand_r(&seed) % 255);
			value[v] = '\0';
			natsMsgHeader_Set(msg, names[below(sizeof(names) / sizeof(names[0]))], value);
		}
		tide_message_decode(msg, &no_ack, &from, arena, &event);
		assert_true(event.id.len > 0 && event.entity.ptr != NULL && event.op.ptr != NULL);
		json = json_loads(event.payload.ptr,
						  JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
		assert_non_null(json);
		json_decref(json);
		json = json_loads(event.headers.ptr, 0, NULL);
		assert_non_null(json);
		json_decref(json);
		natsMsg_Destroy(msg);
		tide_arena_reset(arena);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_come_back_as_they_were),
		cmocka_unit_test(values_never_hold_control_bytes),
		cmocka_unit_test(headers_are_cloudevents),
		cmocka_unit_test(foreign_bodies_become_json),
		cmocka_unit_test(foreign_headers_are_understood),
		cmocka_unit_test(sourced_messages_keep_their_id),
		cmocka_unit_test(random_bytes_never_harm),
	};
	const char *given = getenv("TIDE_TEST_SEED");

	seed = given != NULL ? (unsigned) strtoul(given, NULL, 10) : (unsigned) time(NULL);
	printf("relay_nats_message: TIDE_TEST_SEED=%u\n", seed);
	arena = tide_arena_new();
	if (!tide_nats_init(NULL))
		return 1;
	return cmocka_run_group_tests_name("relay_nats_message", tests, NULL, NULL);
}
