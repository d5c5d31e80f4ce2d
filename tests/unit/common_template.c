/*
 * common_template.c
 *		Tests of subject templates.
 *
 * Owns: cases, and the property streams rely on: whatever the values, what a
 * template renders is a valid subject and covered by its stream subject.
 */
#include "common_test.h"

#include "tide_template.h"

static TideTemplate
parse(const char *text)
{
	TideTemplate tpl;
	TideTemplateError error;

	if (!tide_template_parse(&tpl, text, strlen(text), &error))
		fail_msg("\"%s\": %zu: %s", text, error.position, error.message);
	return tpl;
}

static TideSpan
span(const char *s)
{
	return (TideSpan){s, s != NULL ? strlen(s) : 0};
}

static void
refuses(void **state)
{
	static const struct
	{
		const char *text;
		size_t position;
		const char *message; /* begins like this */
	} cases[] = {
		{"", 0, "is empty"},
		{"orders.{opp}.x", 8, "unknown variable {opp}"},
		{"{}", 1, "unknown variable {}"},
		{"{ op}", 1, "unknown variable { op}"},
		{"{OP}", 1, "unknown variable {OP}"},
		{"a.{op", 3, "'{' without"},
		{"a.{op.x}", 3, "'{' without"},
		{"{{op}}", 1, "'{' without"},
		{"{op}}", 5, "'}' without"},
		{"a}b", 2, "'}' without"},
		{".a", 1, "empty word"},
		{"a..b", 3, "empty word"},
		{"{op}..b", 6, "empty word"},
		{"a.", 2, "ends with a dot"},
		{"{op}.", 5, "ends with a dot"},
		{".", 1, "empty word"},
		{"a b", 2, "spaces"},
		{"a\tb", 2, "spaces"},
		{"a\x01", 2, "spaces"},
		{"a.*", 3, "wildcards"},
		{"a.>", 3, "wildcards"},
		{"$JS.API", 1, "subjects that begin with '$'"},
		{"a\xFF", 0, "is not valid UTF-8"},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		TideTemplate tpl;
		TideTemplateError error;

		if (tide_template_parse(&tpl, cases[i].text, strlen(cases[i].text), &error))
			fail_msg("took \"%s\"", cases[i].text);
		if (error.position != cases[i].position ||
			strncmp(error.message, cases[i].message, strlen(cases[i].message)) != 0)
			fail_msg("\"%s\": %zu: %s", cases[i].text, error.position, error.message);
		assert_true(strlen(error.hint) > 10);
		assert_false(tide_template_parse(&tpl, cases[i].text, strlen(cases[i].text), NULL));
	}
}

static void
limits(void **state)
{
	char text[TIDE_TEMPLATE_MAX + 2];
	TideTemplate tpl;
	TideTemplateError error;

	(void) state;
	memset(text, 'a', sizeof(text));
	assert_true(tide_template_parse(&tpl, text, TIDE_TEMPLATE_MAX, &error));
	assert_false(tide_template_parse(&tpl, text, TIDE_TEMPLATE_MAX + 1, &error));
	for (size_t i = 0; i + 4 < sizeof(text); i += 4)
	{
		text[i] = '{';
		text[i + 1] = 'o';
		text[i + 2] = 'p';
		text[i + 3] = '}';
	}
	assert_true(tide_template_parse(&tpl, text, 4 * 63, &error));
	assert_int_equal(tpl.n_parts, 63);
	assert_false(tide_template_parse(&tpl, "a\0b", 3, &error));
	assert_false(tide_template_parse(&tpl, "{op\0}", 5, &error));
}

static void
renders(void **state)
{
	static const struct
	{
		const char *text;
		const char *key;
		const char *expected;
	} cases[] = {
		{"orders.{op}.us-east", NULL, "orders.insert.us-east"},
		{"{outbox}.{op}", NULL, "order_events.insert"},
		{"{key}", NULL, "_"},
		{"{key}", "", "_"},
		{"x-{key}.{region}", "a.b c*>%\t", "x-a%2Eb%20c%2A%3E%25%09.us-east"},
		{"x.{key}", "caf\xC3\xA9\xFF", "x.caf\xC3\xA9%FF"},
		{"{key}.x", "$JS", "%24JS.x"},
		{"x.{key}", "$JS", "x.$JS"},
		{"{entity}.{event_type}", NULL, "orders._"},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		TideTemplate tpl = parse(cases[i].text);
		TideTemplateValues values = {0};
		TideBuf out;

		values.value[TIDE_VAR_OP] = span("insert");
		values.value[TIDE_VAR_ENTITY] = span("orders");
		values.value[TIDE_VAR_OUTBOX] = span("order_events");
		values.value[TIDE_VAR_REGION] = span("us-east");
		values.value[TIDE_VAR_KEY] = span(cases[i].key);
		tide_buf_init(&out);
		assert_true(tide_template_render(&tpl, &values, &out));
		assert_string_equal(tide_buf_cstr(&out), cases[i].expected);
		tide_buf_free(&out);
	}
}

