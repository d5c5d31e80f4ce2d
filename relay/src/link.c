/*
 * link.c
 *		A pipeline of direction "link": taking rows from another region.
 *
 * Owns: opening, what the link is and how far it came, whether that can be gone
 * on from (gaps), and whether to copy or to stream next; removal.  Does not
 * own: streaming (link_stream.c), copying (link_copy.c), how frames get here
 * (link_direct.c and the like).
 */
#include <stdlib.h>
#include <string.h>

#include "link_internal.h"
#include "log.h"
#include "mem.h"
#include "queries.h"
#include "secret.h"
#include "tide_options.h"

#define REMOVED_MS 10000 /* how long a removed link waits for the coordinator to notice */

static const TideTransport *const transports[] = {&tide_transport_direct, &tide_transport_nats};

/* ---- small things ---- */

bool
tide_link_exec(const TideLink *link, TidePg *pg, const char *sql, int n_params, const char **values,
			   PGresult **res, TideError *err)
{
	char epoch[24];

	snprintf(epoch, sizeof(epoch), "%lld", (long long) link->pipeline->spec.epoch);
	values[0] = link->pipeline->spec.name;
	values[1] = epoch;
	return tide_pg_exec(pg, sql, n_params, values, res, err);
}

bool
tide_link_phase(TideLink *link, const char *phase, TideError *err)
{
	const char *values[3] = {NULL, NULL, phase};

	if (strcmp(link->spec.phase, phase) == 0)
		return true;
	if (!tide_link_exec(link, link->home, tide_q_relay_link_phase, 3, values, NULL, err))
		return false;
	free(link->spec.phase);
	link->spec.phase = tide_strdup(phase);
	return true;
}

long long
tide_link_option(const TideLink *link, const char *key)
{
	const json_t *value = json_object_get(link->spec.options, key);
	const TideOption *option = tide_option_find(TIDE_SIDE_LINK, link->spec.transport, key);

	if (json_is_boolean(value))
		return json_is_true(value);
	if (json_is_number(value))
		return (long long) json_number_value(value);
	if (option != NULL && option->type == TIDE_OPT_BOOL)
		return tide_option_default_bool(option);
	return tide_option_default_int(option);
}

static bool
option_is(const TideLink *link, const char *key, const char *text)
{
	const char *value = json_string_value(json_object_get(link->spec.options, key));

	return value != NULL && strcmp(value, text) == 0;
}

bool
tide_link_at_origin(const TideLink *link, TideError *err)
{
	char hint[sizeof(err->hint)];

	if (err == NULL || err->class == TIDE_ERR_STOPPED)
		return false;
	memcpy(hint, err->hint, sizeof(hint));
	tide_error(err, err->class, err->code, "region \"%s\": %s", link->spec.region, err->message);
	tide_error_hint(err, "%s", hint);
	return false;
}

char *
tide_link_conninfo(const TideLink *link, TideError *err)
{
	char *resolved = NULL;

	if (!tide_secret_is_reference(link->spec.conninfo))
		return tide_strdup(link->spec.conninfo);
	(void) tide_secret_resolve(link->spec.conninfo, "conninfo", &resolved, NULL, err);
	return resolved;
}

const char *
tide_link_destination(const TideLink *link)
{
	bool for_one = link->transport->for_one || tide_link_option(link, "own_stream") != 0;

	return for_one ? link->pipeline->source_info.region : NULL;
}

bool
tide_link_open_wal(const TideLink *link, TideWal **wal, TideError *err)
{
	char *conninfo = tide_link_conninfo(link, err);
	bool ok;

	if (conninfo == NULL)
		return false;
	ok = tide_wal_open(conninfo, link->pipeline->spec.name, link->pipeline->drain, wal, err);
	tide_secret_free(conninfo);
	return ok ? ok : tide_link_at_origin(link, err);
}

/* ---- what the link is ---- */

