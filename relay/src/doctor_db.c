/*
 * doctor_db.c
 *		What "pg_tide doctor" checks in a database.
 *
 * A check that reports nothing has found all well; cmd_doctor.c then says so
 * with the check's title.  The checks only look.
 */
#include <stdlib.h>
#include <string.h>

#include "doctor_internal.h"
#include "pg_json.h"
#include "queries.h"
#include "secret.h"
#include "stop.h"

/* Above this, times measured across servers mislead. */
#define MAX_CLOCK_SKEW_US 2000000

/* A relay says something twice a second. */
#define MAX_HOLDER_SILENCE_MS 1500

#define INBOX_BACKLOG 100000

/* ---- the server ---- */

static void
check_connected(TideDoctor *d, const char *id)
{
	TideError err = {0};
	long long before;
	long long after;

	if (!tide_pg_open(d->conninfo, "doctor", NULL, &d->pg, &err))
	{
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, NULL, err.message, err.hint);
		return;
	}
	before = tide_wall_us();
	if (!tide_pg_json(d->pg, tide_q_doctor_server, &d->server, &err))
	{
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, NULL, err.message, err.hint);
		return;
	}
	after = tide_wall_us();

	/* Ours at the moment when the server looked at its own, within half the time that took. */
	json_object_set_new(
		d->server, "skew_us",
		json_integer(tide_json_int(d->server, "clock_us") - (before + (after - before) / 2)));
	if (tide_json_bool(d->server, "in_recovery"))
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, NULL,
						   "this server is a standby: nothing can be stored here",
						   "connect to the primary, for example with several hosts and "
						   "target_session_attrs=read-write");
}

static void
check_clock(TideDoctor *d, const char *id)
{
	long long skew = tide_json_int(d->server, "skew_us");

	if (llabs(skew) > MAX_CLOCK_SKEW_US)
		tide_doctor_report(d, TIDE_DOCTOR_WARN, id, NULL,
						   tide_doctor_printf(d, "the server's clock is %.1f s %s this machine's",
											  (double) llabs(skew) / 1e6,
											  skew > 0 ? "ahead of" : "behind"),
						   "run NTP on both; latencies are measured with these clocks");
}

/* Settings with which an event that was sent may be missing after a crash. */
static const struct
{
	const char *name;
	const char *bad;
	TideDoctorLevel level;
	const char *hint;
} durability[] = {
	{"fsync", "off", TIDE_DOCTOR_ERROR,
	 "set fsync = on: without it a crash of the machine can lose or corrupt everything"},
	{"full_page_writes", "off", TIDE_DOCTOR_ERROR,
	 "set full_page_writes = on, unless the file system never tears a page"},
	{"synchronous_commit", "off", TIDE_DOCTOR_WARN,
	 "set synchronous_commit = on (or local): an event may be sent and its transaction lost in a crash"},
};

static void
check_durability(TideDoctor *d, const char *id)
{
	const json_t *settings = json_object_get(d->server, "settings");

	for (size_t i = 0; i < sizeof(durability) / sizeof(durability[0]); i++)
	{
		const char *value = tide_json_text(settings, durability[i].name);

		if (value != NULL && strcmp(value, durability[i].bad) == 0)
			tide_doctor_report(d, durability[i].level, id, NULL,
							   tide_doctor_printf(d, "%s is %s", durability[i].name, value),
							   durability[i].hint);
	}
}

/* Both would end statements or sessions in which the relay waits on purpose. */
static void
check_timeouts(TideDoctor *d, const char *id)
{
	static const char *const names[] = {"idle_session_timeout", "statement_timeout"};
	const json_t *settings = json_object_get(d->server, "settings");

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		const char *value = tide_json_text(settings, names[i]);

		if (value != NULL && strcmp(value, "0") != 0 && strtoll(value, NULL, 10) < 30000)
			tide_doctor_report(d, TIDE_DOCTOR_WARN, id, NULL,
							   tide_doctor_printf(d, "%s is %s ms for this role", names[i], value),
							   tide_doctor_printf(d,
												  "ALTER ROLE ... SET %s = 0 for the role the "
												  "relay connects as",
												  names[i]));
	}
}

