/*
 * common_conninfo_libpq.c
 *		Compares the connection-string scanner with libpq itself.
 *
 * Owns: the property that matters: whatever string libpq would take a password
 * from, the scanner says so.  Links libpq, unlike the library it tests.
 */
#include "common_test.h"

#include <libpq-fe.h>

#include "tide_conninfo.h"

static const char *const keyword_pieces[] = {
	"password", "pass%77ord", "sslpassword", "host", "dbname", "user", "port", "=",
	"=",		"=",		  " ",			 " ",	 "'",	   "\\",   "\\'",  "x",
	"5432",		"\t",		  "\n",			 "@",	 "/",	   "&",	   "%",
};

static const char *const uri_pieces[] = {
	"password", "pass%77ord", "p%61ssword", "sslpassword", "host", "dbname", "user",  "=", "=",
	"&",		"?",		  "@",			":",		   "/",	   ",",		 "[::1]", "[", "]",
	"x",		"5432",		  "%20",		"%",		   "%00",  " ",		 "'",
};

static bool
libpq_password(const char *text, bool *parsed)
{
	char *error = NULL;
	PQconninfoOption *options = PQconninfoParse(text, &error);
	bool found = false;

	*parsed = options != NULL;
	for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
	{
		if (strcmp(o->keyword, "password") == 0 || strcmp(o->keyword, "sslpassword") == 0)
			found |= o->val != NULL && o->val[0] != '\0';
	}
	PQconninfoFree(options);
	PQfreemem(error);
	return found;
}

static int n_parsed;
static int n_password;

static void
compare(const char *text)
{
	bool parsed;
	bool password = libpq_password(text, &parsed);
	TideConninfoState state = tide_conninfo_scan(text);

	n_parsed += parsed;
	n_password += password;
	/* We are stricter in one thing: what stands behind a host's colon must be digits. */
	if (parsed && state == TIDE_CONNINFO_MALFORMED &&
		(strstr(text, "://") == NULL || strchr(strstr(text, "://") + 3, ':') == NULL))
		fail_msg("refused \"%s\"", text);
	if (password && state == TIDE_CONNINFO_OK)
		fail_msg("password missed in \"%s\"", text);
	/* Given twice, libpq takes the last, we refuse any in clear.  But none must be imagined. */
	if (parsed && !password && state == TIDE_CONNINFO_PASSWORD && strstr(text, "ord") == NULL)
		fail_msg("password imagined in \"%s\"", text);
}

static void
report(void)
{
	printf("%d taken by libpq, %d with a password\n", n_parsed, n_password);
	assert_true(n_parsed > 1000 && n_password > 1000);
}

static void
keywords(void **state)
{
	(void) state;
	test_seed("keywords");
	n_parsed = n_password = 0;
	for (int run = 0; run < 300000; run++)
	{
		char text[256] = "";
		size_t len = 0;

		if (test_below(2) == 0)
			len = (size_t) snprintf(text, sizeof(text), "password=");
		for (size_t n = 1 + test_below(10); n > 0; n--)
			len += (size_t) snprintf(text + len, sizeof(text) - len, "%s",
									 keyword_pieces[test_below(LENGTH(keyword_pieces))]);
		compare(text);
	}
	report();
}

static void
uris(void **state)
{
	(void) state;
	test_seed("uris");
	n_parsed = n_password = 0;
	for (int run = 0; run < 300000; run++)
	{
		char text[256];
		size_t len = (size_t) snprintf(text, sizeof(text), "%s://%s",
									   test_below(2) ? "postgres" : "postgresql",
									   test_below(4) ? "" : "u:x@");

		for (size_t n = 1 + test_below(10); n > 0; n--)
			len += (size_t) snprintf(text + len, sizeof(text) - len, "%s",
									 uri_pieces[test_below(LENGTH(uri_pieces))]);
		compare(text);
	}
	report();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keywords),
		cmocka_unit_test(uris),
	};

	return cmocka_run_group_tests_name("common_conninfo_libpq", tests, NULL, NULL);
}
