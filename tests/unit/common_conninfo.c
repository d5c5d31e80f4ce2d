/*
 * common_conninfo.c
 *		Tests of connection strings, URLs and secret references.
 *
 * Owns: known ways a password can hide, each by name.  common_conninfo_libpq.c
 * asks libpq itself about random strings.
 */
#include "common_test.h"

#include "tide_conninfo.h"

static void
conninfos(void **state)
{
	static const struct
	{
		const char *text;
		TideConninfoState expected;
	} cases[] = {
		/* keyword = value */
		{"", TIDE_CONNINFO_OK},
		{"  ", TIDE_CONNINFO_OK},
		{"host=a dbname=b", TIDE_CONNINFO_OK},
		{"host = a\n\tport\t=\t5432", TIDE_CONNINFO_OK},
		{"host='a b' dbname='it\\'s'", TIDE_CONNINFO_OK},
		{"host=a dbname='x'user=y", TIDE_CONNINFO_OK},
		{"passfile=/a/b sslpasswordx=1", TIDE_CONNINFO_OK},
		{"dbname=password", TIDE_CONNINFO_OK},
		{"dbname='password=x'", TIDE_CONNINFO_OK},
		{"dbname=a\\ password=x", TIDE_CONNINFO_OK}, /* one value: "a password=x" */
		{"dbname='a\\'' user=x", TIDE_CONNINFO_OK},
		{"options='-c x=y'", TIDE_CONNINFO_OK},
		{"host= password=x", TIDE_CONNINFO_OK}, /* host is "password=x" */
		{"password=", TIDE_CONNINFO_OK},
		{"password=''", TIDE_CONNINFO_OK},
		{"password='' host=a", TIDE_CONNINFO_OK},
		{"password=x", TIDE_CONNINFO_PASSWORD},
		{"host=a password=x", TIDE_CONNINFO_PASSWORD},
		{"host=a password  =  x", TIDE_CONNINFO_PASSWORD},
		{"password='x' host=a", TIDE_CONNINFO_PASSWORD},
		{"dbname='a'password=x", TIDE_CONNINFO_PASSWORD},
		{"password=' '", TIDE_CONNINFO_PASSWORD},
		{"password=\\ ", TIDE_CONNINFO_PASSWORD},
		{"password=x password=", TIDE_CONNINFO_PASSWORD},
		{"PassWord=x", TIDE_CONNINFO_PASSWORD},
		{"host=a\npassword=x", TIDE_CONNINFO_PASSWORD},
		{"sslpassword=x", TIDE_CONNINFO_PASSWORD},
		{"oauth_client_secret=x", TIDE_CONNINFO_PASSWORD},
		{"scram_client_key=x", TIDE_CONNINFO_PASSWORD},
		{"host", TIDE_CONNINFO_MALFORMED},
		{"host=a b", TIDE_CONNINFO_MALFORMED},
		{"=a", TIDE_CONNINFO_MALFORMED},
		{"host='a", TIDE_CONNINFO_MALFORMED},
		{"host='a\\'", TIDE_CONNINFO_MALFORMED},
		{"host='a\\", TIDE_CONNINFO_MALFORMED},
		{"ho-st=a", TIDE_CONNINFO_MALFORMED},
		{"mydb", TIDE_CONNINFO_MALFORMED},
		/* URIs */
		{"postgres://", TIDE_CONNINFO_OK},
		{"postgresql://host", TIDE_CONNINFO_OK},
		{"postgresql://user@host:5432/db?sslmode=require&target_session_attrs=any",
		 TIDE_CONNINFO_OK},
		{"postgresql://user:@host/db", TIDE_CONNINFO_OK},
		{"postgres://[::1]:5432,b:5433/db", TIDE_CONNINFO_OK},
		{"postgres:///db?host=/tmp", TIDE_CONNINFO_OK},
		{"postgres://%2Ftmp/db", TIDE_CONNINFO_OK},
		{"postgres://h?password=", TIDE_CONNINFO_OK},
		{"postgres://h?user=a%3Dpassword", TIDE_CONNINFO_OK},
		{"postgres://user:secret@host/db", TIDE_CONNINFO_PASSWORD},
		{"postgres://:secret@host/db", TIDE_CONNINFO_PASSWORD},
		{"postgres://u:s@ecret@host", TIDE_CONNINFO_PASSWORD},
		{"postgres://u:sec/ret@host", TIDE_CONNINFO_MALFORMED},
		{"postgres://h/db?password=x", TIDE_CONNINFO_PASSWORD},
		{"postgres://h/db?user=a&password=x", TIDE_CONNINFO_PASSWORD},
		{"postgres://h?pass%77ord=x", TIDE_CONNINFO_PASSWORD},
		{"postgres://h?sslpassword=x&a=b", TIDE_CONNINFO_PASSWORD},
		{"postgres://[h?]/db?password=x", TIDE_CONNINFO_PASSWORD},
		{"postgres://u:x@h?user=b", TIDE_CONNINFO_PASSWORD},
		{"postgres://h?PASSWORD=x", TIDE_CONNINFO_PASSWORD},
		{"postgres://h?password", TIDE_CONNINFO_MALFORMED},
		{"postgres://h?a=b=c", TIDE_CONNINFO_MALFORMED},
		{"postgres://h?pass%7=x", TIDE_CONNINFO_MALFORMED},
		{"postgres://h?pass%00word=x", TIDE_CONNINFO_MALFORMED},
		{"postgres://h?%zz=x", TIDE_CONNINFO_MALFORMED},
		{"postgres://[::1/db", TIDE_CONNINFO_MALFORMED},
		{"postgres://[::1]x/db", TIDE_CONNINFO_MALFORMED},
		{" postgres://u:p@h/db?a=b", TIDE_CONNINFO_MALFORMED},
		{"POSTGRES://u:p@h/db?a=b", TIDE_CONNINFO_MALFORMED},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		TideConninfoState got = tide_conninfo_scan(cases[i].text);

		if (got != cases[i].expected)
			fail_msg("\"%s\": %d, not %d", cases[i].text, (int) got, (int) cases[i].expected);
		assert_int_equal(tide_conninfo_has_password(cases[i].text), got == TIDE_CONNINFO_PASSWORD);
	}
}

