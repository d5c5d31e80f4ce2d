/*
 * common_js.c
 *		Tests of JetStream reply subjects.
 *
 * Owns: both forms, and everything near them that is neither.
 */
#include "common_test.h"

#include "tide_js.h"

static void
assert_span(TideSpan s, const char *expected)
{
	if (expected == NULL)
	{
		assert_null(s.ptr);
		return;
	}
	assert_int_equal(s.len, strlen(expected));
	assert_memory_equal(s.ptr, expected, s.len);
}

static void
parses(void **state)
{
	static const struct
	{
		const char *reply;
		const char *domain;
		const char *account;
	} cases[] = {
		{"$JS.ACK.ORDERS.us-east-replica.1.22.333.1645557742000000001.4", NULL, NULL},
		{"$JS.ACK._.AbCd1234.ORDERS.us-east-replica.1.22.333.1645557742000000001.4", NULL,
		 "AbCd1234"},
		{"$JS.ACK.us.AbCd1234.ORDERS.us-east-replica.1.22.333.1645557742000000001.4", "us",
		 "AbCd1234"},
		{"$JS.ACK.us.AbCd1234.ORDERS.us-east-replica.1.22.333.1645557742000000001.4.xyz", "us",
		 "AbCd1234"},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		TideJsAck ack;

		assert_true(tide_js_ack_parse(cases[i].reply, &ack));
		assert_span(ack.domain, cases[i].domain);
		assert_span(ack.account, cases[i].account);
		assert_span(ack.stream, "ORDERS");
		assert_span(ack.consumer, "us-east-replica");
		assert_int_equal(ack.delivered, 1);
		assert_int_equal(ack.stream_seq, 22);
		assert_int_equal(ack.consumer_seq, 333);
		assert_true(ack.timestamp_ns == INT64_C(1645557742000000001));
		assert_int_equal(ack.pending, 4);
	}
}

static void
refuses(void **state)
{
	static const char *const bad[] = {
		"",
		".",
		"$JS.ACK",
		"$JS.ACK.s.c.1.2.3.4",
		"$JS.ACK.s.c.1.2.3.4.5.6",
		"$JS.NAK.s.c.1.2.3.4.5",
		"$js.ACK.s.c.1.2.3.4.5",
		"$JS.ACK.s.c.1.2.3.4.",
		"$JS.ACK..c.1.2.3.4.5",
		"$JS.ACK.s.c.x.2.3.4.5",
		"$JS.ACK.s.c.1.2.3.4.-5",
		"$JS.ACK.s.c.1.2.3.9223372036854775808.5",
		"$JS.ACK.s.c.1.18446744073709551616.3.4.5",
		"$JS.ACK.d.a.s.c.1.2.3.4.5.t.u",
		"$JS.ACK.d.a.s.c.1.2.3.4.x",
		"$JS.ACK.d.a.s.c.1.2.3.4.5.",
		"_INBOX.abc.1",
		"............",
		"$JS.ACK.s.c.1.2.3.4.5 ",
	};
	TideJsAck ack = {.delivered = 42};

	(void) state;
	for (size_t i = 0; i < LENGTH(bad); i++)
	{
		if (tide_js_ack_parse(bad[i], &ack))
			fail_msg("took \"%s\"", bad[i]);
		assert_int_equal(ack.delivered, 42);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses),
		cmocka_unit_test(refuses),
	};

	return cmocka_run_group_tests_name("common_js", tests, NULL, NULL);
}
