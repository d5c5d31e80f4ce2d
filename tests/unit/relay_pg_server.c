/*
 * relay_pg_server.c
 *		Tests of relay/src/pg.c, pg_error.c and pg_array.c against the server that
 *		TIDE_TEST_CONNINFO names; skipped without it.  tests/t/100_relay_shell.pl
 *		starts a server and runs this.
 */
#include "relay_test.h"

#include <pthread.h>
#include <unistd.h>

#include "mem.h"
#include "pg.h"

static const char *conninfo;
static TidePg *pg;

static int
set_up(void **state)
{
	TideError err;

	(void) state;
	if (conninfo != NULL && !tide_pg_open(conninfo, "test", NULL, &pg, &err))
		fail_msg("%s", err.message);
	return 0;
}

static int
tear_down(void **state)
{
	(void) state;
	tide_pg_close(pg);
	pg = NULL;
	return 0;
}

#define NEED_SERVER()         \
	do                        \
	{                         \
		(void) state;         \
		if (conninfo == NULL) \
			skip();           \
	}                         \
	while (0)

/* The query's one value; the caller frees it. */
static char *
value_of(TidePg *conn, const char *sql)
{
	PGresult *res;
	TideError err;
	char *value;

	if (!tide_pg_exec(conn, sql, 0, NULL, &res, &err))
		fail_msg("%s: %s", sql, err.message);
	value = tide_strdup(tide_pg_value(res, 0, 0) != NULL ? tide_pg_value(res, 0, 0) : "NULL");
	PQclear(res);
	return value;
}

static void
check_value(TidePg *conn, const char *sql, const char *expected)
{
	char *value = value_of(conn, sql);

	assert_string_equal(value, expected);
	free(value);
}

static void
parameters_and_results(void **state)
{
	const char *values[] = {"it's", NULL, "-9000000000"};
	PGresult *res;
	TideError err;

	NEED_SERVER();
	assert_true(tide_pg_exec(pg, "SELECT $1::text, $2::text, $3::int8", 3, values, &res, &err));
	assert_string_equal(tide_pg_value(res, 0, 0), "it's");
	assert_null(tide_pg_value(res, 0, 1));
	assert_int_equal(tide_pg_int64(res, 0, 1), 0);
	assert_int_equal(tide_pg_int64(res, 0, 2), INT64_C(-9000000000));
	PQclear(res);
	assert_true(tide_pg_exec(pg, "SET lock_timeout = 1000", 0, NULL, NULL, &err));
	assert_false(tide_pg_pending(pg));
}

/* What the server's codes mean for a pipeline. */
/* Every session begins so. */
static void
settings(void **state)
{
	NEED_SERVER();
	check_value(pg, "SHOW search_path", "pg_catalog, pg_temp");
	check_value(pg, "SHOW jit", "off");
	check_value(pg, "SHOW tide.relay", "on");
}

static void
sqlstates(void **state)
{
	static const struct
	{
		const char *code;
		TideErrorClass class;
	} expected[] = {
		{"08006", TIDE_ERR_UNAVAILABLE}, {"57P03", TIDE_ERR_UNAVAILABLE},
		{"53300", TIDE_ERR_UNAVAILABLE}, {"25006", TIDE_ERR_UNAVAILABLE},
		{"58030", TIDE_ERR_UNAVAILABLE}, {"53100", TIDE_ERR_THROTTLED},
		{"40001", TIDE_ERR_THROTTLED},	 {"40P01", TIDE_ERR_THROTTLED},
		{"55P03", TIDE_ERR_THROTTLED},	 {"57014", TIDE_ERR_TIMEOUT},
		{"28P01", TIDE_ERR_AUTH},		 {"42501", TIDE_ERR_PERMISSION},
		{"42P01", TIDE_ERR_CONFIG},		 {"42703", TIDE_ERR_CONFIG},
		{"22P02", TIDE_ERR_DATA},		 {"22P05", TIDE_ERR_DATA},
		{"23505", TIDE_ERR_DATA},		 {"54000", TIDE_ERR_DATA},
		{"P0001", TIDE_ERR_DATA},		 {"TD001", TIDE_ERR_STALE},
		{"TD002", TIDE_ERR_CONFIG},		 {"TD003", TIDE_ERR_CONFIG},
		{"XX000", TIDE_ERR_INTERNAL},
	};

	NEED_SERVER();
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
	{
		char *sql = tide_printf("DO $$ BEGIN RAISE 'thing' USING ERRCODE = '%s', DETAIL = 'more', "
								"HINT = 'do this'; END $$",
								expected[i].code);
		TideError err;

		assert_false(tide_pg_exec(pg, sql, 0, NULL, NULL, &err));
		assert_string_equal(err.code, expected[i].code);
		assert_string_equal(tide_error_class_name(err.class),
							tide_error_class_name(expected[i].class));
		assert_string_equal(err.message, "thing (more)");
		if (strcmp(expected[i].code, "42P01") != 0)
			assert_string_equal(err.hint, "do this");
		free(sql);
	}
	check_value(pg, "SELECT 1", "1"); /* and it goes on */
}

