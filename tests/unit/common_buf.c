/*
 * common_buf.c
 *		Tests of the growing buffer.
 *
 * Owns: growth, sticky failure, fixed memory.
 */
#include "common_test.h"

#include "tide_buf.h"
#include "tide_text.h"

static size_t allowed;

static void *
limited_resize(void *ptr, size_t size)
{
	return size > allowed ? NULL : realloc(ptr, size);
}

static void
grows(void **state)
{
	TideBuf buf;
	char expected[3000] = "";
	size_t len = 0;

	(void) state;
	tide_buf_init(&buf);
	assert_string_equal(tide_buf_cstr(&buf), "");
	for (int i = 0; i < 500; i++)
	{
		assert_true(tide_buf_printf(&buf, "%d,", i));
		len += (size_t) snprintf(expected + len, sizeof(expected) - len, "%d,", i);
	}
	assert_int_equal(buf.len, len);
	assert_string_equal(tide_buf_cstr(&buf), expected);
	tide_buf_reset(&buf);
	assert_int_equal(buf.len, 0);
	assert_string_equal(tide_buf_cstr(&buf), "");
	assert_true(tide_buf_append(&buf, "a\0b", 3));
	assert_memory_equal(buf.data, "a\0b", 4);
	tide_buf_free(&buf);
	assert_null(buf.data);
}

static void
failure_is_sticky(void **state)
{
	TideBuf buf;

	(void) state;
	allowed = 64;
	tide_buf_init_with(&buf, limited_resize, free);
	assert_true(tide_buf_append_str(&buf, "kept"));
	for (int i = 0; i < 100 && !buf.oom; i++)
		tide_buf_append_str(&buf, "0123456789");
	assert_true(buf.oom);
	assert_int_equal(buf.len, 54); /* 4 + 5 * 10, as the next would need 65 with the NUL */
	assert_false(tide_buf_append_char(&buf, 'x'));
	assert_false(tide_buf_printf(&buf, "%s", "x"));
	assert_int_equal(buf.len, 54);
	tide_buf_reset(&buf);
	assert_true(tide_buf_append_char(&buf, 'x'));
	tide_buf_free(&buf);
}

static void
refuses_impossible_sizes(void **state)
{
	TideBuf buf;

	(void) state;
	tide_buf_init(&buf);
	assert_true(tide_buf_append_str(&buf, "abc"));
	assert_false(tide_buf_append(&buf, "x", SIZE_MAX - 2));
	assert_true(buf.oom);
	assert_string_equal(buf.data, "abc");
	tide_buf_free(&buf);
}

static void
fixed_memory_is_cut(void **state)
{
	char memory[8];
	TideBuf buf;

	(void) state;
	tide_buf_init_fixed(&buf, memory, sizeof(memory));
	assert_true(tide_buf_append_str(&buf, "1234567"));
	assert_false(buf.oom);
	assert_false(tide_buf_append_char(&buf, '8'));
	assert_string_equal(memory, "1234567");

	tide_buf_init_fixed(&buf, memory, sizeof(memory));
	assert_false(tide_buf_printf(&buf, "%s-%d", "12345", 6789));
	assert_string_equal(memory, "12345-6");
	assert_false(tide_buf_append_str(&buf, "x"));
	assert_string_equal(memory, "12345-6");

	tide_buf_init_fixed(&buf, memory, 1);
	assert_false(tide_buf_append_str(&buf, "x"));
	assert_string_equal(memory, "");
}

/* Whatever the cut, valid UTF-8 stays valid, and loses less than one character. */
static void
fixed_memory_keeps_utf8(void **state)
{
	static const char text[] =
		"a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z\xF0\x9F\x98\x80\xE2\x82\xAC\xC3\xA9";
	char memory[sizeof(text)];

	(void) state;
	for (size_t size = 1; size <= sizeof(text); size++)
	{
		TideBuf buf;

		for (int by_printf = 0; by_printf < 2; by_printf++)
		{
			tide_buf_init_fixed(&buf, memory, size);
			if (by_printf)
				tide_buf_printf(&buf, "%s", text);
			else
				tide_buf_append_str(&buf, text);
			assert_true(tide_utf8_valid(memory, strlen(memory)));
			assert_int_equal(strlen(memory), buf.len);
			assert_memory_equal(memory, text, buf.len);
			assert_true(buf.len + 4 >= size);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grows),
		cmocka_unit_test(failure_is_sticky),
		cmocka_unit_test(refuses_impossible_sizes),
		cmocka_unit_test(fixed_memory_is_cut),
		cmocka_unit_test(fixed_memory_keeps_utf8),
	};

	return cmocka_run_group_tests_name("common_buf", tests, NULL, NULL);
}