static void
clear_spec(TideLinkSpec *spec)
{
	free(spec->region);
	free(spec->conninfo);
	free(spec->transport);
	free(spec->slot);
	free(spec->phase);
	free(spec->lanes);
	json_decref(spec->options);
	memset(spec, 0, sizeof(*spec));
}

static char *
copy_text(const PGresult *res, int col)
{
	return tide_strdup(PQgetvalue(res, 0, col));
}

static bool
read_spec(TideLink *link, TideError *err)
{
	TideLinkSpec *spec = &link->spec;
	const char *values[2];
	PGresult *res;

	if (!tide_link_exec(link, link->home, tide_q_relay_link, 2, values, &res, err))
		return false;
	clear_spec(spec);
	if (PQntuples(res) != 1)
	{
		PQclear(res);
		return tide_error(err, TIDE_ERR_CONFIG, "", "there is no link for pipeline \"%s\"",
						  link->pipeline->spec.name);
	}
	spec->id = (int) tide_pg_int64(res, 0, 0);
	spec->region = copy_text(res, 1);
	spec->conninfo = copy_text(res, 2);
	spec->transport = copy_text(res, 3);
	spec->slot = copy_text(res, 4);
	spec->copy = tide_pg_bool(res, 0, 5);
	spec->phase = copy_text(res, 6);
	spec->removing = tide_pg_bool(res, 0, 7);
	spec->position = tide_pg_lsn(res, 0, 8);
	spec->system_id = (uint64_t) tide_pg_int64(res, 0, 9);
	spec->timeline = (uint32_t) tide_pg_int64(res, 0, 10);
	spec->options = json_loads(PQgetisnull(res, 0, 11) ? "{}" : PQgetvalue(res, 0, 11), 0, NULL);
	spec->commit_end = PQgetisnull(res, 0, 12) ? 0 : tide_pg_lsn(res, 0, 12);
	spec->commit_us = PQgetisnull(res, 0, 13) ? 0 : tide_pg_int64(res, 0, 13);
	spec->lanes = copy_text(res, 14);
	PQclear(res);
	return true;
}

static bool
find_transport(TideLink *link, TideError *err)
{
	for (size_t i = 0; i < sizeof(transports) / sizeof(transports[0]); i++)
	{
		if (strcmp(transports[i]->name, link->spec.transport) == 0)
		{
			link->transport = transports[i];
			return true;
		}
	}
	return tide_error(err, TIDE_ERR_CONFIG, "", "this relay knows no transport \"%s\" of links",
					  link->spec.transport);
}

/* ---- the origin ---- */

static bool
read_origin(TideLink *link, const PGresult *res, TideError *err)
{
	TideLinkOrigin *origin = &link->origin;
	const char *region = PQgetvalue(res, 0, 0);

	origin->system_id = (uint64_t) tide_pg_int64(res, 0, 1);
	origin->timeline = (uint32_t) tide_pg_int64(res, 0, 2);
	origin->wal_end = tide_pg_lsn(res, 0, 5);
	origin->server_version = (int) tide_pg_int64(res, 0, 6);
	if (strcmp(region, link->spec.region) != 0)
	{
		tide_error(err, TIDE_ERR_CONFIG, "TD012",
				   "the connection string of region \"%s\" leads to region \"%s\"",
				   link->spec.region, region);
		tide_error_hint(err, "correct it: SELECT tide.region_add(...)");
		return false;
	}
	if (tide_pg_bool(res, 0, 4))
		return tide_error(err, TIDE_ERR_UNAVAILABLE, "25006",
						  "region \"%s\": the server is a standby; rows are read from the primary",
						  link->spec.region);
	if (strcmp(PQgetvalue(res, 0, 3), "logical") != 0)
	{
		tide_error(err, TIDE_ERR_CONFIG, "55000",
				   "region \"%s\": wal_level is \"%s\", but rows are read from the WAL",
				   link->spec.region, PQgetvalue(res, 0, 3));
		tide_error_hint(err, "set wal_level = logical on that server and restart it");
		return false;
	}
	origin->known = true;
	return true;
}