static void
check_extension(TideDoctor *d, const char *id)
{
	const char *installed = tide_json_text(d->server, "extension_version");
	const char *available = tide_json_text(d->server, "available_version");

	if (installed == NULL)
		tide_doctor_report(
			d, TIDE_DOCTOR_ERROR, id, NULL,
			"the extension pg_tide is not installed in this database",
			available != NULL
				? "CREATE EXTENSION pg_tide"
				: "install the extension's files on the server, then CREATE EXTENSION "
				  "pg_tide");
	else if (strcmp(installed, TIDE_VERSION) != 0)
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, NULL,
						   tide_doctor_printf(d, "the extension is version %s, this program is %s",
											  installed, TIDE_VERSION),
						   "install the same version of both, then ALTER EXTENSION pg_tide UPDATE");
}

static void
check_role(TideDoctor *d, const char *id)
{
	const char *role = tide_json_text(d->server, "role");

	if (!tide_json_bool(d->server, "relay_member"))
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, role,
						   tide_doctor_printf(d, "role %s may not use what tide_relay may", role),
						   tide_doctor_printf(d, "GRANT tide_relay TO %s", role));
}

/* ---- what the extension says ---- */

static void
check_preloaded(TideDoctor *d, const char *id)
{
	if (!tide_json_bool(d->status, "preloaded"))
		tide_doctor_report(
			d, TIDE_DOCTOR_NOTE, id, NULL,
			"pg_tide is not in shared_preload_libraries: relays poll, so events wait "
			"longer",
			"add pg_tide to shared_preload_libraries and restart the server");
}

static void
check_region(TideDoctor *d, const char *id)
{
	if (!tide_json_bool(d->status, "region_named"))
		tide_doctor_report(d, TIDE_DOCTOR_NOTE, id, NULL,
						   tide_doctor_printf(d,
											  "this region has no name yet; its events say \"%s\"",
											  tide_json_text(d->status, "region")),
						   "SELECT tide.region_init('name')");
}

static void
check_dead_letters(TideDoctor *d, const char *id)
{
	long long n = tide_json_int(d->status, "dead_letters");

	if (n > 0)
		tide_doctor_report(
			d, TIDE_DOCTOR_WARN, id, NULL,
			tide_doctor_printf(d, "%lld event(s) could not be delivered or handled", n),
			"look at tide.dead_letters; tide.dead_letter_retry(id) delivers one again");
}

static void
check_inboxes(TideDoctor *d, const char *id)
{
	const json_t *inboxes = json_object_get(d->status, "inboxes");

	for (size_t i = 0; i < json_array_size(inboxes); i++)
	{
		const json_t *inbox = json_array_get(inboxes, i);
		const char *name = tide_json_text(inbox, "name");
		long long pending = tide_json_int(inbox, "pending");
		long long retrying = tide_json_int(inbox, "retrying");

		if (pending > INBOX_BACKLOG)
			tide_doctor_report(d, TIDE_DOCTOR_WARN, id, name,
							   tide_doctor_printf(d, "%lld events wait to be worked on", pending),
							   "is a worker or handler running, and fast enough?");
		if (retrying > 0)
			tide_doctor_report(
				d, TIDE_DOCTOR_WARN, id, name,
				tide_doctor_printf(d, "%lld events failed and will be tried again", retrying),
				tide_doctor_printf(d, "see last_error in the inbox \"%s\"", name));
	}
}

/* Names of the pipelines that read this outbox. */
static const char *
pipelines_of(TideDoctor *d, const char *outbox)
{
	const char *names = "";

	for (size_t i = 0; i < json_array_size(d->pipelines); i++)
	{
		const json_t *pipeline = json_array_get(d->pipelines, i);
		const char *direction = tide_json_text(pipeline, "direction");
		const char *target = tide_json_text(pipeline, "target");

		if (direction != NULL && target != NULL && strcmp(direction, "outbox") == 0 &&
			strcmp(target, outbox) == 0)
			names = tide_doctor_printf(d, "%s%s%s%s", names, names[0] != '\0' ? ", " : "",
									   tide_json_text(pipeline, "name"),
									   tide_json_bool(pipeline, "enabled") ? "" : " (disabled)");
	}
	return names;
}

