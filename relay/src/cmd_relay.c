/*
 * cmd_relay.c
 *		"pg_tide relay": runs the coordinator, with everything around it.
 *
 * Owns: options, signals, the web server, what systemd is told.  The
 * coordinator runs on the main thread; signals are blocked everywhere and read
 * by a thread of their own, so that nothing is done in a signal handler.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli.h"
#include "coordinator.h"
#include "http.h"
#include "log.h"
#include "mem.h"
#include "nats_conn.h"
#include "pg.h"
#include "sd_notify.h"
#include "stop.h"

/* How often the signal thread looks at whether the coordinator is alive. */
#define LOOK_MS 1000

#define MAX_DRAIN_S 3600

typedef struct Relay
{
	TideCoordinator *coordinator;
	TideHttp *http;
	TideStop *finished; /* the coordinator has returned */
	int signal_fd;
	int watchdog_ms; /* 0: systemd does not watch */
	bool stopping;
	bool told_ready;
} Relay;

static const TideCliOption options[] = {
	{"dbname", 'd', "CONNINFO", NULL, "libpq connection string or URI (default: PG* variables)"},
	{"http", '\0', "ADDR:PORT", TIDE_HTTP_DEFAULT, "where to serve metrics and health, or none"},
	{"name", '\0', "NAME", NULL, "what this relay is called in tide.pipelines (default: host:pid)"},
	{"drain-timeout", '\0', "SECONDS", "30", "how long a stop waits for what is in flight"},
	{"log-level", '\0', "LEVEL", "info", "error, warn, info or debug"},
	{"log-format", '\0', "FORMAT", "text", "text or json"},
	{NULL, '\0', NULL, NULL, NULL},
};

/* ---- what HTTP asks ---- */

static void
http_metrics(void *arg, FILE *out)
{
	tide_coordinator_metrics(((Relay *) arg)->coordinator, out);
}

static bool
http_live(void *arg)
{
	return tide_coordinator_live(((Relay *) arg)->coordinator);
}

static bool
http_ready(void *arg, FILE *out)
{
	return tide_coordinator_ready(((Relay *) arg)->coordinator, out);
}

static bool
start_http(Relay *relay, const char *address, TideError *err)
{
	const TideHttpCallbacks callbacks = {
		.metrics = http_metrics,
		.live = http_live,
		.ready = http_ready,
		.arg = relay,
	};

	if (strcmp(address, "none") == 0)
		return true;
	if (!tide_http_start(address, &callbacks, &relay->http, err))
		return false;
	tide_log(TIDE_LOG_INFO, "serving metrics and health on %.*s:%d",
			 (int) (strrchr(address, ':') - address), address, tide_http_port(relay->http));
	return true;
}

/* ---- signals ---- */

static void
handle_stop_signal(Relay *relay, const char *name)
{
	if (relay->stopping)
	{
		tide_log(TIDE_LOG_WARN, "%s again: ending now, what is in flight will be sent again", name);
		_exit(TIDE_EXIT_UNDRAINED);
	}
	relay->stopping = true;
	tide_log(TIDE_LOG_INFO, "%s: finishing what is in flight", name);
	tide_sd_notify("STOPPING=1\nSTATUS=finishing what is in flight");
	tide_coordinator_stop(relay->coordinator);
}

static void
handle_signal(Relay *relay)
{
	struct signalfd_siginfo info;

	if (read(relay->signal_fd, &info, sizeof(info)) != (ssize_t) sizeof(info))
		return;
	switch (info.ssi_signo)
	{
		case SIGHUP:
			tide_log(TIDE_LOG_INFO, "SIGHUP: reading the configuration again");
			tide_coordinator_reload(relay->coordinator);
			break;
		case SIGTERM:
			handle_stop_signal(relay, "SIGTERM");
			break;
		case SIGINT:
			handle_stop_signal(relay, "SIGINT");
			break;
	}
}

/*
 * systemd gets READY=1 when the loop has turned for the first time, not when
 * the database answers: a relay that waits for its database has started well.
 */