/* However it is quoted and spaced, a password is found, and without one there is none. */
static void
passwords_are_found(void **state)
{
	static const char *const before[] = {"", "host=a ", "host='a b'\t", "dbname='\\'' ",
										 "user=\\'x "};
	static const char *const equals[] = {"=", " =", "= ", "\t=\n"};
	static const char *const values[] = {"x", "'x'", "\\'", "'\\''", "'\\\\'", "x'"};
	static const char *const after[] = {"", " host=b", " dbname='c d'"};

	(void) state;
	test_seed("passwords_are_found");
	for (int run = 0; run < 5000; run++)
	{
		const char *b = before[test_below(LENGTH(before))];
		const char *e = equals[test_below(LENGTH(equals))];
		const char *v = values[test_below(LENGTH(values))];
		const char *a = after[test_below(LENGTH(after))];
		char text[200];

		snprintf(text, sizeof(text), "%spassword%s%s%s", b, e, v, a);
		if (tide_conninfo_scan(text) != TIDE_CONNINFO_PASSWORD)
			fail_msg("\"%s\"", text);
		snprintf(text, sizeof(text), "%spassfile%s%s%s", b, e, v, a);
		if (tide_conninfo_scan(text) != TIDE_CONNINFO_OK)
			fail_msg("\"%s\"", text);
	}
}

