/*
 * nats_test.h
 *		Real nats-servers for tests in C: started, killed and restarted by the test.
 *
 * Owns: processes, ports and folders of one test program; a stand-in for the
 * home database (what it has received, and the position), kept in memory.  Does
 * not own: any case.
 */
#ifndef NATS_TEST_H
#define NATS_TEST_H

/* cmocka.h needs these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena.h"
#include "connector.h"
#include "mem.h"
#include "nats_home.h"

typedef struct TestServer
{
	pid_t pid;
	int port;
	int leaf_port;
	char dir[200];
	char extra[1200]; /* more configuration */
} TestServer;

static inline int
test_free_port(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0 && bind(fd, (struct sockaddr *) &addr, len) == 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *) &addr, &len), 0);
	close(fd);
	return ntohs(addr.sin_port);
}

static inline bool
test_port_open(int port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
							   .sin_port = htons((uint16_t) port),
							   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool open = connect(fd, (struct sockaddr *) &addr, sizeof(addr)) == 0;

	close(fd);
	return open;
}

/* Waits up to limit_ms for the condition. */
#define TEST_WAIT(condition, limit_ms)                                          \
	do                                                                          \
	{                                                                           \
		long long end_ = tide_monotonic_ms() + (limit_ms);                      \
		while (!(condition))                                                    \
		{                                                                       \
			if (tide_monotonic_ms() > end_)                                     \
				fail_msg("not within %d ms: %s", (int) (limit_ms), #condition); \
			usleep(20000);                                                      \
		}                                                                       \
	}                                                                           \
	while (0)

/* Starts (again) with the same port and store. */
static inline void
test_server_start(TestServer *server)
{
	char path[260];
	FILE *conf;

	snprintf(path, sizeof(path), "%s/nats.conf", server->dir);
	conf = fopen(path, "w");
	assert_non_null(conf);
	fprintf(conf, "listen: 127.0.0.1:%d\n%s\n", server->port, server->extra);
	fclose(conf);
	server->pid = fork();
	assert_true(server->pid >= 0);
	if (server->pid == 0)
	{
		char log[260];
		int fd;

		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves nothing behind */
		snprintf(log, sizeof(log), "%s/log", server->dir);
		fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
		dup2(fd, 1);
		dup2(fd, 2);
		execlp("nats-server", "nats-server", "-c", path, (char *) NULL);
		_exit(127);
	}
	TEST_WAIT(test_port_open(server->port), 10000);
}

/* domain NULL: none.  more: appended to the configuration; may be "". */
static inline void
test_server_new(TestServer *server, const char *domain, const char *more)
{
	char base[] = "/tmp/tide_nats_XXXXXX";

	assert_non_null(mkdtemp(base));
	*server = (TestServer){.port = test_free_port()};
	snprintf(server->dir, sizeof(server->dir), "%s", base);
	snprintf(server->extra, sizeof(server->extra), "jetstream { store_dir: \"%s/js\"%s%s%s }\n%s",
			 base, domain != NULL ? ", domain: \"" : "", domain != NULL ? domain : "",
			 domain != NULL ? "\"" : "", more);
	test_server_start(server);
}

static inline void
test_server_kill(TestServer *server)
{
	int status;

	if (server->pid <= 0)
		return;
	kill(server->pid, SIGKILL);
	waitpid(server->pid, &status, 0);
	server->pid = 0;
}

static inline void
test_server_free(TestServer *server)
{
	char command[260];

	test_server_kill(server);
	snprintf(command, sizeof(command), "rm -rf '%s'", server->dir);
	assert_int_equal(system(command), 0);
}

static inline bool
test_have_server(void)
{
	return system("command -v nats-server >/dev/null 2>&1") == 0;
}

/*
 * The home database's stand-in
 */

typedef struct TestHome
{
	char position[300]; /* "": none */
	char **ids;			/* received, in order of first arrival */
	size_t n_ids;
	size_t cap;
} TestHome;

static TestHome test_home;

static inline bool
test_home_has(const char *id)
{
	for (size_t i = test_home.n_ids; i > 0; i--)
	{
		if (strcmp(test_home.ids[i - 1], id) == 0)
			return true;
	}
	return false;
}

static inline void
test_home_add(const char *id)
{
	if (test_home.n_ids == test_home.cap)
	{
		test_home.cap = test_home.cap * 2 + 1024;
		test_home.ids = tide_realloc(test_home.ids, test_home.cap * sizeof(char *));
	}
	test_home.ids[test_home.n_ids++] = tide_strdup(id);
}

static inline void
test_home_clear(void)
{
	for (size_t i = 0; i < test_home.n_ids; i++)
		free(test_home.ids[i]);
	free(test_home.ids);
	memset(&test_home, 0, sizeof(test_home));
}

static inline bool
test_home_open(const char *conninfo, const char *what, const TideStop *stop, TidePg **pg,
			   TideError *err)
{
	(void) conninfo;
	(void) what;
	(void) stop;
	(void) err;
	*pg = (TidePg *) &test_home;
	return true;
}

static inline bool
test_home_position(TidePg *pg, const char *pipeline, TideArena *arena, const char **text,
				   TideError *err)
{
	(void) pg;
	(void) pipeline;
	(void) err;
	*text = test_home.position[0] != '\0' ? tide_arena_strdup(arena, test_home.position) : NULL;
	return true;
}

static inline bool
test_home_missing(TidePg *pg, const char *inbox, const TideSlice *ids, size_t n_ids,
				  TideArena *arena, TideSlice **missing, size_t *n_missing, TideError *err)
{
	(void) pg;
	(void) inbox;
	(void) err;
	*missing = tide_arena_alloc(arena, (n_ids + 1) * sizeof(TideSlice));
	*n_missing = 0;
	for (size_t i = 0; i < n_ids; i++)
	{
		if (!test_home_has(ids[i].ptr))
			(*missing)[(*n_missing)++] = ids[i];
	}
	return true;
}

static inline void
test_home_close(TidePg *pg)
{
	(void) pg;
}

static const TideHomeOps test_home_ops = {
	.open = test_home_open,
	.position = test_home_position,
	.missing = test_home_missing,
	.close = test_home_close,
};

/*
 * Pipelines
 */

static inline bool
test_lease(const TidePipelineInfo *info)
{
	return info->lease_arg == NULL || *(bool *) info->lease_arg;
}

typedef struct TestPipeline
{
	TidePipelineInfo info;
	TideMetrics metrics;
} TestPipeline;

static inline void __attribute__((format(printf, 5, 6)))
test_pipeline(TestPipeline *p, const char *name, const char *region, const char *target,
			  const char *fmt, ...)
{
	char text[2000];
	va_list args;
	json_error_t je;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	*p = (TestPipeline){0};
	p->info = (TidePipelineInfo){
		.name = name,
		.region = region,
		.target = target,
		.config = json_loads(text, 0, &je),
		.epoch = 1,
		.conninfo = "",
		.stop = tide_stop_new(),
		.metrics = &p->metrics,
		.lease_fresh = test_lease,
	};
	if (p->info.config == NULL)
		fail_msg("%s: %s", text, je.text);
}

static inline void
test_pipeline_free(TestPipeline *p)
{
	json_decref(p->info.config);
	tide_stop_free(p->info.stop);
}

static inline TideSlice
test_slice(TideArena *arena, const char *text)
{
	return (TideSlice){tide_arena_strdup(arena, text), strlen(text)};
}

#define ASSERT_OK(expression)                                                           \
	do                                                                                  \
	{                                                                                   \
		TideError *e_ = &err;                                                           \
		tide_error_clear(e_);                                                           \
		if (!(expression))                                                              \
			fail_msg("%s: [%s] %s (%s)", #expression, e_->code, e_->message, e_->hint); \
	}                                                                                   \
	while (0)

#endif /* NATS_TEST_H */