/* The position is about one cluster and means nothing in another. */
static bool
check_cluster(const TideLink *link, TideError *err)
{
	if (link->spec.position == 0 || link->spec.removing ||
		link->spec.system_id == link->origin.system_id)
		return true;
	tide_error(
		err, TIDE_ERR_CONFIG, "TD012",
		"region \"%s\" is another database cluster than the one rows were taken from (system "
		"identifier %llu, was %llu)",
		link->spec.region, (unsigned long long) link->origin.system_id,
		(unsigned long long) link->spec.system_id);
	tide_error_hint(err,
					"if that is meant to be: SELECT tide.link_resync('%s') copies its rows again",
					link->spec.region);
	return false;
}

bool
tide_link_control(TideLink *link, TideError *err)
{
	const char *values[1] = {tide_link_destination(link)};
	char *conninfo;
	PGresult *res;
	bool ok;

	if (link->control != NULL)
		return true;
	conninfo = tide_link_conninfo(link, err);
	if (conninfo == NULL)
		return false;
	ok = tide_pg_open(conninfo, link->pipeline->spec.name, link->pipeline->drain, &link->control,
					  err) &&
		 tide_pg_exec(link->control, tide_q_rows_identify, 1, values, &res, err);
	tide_secret_free(conninfo);
	if (!ok)
		tide_link_at_origin(link, err);
	else
	{
		ok = read_origin(link, res, err) && check_cluster(link, err);
		PQclear(res);
	}
	if (!ok)
	{
		tide_pg_close(link->control);
		link->control = NULL;
	}
	return ok;
}

/* ---- beginning, and beginning again ---- */

static bool
begin(TideLink *link, TideError *err)
{
	char lsn[TIDE_LSN_TEXT];
	char system_id[24];
	char timeline[16];
	const char *values[5] = {NULL, NULL, lsn, system_id, timeline};
	uint64_t position;

	/* The origin may have transactions that are waited for: that is no reason to be called unready. */
	tide_pipeline_opened(link->pipeline);
	if (!link->transport->reserve(link, &position, err))
		return false;
	tide_lsn_format(position, lsn);
	snprintf(system_id, sizeof(system_id), "%lld", (long long) link->origin.system_id);
	snprintf(timeline, sizeof(timeline), "%u", (unsigned) link->origin.timeline);
	if (!tide_link_exec(link, link->home, tide_q_relay_link_begin, 5, values, NULL, err))
		return false;
	tide_log(TIDE_LOG_INFO, "rows of region \"%s\" are taken from %s on", link->spec.region, lsn);
	return read_spec(link, err);
}

/* What was missed can't be had any more: rows have to be copied again. */
static bool
resync(TideLink *link, const char *gap, TideError *err)
{
	const char *values[3] = {NULL, NULL, gap};

	tide_error(err, TIDE_ERR_CONFIG, "TD011", "rows of region \"%s\" were missed: %s",
			   link->spec.region, gap);
	if (!link->spec.copy || option_is(link, "resync", "manual"))
	{
		tide_error_hint(err, "SELECT tide.link_resync('%s') goes on by copying its rows again",
						link->spec.region);
		return false;
	}
	tide_log_error(TIDE_LOG_ERROR, err, "resync: all rows of that region are copied again");
	tide_error_clear(err);
	tide_count(link->pipeline->spec.metrics, TIDE_RESYNCS, 1);
	return tide_link_exec(link, link->home, tide_q_relay_link_resync, 3, values, NULL, err) &&
		   read_spec(link, err);
}

/* After it there is a position that can be gone on from. */
static bool
find_position(TideLink *link, TideError *err)
{
	char gap[256] = "";

	if (link->transport->needs_origin && !tide_link_control(link, err))
		return false;
	if (link->spec.position != 0)
	{
		if (!link->transport->check(link, gap, sizeof(gap), err))
			return false;
		if (gap[0] == '\0')
			return true;
		if (!resync(link, gap, err))
			return false;
	}
	/* What is published has to be known as of before the snapshot that is copied from. */
	return tide_link_look(link, NULL, err) && begin(link, err);
}