static void
render_limit(void **state)
{
	TideTemplate tpl = parse("x.{key}.{key}");
	TideTemplateValues values = {0};
	char key[5000];
	TideBuf out;

	(void) state;
	memset(key, 'k', sizeof(key));
	tide_buf_init(&out);
	tide_buf_append_str(&out, "kept");
	values.value[TIDE_VAR_KEY] = (TideSpan){key, 510};
	assert_true(tide_template_render(&tpl, &values, &out));
	assert_int_equal(out.len, 4 + 2 + 510 + 1 + 510);
	tide_buf_reset(&out);
	tide_buf_append_str(&out, "kept");
	for (size_t len = 511; len <= sizeof(key); len += len == 511 ? 1 : 100)
	{
		values.value[TIDE_VAR_KEY] = (TideSpan){key, len};
		assert_int_equal(tide_template_render(&tpl, &values, &out),
						 3 + 2 * len <= TIDE_SUBJECT_MAX);
		assert_false(out.oom);
		assert_string_equal(out.data, "kept");
	}
	/* Encoding counts too. */
	memset(key, '.', sizeof(key));
	values.value[TIDE_VAR_KEY] = (TideSpan){key, 200};
	assert_false(tide_template_render(&tpl, &values, &out));
	tide_buf_free(&out);
}

static void
stream_subjects(void **state)
{
	static const struct
	{
		const char *text;
		const char *expected;
	} cases[] = {
		{"orders.{op}.us-east", "orders.*.us-east"},
		{"{outbox}.{op}-{key}.x", "o.*.x"},
		{"{outbox}-{region}.{entity}", "o-r.*"},
		{"pre{op}post", "*"},
		{"{op}{key}.{outbox}", "*.o"},
		{"{region}.{outbox}{op}.{region}", "r.*.r"},
		{"a.b.c", "a.b.c"},
		{"a.b{op}", "a.*"},
		{"a.{op}b.c{key}", "a.*.*"},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		TideTemplate tpl = parse(cases[i].text);
		TideBuf out;

		tide_buf_init(&out);
		assert_true(tide_template_stream_subject(&tpl, "o", "r", &out));
		assert_string_equal(tide_buf_cstr(&out), cases[i].expected);
		tide_buf_free(&out);
	}
}

static void
uses(void **state)
{
	TideTemplate tpl = parse("{outbox}.{key}");

	(void) state;
	assert_true(tide_template_uses(&tpl, TIDE_VAR_KEY));
	assert_false(tide_template_uses(&tpl, TIDE_VAR_OP));
	assert_string_equal(tide_template_var_name(TIDE_VAR_EVENT_TYPE), "event_type");
}

static size_t
count(const char *s, size_t len, char c)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += s[i] == c;
	return n;
}

static void
any_values(void **state)
{
	static const char *const pieces[] = {"a",		 "b-",		 "_",		 "$",
										 ".",		 ".",		 "{op}",	 "{key}",
										 "{entity}", "{outbox}", "{region}", "{event_type}"};
	int parsed = 0;

	(void) state;
	test_seed("any_values");
	for (int run = 0; run < 50000; run++)
	{
		char text[128] = "";
		size_t text_len = 0;
		char bytes[TIDE_N_VARS][24];
		TideTemplate tpl;
		TideTemplateValues values = {0};
		TideBuf subject;
		TideBuf stream;

		for (size_t n = 1 + test_below(8); n > 0; n--)
			text_len += (size_t) snprintf(text + text_len, sizeof(text) - text_len, "%s",
										  pieces[test_below(LENGTH(pieces))]);
		if (!tide_template_parse(&tpl, text, text_len, NULL))
			continue;
		parsed++;
		for (int var = 0; var < TIDE_N_VARS; var++)
		{
			test_bytes(bytes[var], sizeof(bytes[var]));
			if (test_below(2) == 0)
				test_string(bytes[var], sizeof(bytes[var]) - 1, "ab.*> %$\t\n_");
			values.value[var] = (TideSpan){bytes[var], test_below(sizeof(bytes[var]))};
		}
		values.value[TIDE_VAR_OUTBOX] = span("out_box");
		values.value[TIDE_VAR_REGION] = span("us-east");
		tide_buf_init(&subject);
		tide_buf_init(&stream);
		assert_true(tide_template_render(&tpl, &values, &subject));
		assert_true(tide_template_stream_subject(&tpl, "out_box", "us-east", &stream));
		if (!tide_subject_valid(subject.data, false) || subject.data[0] == '$' ||
			!tide_subject_valid(stream.data, true) ||
			!tide_subject_covers(stream.data, subject.data) ||
			count(subject.data, subject.len, '.') != count(text, text_len, '.') ||
			strchr(stream.data, '>') != NULL)
			fail_msg("%s: %s, %s", text, subject.data, stream.data);
		tide_buf_free(&subject);
		tide_buf_free(&stream);
	}
	assert_true(parsed > 5000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses),		   cmocka_unit_test(limits),
		cmocka_unit_test(renders),		   cmocka_unit_test(render_limit),
		cmocka_unit_test(stream_subjects), cmocka_unit_test(uses),
		cmocka_unit_test(any_values),
	};

	return cmocka_run_group_tests_name("common_template", tests, NULL, NULL);
}