static void
missing_extension(void **state)
{
	TideError err;

	NEED_SERVER();
	assert_false(
		tide_pg_exec(pg, "SELECT pg_catalog.tide_no_such_function(1)", 0, NULL, NULL, &err));
	assert_int_equal(err.class, TIDE_ERR_CONFIG);
	assert_contains(err.hint, "CREATE EXTENSION pg_tide");
}

/* Sends an array in binary, takes it back as JSON. */
static void
check_array(TideArray *array, const char *type, const char *expected)
{
	char *sql = tide_printf("SELECT array_to_json($1::%s[])", type);
	const char *values[1];
	int lengths[1];
	int formats[1] = {1};
	PGresult *res;
	TideError err;

	values[0] = tide_array_data(array, &lengths[0]);
	assert_true(tide_pg_start(pg, sql, 1, values, lengths, formats, &err));
	if (!tide_pg_finish(pg, -1, &res, &err))
		fail_msg("%s", err.message);
	assert_string_equal(PQgetvalue(res, 0, 0), expected);
	PQclear(res);
	tide_array_free(array);
	free(sql);
}

static void
arrays(void **state)
{
	TideArray *array;

	NEED_SERVER();
	check_array(tide_array_new(TIDE_ARRAY_TEXT, 0), "text", "[]");
	array = tide_array_new(TIDE_ARRAY_TEXT, 0);
	tide_array_add(array, "a,\"b\" {}\\ \n NULL", 16);
	tide_array_add(array, NULL, 0);
	tide_array_add(array, "", 0);
	tide_array_add(array, "\xC3\xBC", 2);
	check_array(array, "text", "[\"a,\\\"b\\\" {}\\\\ \\n NULL\",null,\"\",\"\xC3\xBC\"]");
	array = tide_array_new(TIDE_ARRAY_JSONB, 2);
	tide_array_add(array, "{\"k\": [1.50, null]}", 19);
	tide_array_add(array, NULL, 0);
	check_array(array, "jsonb", "[{\"k\": [1.50, null]},null]");
	array = tide_array_new(TIDE_ARRAY_INT8, 2);
	tide_array_add_int8(array, INT64_MIN);
	tide_array_add_int8(array, INT64_MAX);
	check_array(array, "int8", "[-9223372036854775808,9223372036854775807]");
}

/* A statement larger than any socket buffer, answered by one as large. */
static void
large_values(void **state)
{
	size_t size = 20 * 1000 * 1000;
	char *text = tide_malloc(size + 1);
	const char *values[] = {text};
	PGresult *res;
	TideError err;

	NEED_SERVER();
	memset(text, 'x', size);
	text[size] = '\0';
	assert_true(tide_pg_exec(pg, "SELECT $1::text", 1, values, &res, &err));
	assert_int_equal(PQgetlength(res, 0, 0), size);
	PQclear(res);
	free(text);
}

static void
time_limits_leave_the_statement_alone(void **state)
{
	PGresult *res;
	TideError err;

	NEED_SERVER();
	assert_true(tide_pg_start(pg, "SELECT 7 FROM pg_sleep(0.4)", 0, NULL, NULL, NULL, &err));
	assert_true(tide_pg_pending(pg));
	assert_false(tide_pg_start(pg, "SELECT 8", 0, NULL, NULL, NULL, &err));
	assert_int_equal(err.class, TIDE_ERR_INTERNAL);
	assert_false(tide_pg_finish(pg, 20, &res, &err));
	assert_int_equal(err.class, TIDE_ERR_TIMEOUT);
	assert_null(res);
	assert_true(tide_pg_pending(pg));
	assert_true(tide_pg_finish(pg, 10000, &res, &err));
	assert_int_equal(tide_pg_int64(res, 0, 0), 7);
	PQclear(res);
	assert_false(tide_pg_finish(pg, 0, NULL, &err));
	assert_int_equal(err.class, TIDE_ERR_INTERNAL);
}

