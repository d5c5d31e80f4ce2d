/*
 * relay_http.c
 *		Tests of relay/src/http.c, over real sockets on loopback.
 */
#include "relay_test.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"

static bool is_live = true;
static TideHttp *http;

static void
metrics(void *arg, FILE *out)
{
	(void) arg;
	fputs("some_metric 1\n", out);
}

static bool
live(void *arg)
{
	(void) arg;
	return is_live;
}

static bool
ready(void *arg, FILE *out)
{
	(void) arg;
	fputs("{\"ready\": false}\n", out);
	return false;
}

static const TideHttpCallbacks callbacks = {.metrics = metrics, .live = live, .ready = ready};

static const char *
ask(const char *request)
{
	static char answer[8192];
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons((uint16_t) tide_http_port(http)),
	};
	size_t len = 0;
	ssize_t n;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *) &addr, sizeof(addr)), 0);
	assert_int_equal(write(fd, request, strlen(request)), strlen(request));
	while ((n = read(fd, answer + len, sizeof(answer) - 1 - len)) > 0)
		len += (size_t) n;
	answer[len] = '\0';
	close(fd);
	return answer;
}

static const char *
get(const char *method, const char *path, const char *host)
{
	char request[512];

	snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
			 method, path, host);
	return ask(request);
}

#define STATUS(answer, status) \
	assert_memory_equal(answer, "HTTP/1.1 " status, strlen("HTTP/1.1 " status))

static void
endpoints(void **state)
{
	const char *answer = get("GET", "/metrics", "localhost");

	(void) state;
	STATUS(answer, "200");
	assert_contains(answer, "text/plain; version=0.0.4");
	assert_contains(answer, "\r\n\r\nsome_metric 1\n");
	assert_contains(answer, "nosniff");
	assert_contains(answer, "Content-Security-Policy: default-src 'none'");

	STATUS(get("GET", "/livez", "localhost:1234"), "200");
	is_live = false;
	STATUS(get("GET", "/livez", "127.0.0.1"), "503");
	is_live = true;
	answer = get("GET", "/readyz?verbose=1", "[::1]:80");
	STATUS(answer, "503");
	assert_contains(answer, "{\"ready\": false}");
	answer = get("GET", "/", "LOCALHOST");
	STATUS(answer, "200");
	assert_contains(answer, "text/html");
	assert_contains(answer, "href=\"/metrics\"");
}

static void
head_has_no_body(void **state)
{
	const char *answer = get("HEAD", "/metrics", "localhost");

	(void) state;
	STATUS(answer, "200");
	assert_contains(answer, "Content-Length: 14");
	assert_lacks(answer, "some_metric");
}

static void
refusals(void **state)
{
	const char *answer = get("POST", "/metrics", "localhost");

	(void) state;
	STATUS(answer, "405");
	assert_contains(answer, "Allow: GET, HEAD");
	STATUS(get("DELETE", "/", "localhost"), "405");
	STATUS(get("GET", "/etc/passwd", "localhost"), "404");
	STATUS(get("GET", "/metrics/", "localhost"), "404");
	STATUS(get("GET", "/../metrics", "localhost"), "404");
}

/* Names that only a page of somebody else's would send. */
static void
foreign_hosts(void **state)
{
	static const char *const hosts[] = {"evil.example",
										"127.0.0.1.evil.example",
										"localhost.evil.example",
										"localhostx",
										"127.evil",
										"evil.example:8017",
										"[::2]",
										"0.0.0.0"};

	(void) state;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
	{
		const char *answer = get("GET", "/metrics", hosts[i]);

		STATUS(answer, "403");
		assert_lacks(answer, "some_metric");
	}
	assert_contains(ask("GET /metrics HTTP/1.0\r\n\r\n"), "some_metric");
	STATUS(get("GET", "/metrics", "127.0.0.9:1"), "200");
}

static void
addresses(void **state)
{
	static const char *const bad[] = {"",
									  "8017",
									  "127.0.0.1",
									  "127.0.0.1:",
									  "127.0.0.1:x",
									  "::1:8017",
									  "127.0.0.1:65536",
									  "127.0.0.1:-1",
									  "[::1:80",
									  "127.0.0.1:123456"};
	TideHttp *other;
	TideError err;
	char taken[64];

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		assert_false(tide_http_start(bad[i], &callbacks, &other, &err));
		assert_null(other);
		assert_int_equal(err.class, TIDE_ERR_CONFIG);
	}
	snprintf(taken, sizeof(taken), "127.0.0.1:%d", tide_http_port(http));
	assert_false(tide_http_start(taken, &callbacks, &other, &err));
	assert_int_equal(err.class, TIDE_ERR_CONFIG);
	assert_contains(err.message, taken);

	assert_true(tide_http_start("localhost:0", &callbacks, &other, &err));
	assert_true(tide_http_port(other) > 0);
	tide_http_stop(other);
	tide_http_stop(NULL);
}

static int
set_up(void **state)
{
	TideError err;

	(void) state;
	return tide_http_start("127.0.0.1:0", &callbacks, &http, &err) ? 0 : -1;
}

static int
tear_down(void **state)
{
	(void) state;
	tide_http_stop(http);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(endpoints), cmocka_unit_test(head_has_no_body),
		cmocka_unit_test(refusals),	 cmocka_unit_test(foreign_hosts),
		cmocka_unit_test(addresses),
	};

	return cmocka_run_group_tests_name("relay_http", tests, set_up, tear_down);
}