static void
check_outboxes(TideDoctor *d, const char *id)
{
	TideError err = {0};
	PGresult *res;

	if (!tide_pg_exec(d->pg, tide_q_doctor_outboxes, 0, NULL, &res, &err))
	{
		tide_doctor_report(d, TIDE_DOCTOR_SKIP, id, NULL, err.message, err.hint);
		return;
	}
	for (int i = 0; i < PQntuples(res); i++)
	{
		const char *name = PQgetvalue(res, i, 0);
		const char *readers = pipelines_of(d, name);

		if (readers[0] == '\0')
			tide_doctor_report(d, TIDE_DOCTOR_NOTE, id, name,
							   tide_doctor_printf(d,
												  "no pipeline reads it: events go unsent after %s",
												  PQgetvalue(res, i, 2)),
							   "SELECT tide.relay_set_outbox('pipeline', 'outbox', config)");
		if (tide_pg_int64(res, i, 1) > 0)
			tide_doctor_report(
				d, TIDE_DOCTOR_WARN, id, name,
				tide_doctor_printf(d,
								   "%s segment(s) past the retention of %s are kept, "
								   "as not all is confirmed",
								   PQgetvalue(res, i, 1), PQgetvalue(res, i, 2)),
				readers[0] == '\0'
					? "is a relay running, that maintains it?"
					: tide_doctor_printf(d,
										 "see why these are behind, or delete what is not "
										 "needed any more: %s",
										 readers));
	}
	PQclear(res);
}

/* ---- pipelines ---- */

/* What it means that a pipeline is disabled; the last row is for all other directions. */
typedef struct Idle
{
	const char *direction;
	const char *message;
	const char *function; /* lets it run again */
	TideDoctorLevel level;
	bool by_target; /* call it with the target, not with the pipeline's name */
} Idle;

static const Idle idles[] = {
	{"outbox", "disabled; its outbox keeps everything until it runs again", "relay_enable",
	 TIDE_DOCTOR_WARN, false},
	{"link", "paused; the origin keeps its WAL until it goes on", "link_resume", TIDE_DOCTOR_WARN,
	 true},
	{"rows", "disabled; this server keeps its WAL until it runs again", "relay_enable",
	 TIDE_DOCTOR_WARN, false},
	{NULL, "disabled", "relay_enable", TIDE_DOCTOR_NOTE, false},
};

static const Idle *
idle_pipeline(const char *direction)
{
	const Idle *idle = idles;

	while (idle->direction != NULL &&
		   (direction == NULL || strcmp(idle->direction, direction) != 0))
		idle++;
	return idle;
}

static void
check_enabled(TideDoctor *d, const char *id)
{
	for (size_t i = 0; i < json_array_size(d->pipelines); i++)
	{
		const json_t *pipeline = json_array_get(d->pipelines, i);
		const char *name = tide_json_text(pipeline, "name");
		const char *direction = tide_json_text(pipeline, "direction");
		const Idle *idle = idle_pipeline(direction);

		if (!tide_json_bool(pipeline, "enabled"))
			tide_doctor_report(
				d, idle->level, id, name, idle->message,
				tide_doctor_printf(d, "SELECT tide.%s('%s')", idle->function,
								   idle->by_target ? tide_json_text(pipeline, "target") : name));
	}
}

static void
check_owned(TideDoctor *d, const char *id)
{
	for (size_t i = 0; i < json_array_size(d->pipelines); i++)
	{
		const json_t *pipeline = json_array_get(d->pipelines, i);
		const char *name = tide_json_text(pipeline, "name");
		long long idle = tide_json_int(pipeline, "holder_idle_ms");

		if (!tide_json_bool(pipeline, "enabled"))
			continue;
		if (tide_json_int(pipeline, "holder_pid") == 0)
			tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, name, "no relay runs it",
							   "start one: pg_tide relay -d CONNINFO");
		else if (idle > MAX_HOLDER_SILENCE_MS)
			tide_doctor_report(
				d, TIDE_DOCTOR_WARN, id, name,
				tide_doctor_printf(d, "its relay has said nothing for %lld ms", idle),
				"is the process stopped, or the network slow? A second relay would "
				"take over");
	}
}

static void
check_states(TideDoctor *d, const char *id)
{
	const json_t *pipelines = json_object_get(d->status, "pipelines");

	for (size_t i = 0; i < json_array_size(pipelines); i++)
	{
		const json_t *pipeline = json_array_get(pipelines, i);
		const char *state = tide_json_text(pipeline, "state");
		const char *error = tide_json_text(pipeline, "last_error");
		bool failed = state != NULL && strcmp(state, "failed") == 0;

		if (!tide_json_bool(pipeline, "enabled") || state == NULL ||
			(!failed && strcmp(state, "retrying") != 0))
			continue;
		tide_doctor_report(
			d, failed ? TIDE_DOCTOR_ERROR : TIDE_DOCTOR_WARN, id, tide_json_text(pipeline, "name"),
			tide_doctor_printf(d, "%s: %s", state, error != NULL ? error : "no reason kept"),
			failed ? "it waits for a changed configuration, or for what the error names"
				   : "it is tried again until it works");
	}
}