static void *
request_stop(void *arg)
{
	usleep(100000);
	tide_stop_request(arg);
	return NULL;
}

static void
stopping_cancels(void **state)
{
	TideStop *stop = tide_stop_new();
	long long start = tide_monotonic_ms();
	TidePg *stoppable;
	TideError err;
	pthread_t thread;
	char *pid;
	char *sql;

	NEED_SERVER();
	assert_true(tide_pg_open(conninfo, "stop", stop, &stoppable, &err));
	pid = value_of(stoppable, "SELECT pg_backend_pid()");
	pthread_create(&thread, NULL, request_stop, stop);
	assert_false(tide_pg_exec(stoppable, "SELECT pg_sleep(60)", 0, NULL, NULL, &err));
	assert_int_equal(err.class, TIDE_ERR_STOPPED);
	assert_true(tide_monotonic_ms() - start < 10000);
	pthread_join(thread, NULL);

	/* Cancelled there too, and the connection is whole. */
	sql = tide_printf("SELECT state FROM pg_stat_activity WHERE pid = %s", pid);
	check_value(pg, sql, "idle");
	assert_int_equal(PQtransactionStatus(tide_pg_conn(stoppable)), PQTRANS_IDLE);
	assert_false(tide_pg_pending(stoppable));
	tide_pg_close(stoppable);
	tide_stop_free(stop);
	free(sql);
	free(pid);
}

static void
notifications(void **state)
{
	TidePg *other;
	TideError err;
	int looks = 0;

	NEED_SERVER();
	assert_true(tide_pg_open(conninfo, "other", NULL, &other, &err));
	assert_true(tide_pg_exec(pg, "LISTEN here", 0, NULL, NULL, &err));
	assert_false(tide_pg_notified(pg));
	assert_true(tide_pg_exec(other, "NOTIFY elsewhere", 0, NULL, NULL, &err));
	assert_true(tide_pg_exec(pg, "SELECT 1", 0, NULL, NULL, &err));
	assert_false(tide_pg_notified(pg));
	assert_true(tide_pg_exec(other, "NOTIFY here", 0, NULL, NULL, &err));
	while (!tide_pg_notified(pg) && looks++ < 10000)
		usleep(1000);
	assert_true(looks < 10000);
	/* A statement reads it; what it read counts once. */
	assert_true(tide_pg_exec(pg, "SELECT 1", 0, NULL, NULL, &err));
	assert_true(tide_pg_notified(pg));
	assert_false(tide_pg_notified(pg));
	tide_pg_close(other);
}

static void
lost_connections(void **state)
{
	TidePg *doomed;
	TideError err;
	char *pid;
	char *sql;

	NEED_SERVER();
	assert_true(tide_pg_open(conninfo, "doomed", NULL, &doomed, &err));
	pid = value_of(doomed, "SELECT pg_backend_pid()");
	sql = tide_printf("SELECT pg_terminate_backend(%s, 5000)", pid);
	assert_true(tide_pg_start(doomed, "SELECT pg_sleep(60)", 0, NULL, NULL, NULL, &err));
	check_value(pg, sql, "t");
	assert_false(tide_pg_finish(doomed, -1, NULL, &err));
	assert_int_equal(err.class, TIDE_ERR_UNAVAILABLE);
	assert_false(tide_pg_exec(doomed, "SELECT 1", 0, NULL, NULL, &err));
	assert_int_equal(err.class, TIDE_ERR_UNAVAILABLE);
	tide_pg_close(doomed);
	free(sql);
	free(pid);
}

static char *
option_of(TidePg *conn, const char *keyword)
{
	PQconninfoOption *options = PQconninfo(tide_pg_conn(conn));
	char *value = NULL;

	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		if (strcmp(option->keyword, keyword) == 0 && option->val != NULL)
			value = tide_strdup(option->val);
	}
	PQconninfoFree(options);
	return value;
}

static void
check_option(TidePg *conn, const char *keyword, const char *expected)
{
	char *value = option_of(conn, keyword);

	assert_string_equal(value, expected);
	free(value);
}