static bool
copy_wanted(TideLink *link, TideError *err)
{
	TideTableList *tables = NULL;
	TideError away;
	bool ok;

	if (!link->transport->needs_origin && strcmp(link->spec.phase, "streaming") == 0 &&
		!tide_link_control(link, &away))
		return true; /* what was copied goes on; the rest waits for the origin */
	ok = tide_link_tables(link, &tables, err) &&
		 (tables->n == 0 || tide_link_copy(link, tables, err));
	tide_tables_free(tables);
	/* A table that appears while we stream must be copied as of then, not as of now. */
	tide_wal_close(link->snapshot_wal);
	link->snapshot_wal = NULL;
	return ok;
}

static bool
open_own(const TideLink *link, TidePg **pg, TideError *err)
{
	const TidePipeline *pipeline = link->pipeline;

	return tide_pg_open(pipeline->env->conninfo, pipeline->spec.name, pipeline->abort, pg, err) &&
		   tide_pg_exec(*pg, tide_q_own_session, 0, NULL, NULL, err);
}

/* The link is ours: whoever else works on it has lost it, and may not know yet. */
static bool
hold_link(TideLink *link, TideError *err)
{
	char id[16];
	const char *values[1] = {id};

	snprintf(id, sizeof(id), "%d", link->spec.id);
	return tide_pg_exec(link->home, tide_q_link_evict, 1, values, NULL, err) &&
		   tide_pg_exec(link->home, tide_q_link_hold, 1, values, NULL, err);
}

/*
 * Somebody dropped a publication and it was made again: a server before 18
 * can't decode what was written in between, nor get past it.  Or the origin's
 * WAL is not the one that rows were taken from.
 */
static bool
recover(TideLink *link, TideError *err)
{
	char gap[sizeof(err->message)];
	bool publication = strcmp(err->code, "42704") == 0 &&
					   strstr(err->message, "publication") != NULL;

	if (!publication && !link->other_history)
		return false;
	link->other_history = false;
	memcpy(gap, err->message, sizeof(gap));
	tide_error_clear(err);
	/* A frame may be half applied. */
	tide_pg_close(link->home);
	link->home = NULL;
	return open_own(link, &link->home, err) && hold_link(link, err) && resync(link, gap, err);
}

static bool
serve(TideLink *link, TideError *err)
{
	const TideStop *drain = link->pipeline->drain;

	while (!tide_stop_requested(drain))
	{
		if (!find_position(link, err) || !copy_wanted(link, err))
			return false;
		if (!tide_link_stream(link, err) && !recover(link, err))
			return false;
	}
	return true;
}

/* ---- removal and life ---- */

static bool
remove_link(TideLink *link, TideError *err)
{
	const char *values[2];

	if (!link->transport->release(link, err) ||
		!tide_link_exec(link, link->home, tide_q_relay_link_removed, 2, values, NULL, err))
		return false;
	tide_log(TIDE_LOG_INFO, "the link to region \"%s\" is removed", link->spec.region);
	/* The pipeline is gone from the database; whoever runs us sees that at its next look. */
	(void) tide_stop_sleep(link->pipeline->drain, REMOVED_MS);
	return true;
}

static bool
run_link(TideLink *link, TideError *err)
{
	if (!read_spec(link, err) || !find_transport(link, err) || !hold_link(link, err))
		return false;
	if (link->spec.removing)
		return remove_link(link, err);
	return serve(link, err);
}

bool
tide_link_run(TidePipeline *pipeline, TideError *err)
{
	TideLink link = {.pipeline = pipeline};
	bool ok;

	ok = open_own(&link, &link.home, err) && open_own(&link, &link.reports, err) &&
		 run_link(&link, err);
	tide_pg_close(link.home);
	tide_pg_close(link.reports);
	tide_pg_close(link.control);
	tide_wal_close(link.snapshot_wal);
	tide_tables_free(link.refused);
	clear_spec(&link.spec);
	return ok;
}
