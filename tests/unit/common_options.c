/*
 * common_options.c
 *		Tests of the table of pipeline options and its checks.
 *
 * Owns: that the table is sound, that the tutorial's configurations pass, that
 * wrong ones are refused with the key's name and a hint, never with the value.
 */
#include "common_test.h"

#include "tide_options.h"

/* A configuration for the rules between keys. */
typedef struct Pair
{
	const char *key;
	const char *value;
} Pair;

#define MAX_PAIRS 8

static const char *
get(void *arg, const char *key)
{
	const Pair *pairs = arg;

	for (size_t i = 0; i < MAX_PAIRS && pairs[i].key != NULL; i++)
	{
		if (strcmp(pairs[i].key, key) == 0)
			return pairs[i].value;
	}
	return NULL;
}

typedef struct Words
{
	TideBuf message;
	TideBuf hint;
} Words;

static void
words_init(Words *words)
{
	tide_buf_init(&words->message);
	tide_buf_init(&words->hint);
}

static void
words_free(Words *words)
{
	tide_buf_free(&words->message);
	tide_buf_free(&words->hint);
}

static void
assert_has(const TideBuf *buf, const char *part)
{
	if (part == NULL || strstr(tide_buf_cstr(buf), part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part != NULL ? part : "(nothing)", tide_buf_cstr(buf));
}

static void
table_is_sound(void **state)
{
	static const struct
	{
		TideSide side;
		const char *connector;
	} all[] = {
		{TIDE_SIDE_SINK, "nats"},
		{TIDE_SIDE_SINK, "inbox"},
		{TIDE_SIDE_SINK, "stdout"},
		{TIDE_SIDE_SOURCE, "nats"},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(all); i++)
	{
		const TideOption *option = NULL;

		assert_true(tide_connector_known(all[i].side, all[i].connector));
		while ((option = tide_option_next(all[i].side, all[i].connector, option)) != NULL)
		{
			const char *text = option->default_text;
			Words words;

			/* A key occurs once per connector and side, or find would hide the second. */
			assert_ptr_equal(tide_option_find(all[i].side, all[i].connector, option->key), option);
			assert_true(strlen(option->help) > 10);
			assert_false(option->required && text != NULL);
			words_init(&words);
			if (text != NULL && tide_option_json_kind(option) == TIDE_JSON_NUMBER)
				assert_true(tide_option_check_number(option, strtod(text, NULL), NULL, NULL));
			else if (text != NULL && tide_option_json_kind(option) == TIDE_JSON_STRING)
				assert_true(tide_option_check_string(option, text, strlen(text), NULL, NULL));
			else if (text != NULL)
				assert_true(strcmp(text, "true") == 0 || strcmp(text, "false") == 0);
			tide_option_wrong_type(option, "array", &words.message, &words.hint);
			assert_has(&words.message, option->key);
			words_free(&words);
		}
	}
	assert_false(tide_connector_known(TIDE_SIDE_SOURCE, "stdout"));
	assert_false(tide_connector_known(TIDE_SIDE_SINK, "kafka"));
	assert_false(tide_connector_known(TIDE_SIDE_SINK, NULL));
	assert_string_equal(tide_connector_key(TIDE_SIDE_SINK), "sink_type");
	assert_string_equal(tide_connector_key(TIDE_SIDE_SOURCE), "source_type");
}

static void
finds_by_side_and_connector(void **state)
{
	(void) state;
	assert_int_equal(tide_option_find(TIDE_SIDE_SINK, "nats", "subject")->type, TIDE_OPT_SUBJECT);
	assert_int_equal(tide_option_find(TIDE_SIDE_SOURCE, "nats", "subject")->type, TIDE_OPT_FILTER);
	assert_null(tide_option_find(TIDE_SIDE_SINK, "nats", "peer_domain"));
	assert_null(tide_option_find(TIDE_SIDE_SINK, "nats", "conninfo"));
	assert_null(tide_option_find(TIDE_SIDE_SINK, NULL, "url"));
	assert_non_null(tide_option_find(TIDE_SIDE_SINK, NULL, "batch_size"));
	assert_null(tide_option_find(TIDE_SIDE_SOURCE, "nats", "sink_type"));
	assert_int_equal(
		tide_option_default_int(tide_option_find(TIDE_SIDE_SINK, "nats", "batch_size")), 1000);
	assert_int_equal(tide_option_default_int(tide_option_find(TIDE_SIDE_SINK, "nats", "max_bytes")),
					 -1);
	assert_int_equal(tide_option_default_int(tide_option_find(TIDE_SIDE_SINK, "nats", "url")), 0);
	assert_true(tide_option_default_bool(tide_option_find(TIDE_SIDE_SINK, "nats", "provision")));
	assert_false(tide_option_default_bool(tide_option_find(TIDE_SIDE_SINK, "nats", "tls")));
	assert_int_equal(tide_option_default_int(NULL), 0);
}

static const Pair publish[MAX_PAIRS] = {
	{"sink_type", "nats"},
	{"url", "nats://nats-us:4222"},
	{"subject_template", "orders.{op}.us-east"},
	{"stream", "ORDERS"},
};

static const Pair subscribe[MAX_PAIRS] = {
	{"source_type", "nats"},
	{"url", "nats://nats-us:4222"},
	{"subject", "orders.*.eu-west"},
	{"stream", "ORDERS"},
	{"consumer_group", "us-east-replica"},
	{"durable_name", "us-east-replica"},
};

static void
check_config(TideSide side, const Pair *pairs)
{
	for (size_t i = 0; i < MAX_PAIRS && pairs[i].key != NULL; i++)
	{
		const TideOption *option = tide_option_find(side, "nats", pairs[i].key);

		assert_non_null(option);
		assert_true(
			tide_option_check_string(option, pairs[i].value, strlen(pairs[i].value), NULL, NULL));
	}
	assert_true(tide_options_check_set(side, "nats", get, (void *) (uintptr_t) pairs, NULL, NULL));
}

static void
tutorial_passes(void **state)
{
	(void) state;
	check_config(TIDE_SIDE_SINK, publish);
	check_config(TIDE_SIDE_SOURCE, subscribe);
}

static void
strings(void **state)
{
	static const struct
	{
		TideSide side;
		const char *connector;
		const char *key;
		const char *value;
		const char *message; /* NULL: taken; else a part of the message */
	} cases[] = {
		{TIDE_SIDE_SINK, "nats", "sink_type", "stdout", NULL},
		{TIDE_SIDE_SINK, "nats", "sink_type", "kafka", "can't be \"kafka\""},
		{TIDE_SIDE_SOURCE, "nats", "source_type", "stdout", "can't be"},
		{TIDE_SIDE_SINK, "nats", "url", "nats://a:1, tls://b", NULL},
		{TIDE_SIDE_SINK, "nats", "url", "nats://u:hush@a:1", "in clear"},
		{TIDE_SIDE_SINK, "nats", "url", "nats://a:1,hush@b", "in clear"},
		{TIDE_SIDE_SINK, "nats", "url", "nats://a:1,", "neither"},
		{TIDE_SIDE_SINK, "nats", "url", "nats://a:x", "host and port"},
		{TIDE_SIDE_SINK, "nats", "url", "", "is empty"},
		{TIDE_SIDE_SINK, "nats", "stream", "ORDERS", NULL},
		{TIDE_SIDE_SINK, "nats", "stream", "OR.DERS", "does not take"},
		{TIDE_SIDE_SINK, "nats", "stream", "OR DERS", "does not take"},
		{TIDE_SIDE_SINK, "nats", "stream", "OR\nDERS", "control"},
		{TIDE_SIDE_SINK, "nats", "stream", "caf\xC3\xA9", NULL},
		{TIDE_SIDE_SINK, "nats", "stream", "\xFF", "UTF-8"},
		{TIDE_SIDE_SINK, "nats", "subject_template", "{outbox}.{op}", NULL},
		{TIDE_SIDE_SINK, "nats", "subject_template", "a.{oops}",
		 "at character 3: unknown variable {oops}"},
		{TIDE_SIDE_SINK, "nats", "subject", "a.b", NULL},
		{TIDE_SIDE_SINK, "nats", "subject", "a.*", "wildcard"},
		{TIDE_SIDE_SINK, "nats", "subject", "$JS.x", "begins with '$'"},
		{TIDE_SIDE_SINK, "nats", "subject", "a..b", "not a NATS subject"},
		{TIDE_SIDE_SOURCE, "nats", "subject", "a.*.>", NULL},
		{TIDE_SIDE_SOURCE, "nats", "subject", "a.>.b", "not a NATS subject"},
		{TIDE_SIDE_SOURCE, "nats", "durable_name", "a/b", "does not take"},
		{TIDE_SIDE_SINK, "nats", "token", "env:TOKEN", NULL},
		{TIDE_SIDE_SINK, "nats", "token", "hush", "reference"},
		{TIDE_SIDE_SINK, "nats", "password", "file:hush", "reference"},
		{TIDE_SIDE_SINK, "nats", "nkey_seed", "SUAhush", "reference"},
		{TIDE_SIDE_SINK, "nats", "credentials_file", "/etc/a.creds", NULL},
		{TIDE_SIDE_SINK, "nats", "credentials_file", "a.creds", "absolute path"},
		{TIDE_SIDE_SINK, "nats", "user", "us er", NULL},
		{TIDE_SIDE_SINK, "nats", "tls", "true", "must be true or false, not string"},
		{TIDE_SIDE_SINK, "nats", "batch_size", "10", "must be a number, not string"},
		{TIDE_SIDE_SINK, "inbox", "conninfo", "host=a\n  dbname=b", NULL},
		{TIDE_SIDE_SINK, "inbox", "conninfo", "env:OTHER_DB", NULL},
		{TIDE_SIDE_SINK, "inbox", "conninfo", "host=a password=hush", "password in clear"},
		{TIDE_SIDE_SINK, "inbox", "conninfo", "postgres://u:hush@h", "password in clear"},
		{TIDE_SIDE_SINK, "inbox", "conninfo", "hush", "neither"},
		{TIDE_SIDE_SINK, "inbox", "inbox", "orders", NULL},
		{TIDE_SIDE_SINK, "inbox", "inbox", "or'ders", "not a name"},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		const TideOption *option = tide_option_find(cases[i].side, cases[i].connector,
													cases[i].key);
		Words words;
		bool ok;

		assert_non_null(option);
		words_init(&words);
		ok = tide_option_check_string(option, cases[i].value, strlen(cases[i].value),
									  &words.message, &words.hint);
		if (ok != (cases[i].message == NULL))
			fail_msg("%s \"%s\": %s", cases[i].key, cases[i].value, tide_buf_cstr(&words.message));
		assert_int_equal(words.message.len > 0, !ok);
		assert_int_equal(words.hint.len > 0, !ok);
		if (!ok)
		{
			assert_has(&words.message, cases[i].key);
			assert_has(&words.message, cases[i].message);
			assert_null(strstr(tide_buf_cstr(&words.message), "hush"));
			assert_null(strstr(tide_buf_cstr(&words.hint), "hush"));
		}
		assert_int_equal(
			tide_option_check_string(option, cases[i].value, strlen(cases[i].value), NULL, NULL),
			ok);
		words_free(&words);
	}
}

static void
long_strings(void **state)
{
	char value[5000];
	const TideOption *user = tide_option_find(TIDE_SIDE_SINK, "nats", "user");
	const TideOption *stream = tide_option_find(TIDE_SIDE_SINK, "nats", "stream");

	(void) state;
	memset(value, 'a', sizeof(value));
	assert_true(tide_option_check_string(user, value, 4095, NULL, NULL));
	assert_false(tide_option_check_string(user, value, 4096, NULL, NULL));
	assert_true(tide_option_check_string(stream, value, 255, NULL, NULL));
	assert_false(tide_option_check_string(stream, value, 256, NULL, NULL));
	assert_false(tide_option_check_string(user, "a\0b", 3, NULL, NULL));
}

static void
numbers(void **state)
{
	static const struct
	{
		const char *key;
		double value;
		bool ok;
	} cases[] = {
		{"batch_size", 1, true},
		{"batch_size", 10000, true},
		{"batch_size", 0, false},
		{"batch_size", 10001, false},
		{"batch_size", 1.5, false},
		{"batch_size", -1e308, false},
		{"max_bytes", -1, true},
		{"max_bytes", 9007199254740991.0, true},
		{"max_bytes", 1e300, false},
		{"max_bytes", -2, false},
		{"duplicate_window", 0.5, false},
		{"duplicate_window", 1.5, true},
		{"max_age", 0, true},
		{"replicas", 6, false},
		{"url", 1, false},
		{"tls", 1, false},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		const TideOption *option = tide_option_find(TIDE_SIDE_SINK, "nats", cases[i].key);
		Words words;

		words_init(&words);
		if (tide_option_check_number(option, cases[i].value, &words.message, &words.hint) !=
			cases[i].ok)
			fail_msg("%s %g", cases[i].key, cases[i].value);
		if (!cases[i].ok)
			assert_has(&words.message, cases[i].key);
		assert_int_equal(words.hint.len > 0, !cases[i].ok);
		words_free(&words);
	}
	{
		const TideOption *option = tide_option_find(TIDE_SIDE_SINK, "nats", "batch_size");

		assert_false(tide_option_check_number(option, strtod("nan", NULL), NULL, NULL));
		assert_false(tide_option_check_number(option, strtod("inf", NULL), NULL, NULL));
	}
}

/* The tutorial's configuration with one key changed (value NULL: removed), maybe two. */
static void
rules(void **state)
{
	static const struct
	{
		TideSide side;
		Pair change;
		Pair more;
		const char *message; /* NULL: fine */
	} cases[] = {
		{TIDE_SIDE_SINK, {"url", NULL}, {0}, "\"url\" is missing"},
		{TIDE_SIDE_SINK, {"stream", NULL}, {0}, "\"stream\" is missing"},
		{TIDE_SIDE_SINK, {"sink_type", NULL}, {0}, "\"sink_type\" is missing"},
		{TIDE_SIDE_SINK, {"subject_template", NULL}, {0}, NULL},
		{TIDE_SIDE_SINK, {"subject", "a.b"}, {0}, "can't be used together"},
		{TIDE_SIDE_SINK, {"subject_template", NULL}, {"subject", "a.b"}, NULL},
		{TIDE_SIDE_SOURCE, {"subject", NULL}, {0}, "\"subject\" is missing"},
		{TIDE_SIDE_SOURCE, {"durable_name", NULL}, {0}, NULL},
		{TIDE_SIDE_SOURCE, {"consumer_group", NULL}, {0}, NULL},
		{TIDE_SIDE_SOURCE, {"consumer_group", "other"}, {0}, "must be the same"},
		{TIDE_SIDE_SOURCE,
		 {"durable_name", NULL},
		 {"consumer_group", NULL},
		 "\"durable_name\" is missing"},
		{TIDE_SIDE_SOURCE, {"peer_domain", "eu"}, {"domain", "us"}, NULL},
		{TIDE_SIDE_SOURCE, {"peer_domain", "us"}, {"domain", "us"}, "must not be the same"},
		{TIDE_SIDE_SINK, {"user", "u"}, {0}, "\"user\" can't be used without \"password\""},
		{TIDE_SIDE_SINK, {"password", "env:P"}, {0}, "\"password\" can't be used without \"user\""},
		{TIDE_SIDE_SINK, {"password", "env:P"}, {"user", "u"}, NULL},
		{TIDE_SIDE_SINK, {"token", "env:T"}, {"nkey_seed", "env:S"}, "can't be used together"},
		{TIDE_SIDE_SINK, {"tls_cert_file", "/c"}, {0}, "without \"tls_key_file\""},
		{TIDE_SIDE_SINK, {"tls_cert_file", "/c"}, {"tls_key_file", "/k"}, NULL},
		{TIDE_SIDE_SINK, {"duplicate_window", "604801"}, {0}, "must not be greater"},
		{TIDE_SIDE_SINK, {"duplicate_window", "604800"}, {0}, NULL},
		{TIDE_SIDE_SINK,
		 {"duplicate_window", "3601"},
		 {"max_age", "3600.5"},
		 "must not be greater"},
		{TIDE_SIDE_SINK, {"duplicate_window", "999999"}, {"max_age", "0"}, NULL},
		{TIDE_SIDE_SINK, {"max_age", "60"}, {0}, NULL},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		/* get() finds the first, so the changes go before the rest. */
		Pair pairs[MAX_PAIRS] = {cases[i].change, cases[i].more};
		const Pair *rest = cases[i].side == TIDE_SIDE_SINK ? publish : subscribe;
		size_t n = cases[i].more.key != NULL ? 2 : 1;
		Words words;
		bool ok;

		for (; n < MAX_PAIRS && rest->key != NULL; n++, rest++)
			pairs[n] = *rest;
		words_init(&words);
		ok = tide_options_check_set(cases[i].side, "nats", get, pairs, &words.message, &words.hint);
		if (ok != (cases[i].message == NULL))
			fail_msg("%zu: %s", i, tide_buf_cstr(&words.message));
		assert_int_equal(words.hint.len > 0, !ok);
		if (!ok)
			assert_has(&words.message, cases[i].message);
		words_free(&words);
	}
}

static void
unknown_things(void **state)
{
	static const struct
	{
		TideSide side;
		const char *key;
		const char *hint;
	} cases[] = {
		{TIDE_SIDE_SINK, "subject_tempalte", "Did you mean \"subject_template\"?"},
		{TIDE_SIDE_SINK, "urls", "Did you mean \"url\"?"},
		{TIDE_SIDE_SINK, "Stream", "Did you mean \"stream\"?"},
		{TIDE_SIDE_SINK, "batchsize", "Did you mean \"batch_size\"?"},
		{TIDE_SIDE_SINK, "peer_domain", "of the inbox side only"},
		{TIDE_SIDE_SOURCE, "max_in_flight", "of the outbox side only"},
		{TIDE_SIDE_SINK, "zzz", "The options are: sink_type, batch_size, "},
		{TIDE_SIDE_SINK, "", "The options are: "},
	};
	Words words;
	char key[200];

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		words_init(&words);
		tide_option_unknown(cases[i].side, "nats", cases[i].key, &words.message, &words.hint);
		assert_has(&words.message, cases[i].key);
		assert_has(&words.hint, cases[i].hint);
		words_free(&words);
		tide_option_unknown(cases[i].side, "nats", cases[i].key, NULL, NULL);
	}

	/* A long key of two-byte characters is cut between characters. */
	for (size_t i = 0; i < sizeof(key) - 1; i++)
		key[i] = "\xC3\xA9"[i % 2];
	key[sizeof(key) - 1] = '\0';
	words_init(&words);
	tide_option_unknown(TIDE_SIDE_SINK, "nats", key, &words.message, NULL);
	assert_true(tide_utf8_valid(words.message.data, words.message.len));
	words_free(&words);

	words_init(&words);
	tide_connector_unknown(TIDE_SIDE_SINK, "kafka", &words.message, &words.hint);
	assert_has(&words.message, "\"sink_type\" can't be \"kafka\"");
	assert_has(&words.hint, "one of: nats, inbox, stdout.");
	words_free(&words);
	words_init(&words);
	tide_connector_unknown(TIDE_SIDE_SOURCE, NULL, &words.message, &words.hint);
	assert_has(&words.message, "\"source_type\" is missing");
	words_free(&words);
	assert_false(tide_options_check_set(TIDE_SIDE_SINK, "kafka", get, (void *) (uintptr_t) publish,
										NULL, NULL));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_is_sound),  cmocka_unit_test(finds_by_side_and_connector),
		cmocka_unit_test(tutorial_passes), cmocka_unit_test(strings),
		cmocka_unit_test(long_strings),	   cmocka_unit_test(numbers),
		cmocka_unit_test(rules),		   cmocka_unit_test(unknown_things),
	};

	return cmocka_run_group_tests_name("common_options", tests, NULL, NULL);
}
