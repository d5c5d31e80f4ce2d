/*
 * relay_pg_connect.c
 *		Tests of relay/src/pg.c and pg_error.c that need no server: failing to
 *		connect, in time, when asked to stop, and without telling a password.
 */
#include "relay_test.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pg.h"

static int silent_fd;
static int silent_port;

/* A port that takes connections and never says a word. */
static int
open_silent_port(void **state)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);

	(void) state;
	silent_fd = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(silent_fd, (struct sockaddr *) &addr, len) != 0 || listen(silent_fd, 16) != 0 ||
		getsockname(silent_fd, (struct sockaddr *) &addr, &len) != 0)
		return -1;
	silent_port = ntohs(addr.sin_port);
	return 0;
}

static int
close_silent_port(void **state)
{
	(void) state;
	return close(silent_fd);
}

static void
expect_failure(const char *conninfo, const TideStop *stop, TideErrorClass class, TideError *err)
{
	TidePg *pg;

	assert_false(tide_pg_open(conninfo, "test", stop, &pg, err));
	assert_null(pg);
	assert_string_equal(tide_error_class_name(err->class), tide_error_class_name(class));
}

static void
passwords_stay_secret(void **state)
{
	static const char *const conninfos[] = {
		"host=127.0.0.1 password=hun ter2",
		"host=127.0.0.1 password='hunter2",
		"host=127.0.0.1 passwort=hunter2",
		"password=hunter2 =x",
		"postgresql://u:hunter2@127.0.0.1:bad/db?x",
		"postgresql://u:hunter2@127.0.0.1/db?bogus=hunter2",
		"postgresql://u:hunter2@[::1/db",
		"postgresql://u:hunter2%zz@127.0.0.1/db",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(conninfos) / sizeof(conninfos[0]); i++)
	{
		TideError err = {0};

		expect_failure(conninfos[i], NULL, TIDE_ERR_CONFIG, &err);
		assert_lacks(err.message, "hunter2");
		assert_lacks(err.message, "ter2");
		assert_lacks(err.hint, "hunter2");
	}
}

static void
refused_connections(void **state)
{
	TideError err = {0};

	(void) state;
	expect_failure("host=127.0.0.1 port=1 password=hunter2", NULL, TIDE_ERR_UNAVAILABLE, &err);
	assert_contains(err.message, "127.0.0.1");
	assert_lacks(err.message, "\n");
	assert_lacks(err.message, "hunter2");
	expect_failure("host=127.0.0.1 sslmode=bogus", NULL, TIDE_ERR_CONFIG, &err);
}

static void
silent_servers_time_out(void **state)
{
	long long start = tide_monotonic_ms();
	TideError err = {0};
	char conninfo[128];

	(void) state;
	snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 port=%d connect_timeout=1", silent_port);
	expect_failure(conninfo, NULL, TIDE_ERR_TIMEOUT, &err);
	assert_contains(err.message, "127.0.0.1");
	assert_in_range(tide_monotonic_ms() - start, 900, 4000);
}

static void *
request_stop(void *arg)
{
	usleep(100000);
	tide_stop_request(arg);
	return NULL;
}

static void
stopping_ends_the_wait(void **state)
{
	TideStop *stop = tide_stop_new();
	long long start = tide_monotonic_ms();
	TideError err = {0};
	char conninfo[128];
	pthread_t thread;

	(void) state;
	snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 port=%d connect_timeout=30", silent_port);
	pthread_create(&thread, NULL, request_stop, stop);
	expect_failure(conninfo, stop, TIDE_ERR_STOPPED, &err);
	assert_true(tide_monotonic_ms() - start < 5000);
	pthread_join(thread, NULL);
	assert_true(tide_stop_requested(stop));

	/* Later sleeps end at once, too. */
	assert_false(tide_stop_sleep(stop, 10000));
	assert_true(tide_monotonic_ms() - start < 5000);
	tide_stop_free(stop);
	assert_false(tide_stop_requested(NULL));
	assert_true(tide_stop_sleep(NULL, 1));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passwords_stay_secret),
		cmocka_unit_test(refused_connections),
		cmocka_unit_test(silent_servers_time_out),
		cmocka_unit_test(stopping_ends_the_wait),
	};

	return cmocka_run_group_tests_name("relay_pg_connect", tests, open_silent_port,
									   close_silent_port);
}