static void
tell_systemd(Relay *relay)
{
	if (!tide_coordinator_live(relay->coordinator))
		return;
	if (!relay->told_ready)
	{
		relay->told_ready = true;
		tide_sd_notify("READY=1\nSTATUS=running");
	}
	if (relay->watchdog_ms > 0)
		tide_sd_notify("WATCHDOG=1");
}

static void *
signal_thread(void *arg)
{
	Relay *relay = arg;
	int interval = LOOK_MS;

	if (relay->watchdog_ms > 0 && relay->watchdog_ms < interval)
		interval = relay->watchdog_ms;
	while (!tide_stop_requested(relay->finished))
	{
		struct pollfd fds[2] = {
			{.fd = relay->signal_fd, .events = POLLIN},
			{.fd = tide_stop_fd(relay->finished), .events = POLLIN},
		};

		if (poll(fds, 2, interval) > 0 && fds[0].revents != 0)
			handle_signal(relay);
		tell_systemd(relay);
	}
	return NULL;
}

/* Blocked before any thread is started, so that every thread inherits it. */
static int
open_signal_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* ---- the command ---- */

static char *
relay_name(const char *given)
{
	char host[65];

	if (given != NULL)
		return tide_strdup(given);
	if (gethostname(host, sizeof(host)) != 0)
		snprintf(host, sizeof(host), "localhost");
	host[sizeof(host) - 1] = '\0';
	return tide_printf("%s:%ld", host, (long) getpid());
}

/* Runs the coordinator between a started and an ended signal thread. */
static bool
run_coordinator(Relay *relay, TideError *err)
{
	pthread_t thread;
	bool ok;

	if (pthread_create(&thread, NULL, signal_thread, relay) != 0)
		return tide_error(err, TIDE_ERR_INTERNAL, "", "could not start the signal thread");
	ok = tide_coordinator_run(relay->coordinator, err);
	tide_stop_request(relay->finished);
	pthread_join(thread, NULL);
	return ok;
}

static bool
run_relay(const TideCoordinatorOptions *opts, const char *http_address, TideError *err)
{
	Relay relay = {.signal_fd = open_signal_fd(), .watchdog_ms = tide_sd_watchdog_ms()};
	bool ok = false;

	relay.finished = tide_stop_new();
	if (relay.signal_fd < 0 || relay.finished == NULL)
		tide_error(err, TIDE_ERR_INTERNAL, "", "could not set up signals: %s", strerror(errno));
	else if (tide_nats_init(err) && (relay.coordinator = tide_coordinator_new(opts, err)) != NULL &&
			 start_http(&relay, http_address, err))
		ok = run_coordinator(&relay, err);

	tide_http_stop(relay.http);
	tide_coordinator_free(relay.coordinator);
	tide_nats_shutdown();
	tide_stop_free(relay.finished);
	if (relay.signal_fd >= 0)
		close(relay.signal_fd);
	return ok;
}

static TideExitCode
run(const TideCliArgs *args)
{
	const char *conninfo = tide_cli_value(args, "dbname");
	char *name;
	int drain_s;
	TideError err = {0};
	bool ok;

	if (!tide_cli_init_log(args) || !tide_cli_int(args, "drain-timeout", 0, MAX_DRAIN_S, &drain_s))
		return TIDE_EXIT_USAGE;
	name = relay_name(tide_cli_value(args, "name"));

	const TideCoordinatorOptions opts = {
		.conninfo = conninfo != NULL ? conninfo : "",
		.relay_name = name,
		.drain_timeout_ms = drain_s * 1000,
	};

	tide_log(TIDE_LOG_INFO, "pg_tide %s starting as %s", TIDE_VERSION, name);
	ok = tide_pg_check_conninfo(opts.conninfo, &err) &&
		 run_relay(&opts, tide_cli_value(args, "http"), &err);
	free(name);
	if (ok)
	{
		tide_log(TIDE_LOG_INFO, "ended; nothing was left in flight");
		return TIDE_EXIT_OK;
	}
	tide_log_error(TIDE_LOG_ERROR, &err, "the relay ends");
	return err.class == TIDE_ERR_TIMEOUT ? TIDE_EXIT_UNDRAINED : tide_exit_code(&err);
}

const TideCommand tide_cmd_relay = {
	.name = "relay",
	.summary = "run the pipelines that are configured in a database",
	.options = options,
	.run = run,
};