static void
daemon_defaults(void **state)
{
	char *own;
	TidePg *other;
	TideError err;

	NEED_SERVER();
	check_value(pg, "SHOW application_name", "pg_tide test");
	check_option(pg, "keepalives_idle", "5");
	check_option(pg, "tcp_user_timeout", "10000");

	own = tide_printf("%s application_name=mine keepalives_idle=77 client_encoding=LATIN1",
					  conninfo);
	assert_true(tide_pg_open(own, "test", NULL, &other, &err));
	check_value(other, "SHOW application_name", "mine");
	check_value(other, "SHOW client_encoding", "UTF8");
	check_option(other, "keepalives_idle", "77");
	tide_pg_close(other);
	free(own);

	setenv("PGAPPNAME", "from the environment", 1);
	assert_true(tide_pg_open(conninfo, "test", NULL, &other, &err));
	check_value(other, "SHOW application_name", "from the environment");
	unsetenv("PGAPPNAME");
	tide_pg_close(other);
}

static void
refusals(void **state)
{
	char *text;
	TidePg *other;
	TideError err;

	NEED_SERVER();
	text = tide_printf("%s dbname=nosuchdatabase", conninfo);
	assert_false(tide_pg_open(text, "test", NULL, &other, &err));
	assert_string_equal(err.code, "3D000");
	assert_int_equal(err.class, TIDE_ERR_CONFIG);
	assert_contains(err.message, "nosuchdatabase");
	assert_lacks(err.message, "3D000");
	assert_lacks(err.message, "LOCATION");
	free(text);

	text = tide_printf("%s user=nosuchrole", conninfo);
	assert_false(tide_pg_open(text, "test", NULL, &other, &err));
	assert_int_equal(err.class, TIDE_ERR_AUTH);
	assert_contains(err.message, "nosuchrole");
	free(text);
}

/* Several under way, in their order; the first error fails what is behind it. */
static void
pipelines(void **state)
{
	TideError err;
	PGresult *res;
	TidePg *own;
	char number[16];
	const char *values[] = {number};

	NEED_SERVER();
	assert_true(tide_pg_open(conninfo, "test", NULL, &own, &err));
	assert_true(tide_pg_pipeline_begin(own, &err));
	for (int i = 1; i <= 3; i++)
	{
		snprintf(number, sizeof(number), "%d", i);
		assert_true(
			tide_pg_pipeline_start(own, "SELECT $1::int * 10", 1, values, NULL, NULL, &err));
	}
	assert_int_equal(tide_pg_pending(own), 3);
	for (int i = 1; i <= 3; i++)
	{
		assert_true(tide_pg_finish(own, -1, &res, &err));
		assert_int_equal(tide_pg_int64(res, 0, 0), i * 10);
		PQclear(res);
	}
	assert_true(tide_pg_pipeline_end(own, &err));
	assert_int_equal(tide_pg_pending(own), 0);
	free(value_of(own, "SELECT 1")); /* of use again */

	assert_true(tide_pg_pipeline_begin(own, &err));
	snprintf(number, sizeof(number), "0");
	assert_true(tide_pg_pipeline_start(own, "SELECT 1 / $1::int", 1, values, NULL, NULL, &err));
	assert_true(tide_pg_pipeline_start(own, "SELECT 1", 0, NULL, NULL, NULL, &err));
	assert_false(tide_pg_finish(own, -1, NULL, &err));
	assert_string_equal(err.code, "22012");
	assert_false(tide_pg_finish(own, -1, NULL, &err));
	tide_pg_close(own);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parameters_and_results),
		cmocka_unit_test(settings),
		cmocka_unit_test(sqlstates),
		cmocka_unit_test(missing_extension),
		cmocka_unit_test(arrays),
		cmocka_unit_test(large_values),
		cmocka_unit_test(time_limits_leave_the_statement_alone),
		cmocka_unit_test(stopping_cancels),
		cmocka_unit_test(pipelines),
		cmocka_unit_test(notifications),
		cmocka_unit_test(lost_connections),
		cmocka_unit_test(daemon_defaults),
		cmocka_unit_test(refusals),
	};

	unsetenv("PGAPPNAME"); /* a test harness sets it */
	conninfo = getenv("TIDE_TEST_CONNINFO");
	return cmocka_run_group_tests_name("relay_pg_server", tests, set_up, tear_down);
}
