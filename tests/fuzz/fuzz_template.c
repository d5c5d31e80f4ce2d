/*
 * fuzz_template.c
 *		Fuzzes templates, what they render, and the algebra of subjects.
 *
 * Owns: that rendered subjects are valid and covered, for any template and any values.
 */
#include "fuzz.h"

#include "tide_template.h"

static void
check_pair(const char *a, const char *b)
{
	if (!tide_subject_valid(a, true) || !tide_subject_valid(b, true))
	{
		/* Promised not to crash. */
		(void) tide_subject_covers(a, b);
		(void) tide_subject_overlaps(a, b);
		return;
	}
	CHECK(tide_subject_covers(a, a) && tide_subject_covers(">", a));
	CHECK(tide_subject_overlaps(a, b) == tide_subject_overlaps(b, a));
	if (tide_subject_covers(a, b))
		CHECK(tide_subject_overlaps(a, b));
	if (tide_subject_valid(b, false))
		CHECK(tide_subject_matches(a, b) == tide_subject_overlaps(a, b));
}

static void
check_render(const TideTemplate *tpl, const char *value, size_t len)
{
	TideTemplateValues values;
	TideBuf subject;
	TideBuf stream;

	for (int i = 0; i < TIDE_N_VARS; i++)
		values.value[i] = (TideSpan){value, len};
	values.value[TIDE_VAR_OUTBOX] = (TideSpan){"o-x", 3};
	values.value[TIDE_VAR_REGION] = (TideSpan){"us", 2};
	tide_buf_init(&subject);
	tide_buf_init(&stream);
	CHECK(tide_template_stream_subject(tpl, "o-x", "us", &stream));
	CHECK(tide_subject_valid(stream.data, true));
	if (tide_template_render(tpl, &values, &subject))
	{
		CHECK(tide_subject_valid(subject.data, false));
		CHECK(tide_subject_covers(stream.data, subject.data));
		CHECK(subject.data[0] != '$');
	}
	else
		CHECK(subject.len == 0 && !subject.oom);
	tide_buf_free(&subject);
	tide_buf_free(&stream);
}

/* A template, a '|', and a value for its variables; both also taken as subjects. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_string(data, size);
	char *bar = memchr(text, '|', size);
	size_t len = bar != NULL ? (size_t) (bar - text) : size;
	char *value = bar != NULL ? bar + 1 : text + size;
	size_t value_len = (size_t) (text + size - value);
	TideTemplate *tpl = malloc(sizeof(*tpl));
	TideTemplateError error = {.position = SIZE_MAX};

	CHECK(tpl != NULL);
	if (tide_template_parse(tpl, text, len, &error))
		check_render(tpl, value, value_len);
	else
	{
		CHECK(error.position <= len && strlen(error.message) > 0 && strlen(error.hint) > 0);
		CHECK(tide_utf8_valid(error.message, strlen(error.message)));
	}
	if (bar != NULL)
		*bar = '\0';
	check_pair(text, value);
	check_pair(value, text);
	free(tpl);
	free(text);
	return 0;
}