/* ---- what pipelines connect to ---- */

bool
tide_doctor_open(const char *conninfo, TidePg **pg, TideError *err)
{
	char *secret = NULL;
	bool ok = true;

	*pg = NULL;
	if (conninfo != NULL && tide_secret_is_reference(conninfo))
		ok = tide_secret_resolve(conninfo, "conninfo", &secret, NULL, err);
	ok = ok && tide_pg_open(secret != NULL ? secret : conninfo, "doctor", NULL, pg, err);
	tide_secret_free(secret);
	return ok;
}

/* One pipeline straight into another database: can it be reached, and is the inbox there? */
static void
check_inbox_sink(TideDoctor *d, const char *id, const char *name, const json_t *config)
{
	const char *values[2] = {tide_json_text(config, "inbox"), "{}"};
	TideError err = {0};
	TidePg *pg = NULL;

	if (tide_doctor_open(tide_json_text(config, "conninfo"), &pg, &err) &&
		tide_pg_exec(pg, tide_q_inbox_missing, 2, values, NULL, &err))
		tide_doctor_report(d, TIDE_DOCTOR_OK, id, name,
						   tide_doctor_printf(d, "inbox \"%s\" can be reached", values[0]), NULL);
	else
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, name, err.message, err.hint);
	tide_pg_close(pg);
}

static void
check_connectors(TideDoctor *d, const char *id)
{
	for (size_t i = 0; i < json_array_size(d->pipelines); i++)
	{
		const json_t *pipeline = json_array_get(d->pipelines, i);
		const char *name = tide_json_text(pipeline, "name");
		const char *direction = tide_json_text(pipeline, "direction");
		json_t *config = json_object_get(pipeline, "config");
		const char *sink = tide_json_text(config, "sink_type");
		const char *type = sink != NULL ? sink : tide_json_text(config, "source_type");

		if (type == NULL || !tide_json_bool(pipeline, "enabled"))
			continue;
		if (strcmp(type, "nats") == 0)
			tide_doctor_check_nats(d, name, direction, tide_json_text(pipeline, "target"), config);
		else if (strcmp(type, "inbox") == 0)
			check_inbox_sink(d, id, name, config);
	}
}

const TideDoctorCheck tide_doctor_db_checks[] = {
	{"database", "the database can be reached", TIDE_NEEDS_NOTHING, check_connected},
	{"extension", "the extension is installed, version " TIDE_VERSION, TIDE_NEEDS_SERVER,
	 check_extension},
	{"role", "the role may do what a relay does", TIDE_NEEDS_SERVER, check_role},
	{"durability", "what is committed survives a crash", TIDE_NEEDS_SERVER, check_durability},
	{"timeouts", "no time limit disturbs a relay", TIDE_NEEDS_SERVER, check_timeouts},
	{"clock", "server and this machine agree on the time", TIDE_NEEDS_SERVER, check_clock},
	{"preload", "commits wake the relay", TIDE_NEEDS_STATUS, check_preloaded},
	{"region", "the region is named", TIDE_NEEDS_STATUS, check_region},
	{"pipeline.enabled", "all pipelines are enabled", TIDE_NEEDS_PIPELINES, check_enabled},
	{"pipeline.owner", "every pipeline has a relay", TIDE_NEEDS_PIPELINES, check_owned},
	{"pipeline.state", "no pipeline is failing", TIDE_NEEDS_STATUS, check_states},
	{"dead_letters", "there are no dead letters", TIDE_NEEDS_STATUS, check_dead_letters},
	{"outbox", "outboxes are read and emptied", TIDE_NEEDS_PIPELINES, check_outboxes},
	{"inbox", "inboxes are worked off", TIDE_NEEDS_STATUS, check_inboxes},
	{"connector", "what pipelines connect to was looked at", TIDE_NEEDS_PIPELINES,
	 check_connectors},
	{NULL, NULL, TIDE_NEEDS_NOTHING, NULL},
};