static void
secrets(void **state)
{
	static const char *const bad[] = {
		"",		   "secret",	 "env:",	 "env:1A",	 "env:A-B", "env:A B",
		"env: A",  "ENV:A",		 "file:",	 "file:a/b", "file:/",	"file:/a/",
		"file://", "file:/a\nb", "file:~/a", "vault:x",	 "env:A\n",
	};
	TideSecretKind kind;
	TideSpan name;

	(void) state;
	for (size_t i = 0; i < LENGTH(bad); i++)
	{
		if (tide_secret_parse(bad[i], strlen(bad[i]), &kind, &name))
			fail_msg("took \"%s\"", bad[i]);
	}
	assert_true(tide_secret_parse("env:NATS_TOKEN", 14, &kind, &name));
	assert_int_equal(kind, TIDE_SECRET_ENV);
	assert_int_equal(name.len, 10);
	assert_memory_equal(name.ptr, "NATS_TOKEN", 10);
	assert_true(tide_secret_parse("file:/run/a b", 13, &kind, &name));
	assert_int_equal(kind, TIDE_SECRET_FILE);
	assert_memory_equal(name.ptr, "/run/a b", name.len);
	assert_true(tide_secret_parse("env:_", 5, NULL, NULL));
	assert_false(tide_secret_parse("env:A\0B", 7, NULL, NULL));
}

static void
urls(void **state)
{
	static const struct
	{
		const char *url;
		TideUrlState expected;
	} cases[] = {
		{"nats://nats-us:4222", TIDE_URL_OK},
		{"tls://a.example.org", TIDE_URL_OK},
		{"nats://127.0.0.1:65535", TIDE_URL_OK},
		{"nats://[::1]:4222", TIDE_URL_OK},
		{"nats://[fe80::1]", TIDE_URL_OK},
		{"nats://user:pw@h:4222", TIDE_URL_USERINFO},
		{"nats://token@h", TIDE_URL_USERINFO},
		{"user:pw@h", TIDE_URL_USERINFO},
		{"nats://h/@", TIDE_URL_USERINFO},
		{"", TIDE_URL_SCHEME},
		{"h:4222", TIDE_URL_SCHEME},
		{"http://h", TIDE_URL_SCHEME},
		{"NATS://h", TIDE_URL_SCHEME},
		{"nats:/h", TIDE_URL_SCHEME},
		{"nats://", TIDE_URL_MALFORMED},
		{"nats://:4222", TIDE_URL_MALFORMED},
		{"nats://h:", TIDE_URL_MALFORMED},
		{"nats://h:0", TIDE_URL_MALFORMED},
		{"nats://h:65536", TIDE_URL_MALFORMED},
		{"nats://h:99999999999999999999", TIDE_URL_MALFORMED},
		{"nats://h:+1", TIDE_URL_MALFORMED},
		{"nats://h:4222/", TIDE_URL_MALFORMED},
		{"nats://h?x=y", TIDE_URL_MALFORMED},
		{"nats://h h", TIDE_URL_MALFORMED},
		{"nats://[]", TIDE_URL_MALFORMED},
		{"nats://[::1", TIDE_URL_MALFORMED},
		{"nats://[::1]x", TIDE_URL_MALFORMED},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		TideUrlState got = tide_url_check((TideSpan){cases[i].url, strlen(cases[i].url)});

		if (got != cases[i].expected)
			fail_msg("\"%s\": %d, not %d", cases[i].url, (int) got, (int) cases[i].expected);
	}
}

static void
url_lists(void **state)
{
	static const struct
	{
		const char *list;
		const char *joined;
	} cases[] = {
		{"a", "<a>"},  {"a,b", "<a><b>"}, {" a , b\t,c ", "<a><b><c>"},
		{"", "<>"},	   {",", "<><>"},	  {"a,,b,", "<a><><b><>"},
		{"   ", "<>"},
	};

	(void) state;
	for (size_t i = 0; i < LENGTH(cases); i++)
	{
		TideSpan rest = {cases[i].list, strlen(cases[i].list)};
		TideSpan url;
		TideBuf joined;

		tide_buf_init(&joined);
		while (tide_url_next(&rest, &url))
			tide_buf_printf(&joined, "<%.*s>", (int) url.len, url.ptr);
		assert_string_equal(tide_buf_cstr(&joined), cases[i].joined);
		tide_buf_free(&joined);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conninfos), cmocka_unit_test(passwords_are_found),
		cmocka_unit_test(secrets),	 cmocka_unit_test(urls),
		cmocka_unit_test(url_lists),
	};

	return cmocka_run_group_tests_name("common_conninfo", tests, NULL, NULL);
}
