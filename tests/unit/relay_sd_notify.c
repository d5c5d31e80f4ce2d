/*
 * relay_sd_notify.c
 *		Tests of relay/src/sd_notify.c: datagrams to both kinds of socket.
 */
#include "relay_test.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sd_notify.h"

static void
check(const char *path, const char *variable)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	char got[64] = "";
	socklen_t len = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + strlen(variable));

	memcpy(addr.sun_path, path, strlen(variable));
	assert_int_equal(bind(fd, (struct sockaddr *) &addr, len), 0);
	setenv("NOTIFY_SOCKET", variable, 1);
	assert_true(tide_sd_notify("READY=1\nSTATUS=x"));
	assert_int_equal(recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT), 16);
	assert_string_equal(got, "READY=1\nSTATUS=x");
	close(fd);
}

static void
sends(void **state)
{
	char path[64];
	char abstract[64];

	(void) state;
	snprintf(path, sizeof(path), "/tmp/tide-notify-%d", (int) getpid());
	snprintf(abstract, sizeof(abstract), "@tide-notify-%d", (int) getpid());
	check(path, path);
	unlink(path);

	char name[64];

	snprintf(name, sizeof(name), "%s", abstract);
	name[0] = '\0';
	check(name, abstract);
}

static void
does_nothing_otherwise(void **state)
{
	(void) state;
	unsetenv("NOTIFY_SOCKET");
	assert_false(tide_sd_notify("READY=1"));
	setenv("NOTIFY_SOCKET", "relative", 1);
	assert_false(tide_sd_notify("READY=1"));
	setenv("NOTIFY_SOCKET", "/tmp/no/such/socket", 1);
	assert_false(tide_sd_notify("READY=1"));
}

static void
watchdog(void **state)
{
	char pid[32];

	(void) state;
	unsetenv("WATCHDOG_USEC");
	assert_int_equal(tide_sd_watchdog_ms(), 0);
	setenv("WATCHDOG_USEC", "20000000", 1);
	assert_int_equal(tide_sd_watchdog_ms(), 10000);
	setenv("WATCHDOG_PID", "1", 1);
	assert_int_equal(tide_sd_watchdog_ms(), 0);
	snprintf(pid, sizeof(pid), "%d", (int) getpid());
	setenv("WATCHDOG_PID", pid, 1);
	assert_int_equal(tide_sd_watchdog_ms(), 10000);
	setenv("WATCHDOG_USEC", "junk", 1);
	assert_int_equal(tide_sd_watchdog_ms(), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sends),
		cmocka_unit_test(does_nothing_otherwise),
		cmocka_unit_test(watchdog),
	};

	return cmocka_run_group_tests_name("relay_sd_notify", tests, NULL, NULL);
}
