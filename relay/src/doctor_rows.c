/*
 * doctor_rows.c
 *		What "pg_tide doctor" checks of rows in one region: tables, publications, slots.
 *
 * Owns: what can be seen in one region's document (queries.sql, doctor_rows).
 * Some of it is also looked at in the regions that rows are taken from.  Does
 * not own: asking other regions and comparing with them (doctor_peer.c).
 */
#include <stdlib.h>
#include <string.h>

#include "doctor_durability.h"
#include "doctor_rows.h"
#include "pg_json.h"
#include "queries.h"

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

/* Of max_slot_wal_keep_size: more than that, and a slot that stands still is soon lost. */
#define MAX_RETAINED_PERCENT 50

bool
tide_doctor_same(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

const char *
tide_doctor_bytes(TideDoctor *d, double bytes)
{
	if (bytes < 1024.0 * 1024.0)
		return tide_doctor_printf(d, "%.0f kB", bytes / 1024.0);
	if (bytes < 10.0 * 1024.0 * 1024.0 * 1024.0)
		return tide_doctor_printf(d, "%.0f MB", bytes / (1024.0 * 1024.0));
	return tide_doctor_printf(d, "%.0f GB", bytes / (1024.0 * 1024.0 * 1024.0));
}

/* The texts of an array as "a, b, c". */
static const char *
list_text(TideDoctor *d, const json_t *array)
{
	const char *text = "";

	for (size_t i = 0; i < json_array_size(array); i++)
		text = tide_doctor_printf(d, "%s%s%s", text, i > 0 ? ", " : "",
								  json_string_value(json_array_get(array, i)));
	return text;
}

bool
tide_doctor_travels(const json_t *table)
{
	return !tide_doctor_same(tide_json_text(table, "scope"), "regional");
}

bool
tide_doctor_publishes(const json_t *rows)
{
	const json_t *tables = json_object_get(rows, "tables");

	for (size_t i = 0; i < json_array_size(tables); i++)
	{
		if (tide_doctor_travels(json_array_get(tables, i)))
			return true;
	}
	return false;
}

/* ---- the server ---- */

static long long
setting_number(const json_t *rows, const char *name)
{
	const char *value = tide_json_text(json_object_get(rows, "settings"), name);

	return value != NULL ? strtoll(value, NULL, 10) : 0;
}

/* Is name one of a comma list?  Entries may be quoted; the server wants them to be exact. */
static bool
list_has(const char *list, const char *name)
{
	size_t len = strlen(name);

	while (*list != '\0')
	{
		size_t entry;

		list += strspn(list, ", \t\"'");
		entry = strcspn(list, ", \t\"'");
		if (entry == len && strncmp(list, name, len) == 0)
			return true;
		list += entry;
	}
	return false;
}

/* Room in one of the server's tables of fixed size. */
static void
check_room(TideDoctor *d, const char *id, const char *region, const json_t *rows, const char *used,
		   const char *setting)
{
	long long n = tide_json_int(rows, used);
	long long max = setting_number(rows, setting);

	if (n >= max)
		tide_doctor_report(
			d, TIDE_DOCTOR_WARN, id, region,
			tide_doctor_printf(d, "all %lld of %s are in use: no further link, copy or standby",
							   max, setting),
			tide_doctor_printf(d, "raise %s there and restart that server", setting));
}

void
tide_doctor_server(TideDoctor *d, const char *id, const char *region, const json_t *rows,
				   TideDoctorLevel without_logical)
{
	const json_t *settings = json_object_get(rows, "settings");
	const char *wal_level = tide_json_text(settings, "wal_level");
	const char *plugins = tide_json_text(settings, "output_plugin_libraries");
	const char *idle = tide_json_text(settings, "idle_replication_slot_timeout");

	if (!tide_doctor_same(wal_level, "logical"))
	{
		tide_doctor_report(
			d, without_logical, id, region,
			tide_doctor_printf(d, "wal_level is %s: no region can take rows from it", wal_level),
			"set wal_level = logical there and restart that server");
		return;
	}
	if (plugins != NULL && !list_has(plugins, "pgoutput"))
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, region,
						   tide_doctor_printf(d,
											  "output_plugin_libraries is \"%s\": the server "
											  "refuses pgoutput, which links use",
											  plugins),
						   "add pgoutput to output_plugin_libraries there and reload that server");
	if (idle != NULL && strcmp(idle, "0") != 0)
		tide_doctor_report(d, TIDE_DOCTOR_NOTE, id, region,
						   "idle_replication_slot_timeout is set: a link that is away for longer "
						   "copies everything again",
						   "set it to 0, or above the longest time a region may be away");
	check_room(d, id, region, rows, "senders_used", "max_wal_senders");
	check_room(d, id, region, rows, "slots_used", "max_replication_slots");
}

/* ---- slots ---- */

/* What the states of a slot's WAL mean; "reserved" is well. */
static const struct
{
	const char *status;
	TideDoctorLevel level;
	const char *meaning;
	const char *hint;
} wal_states[] = {
	{"extended", TIDE_DOCTOR_WARN, "keeps more WAL than max_wal_size",
	 "see why the link is behind; the WAL takes space on that server's disk until it has caught "
	 "up"},
	{"unreserved", TIDE_DOCTOR_ERROR, "is about to lose its WAL",
	 "raise max_slot_wal_keep_size there now (a reload is enough), or let the link catch up"},
	{"lost", TIDE_DOCTOR_ERROR, "has lost its WAL",
	 "the relay copies the rows again; max_slot_wal_keep_size there was too small for the time "
	 "the link was away"},
};

void
tide_doctor_slot(TideDoctor *d, const char *id, const char *region, const json_t *rows,
				 const json_t *slot)
{
	const char *name = tide_json_text(slot, "name");
	const char *status = tide_json_text(slot, "wal_status");
	double retained = json_number_value(json_object_get(slot, "retained"));
	double keep = (double) setting_number(rows, "max_slot_wal_keep_size") * 1024 * 1024;

	if (!tide_doctor_same(tide_json_text(slot, "plugin"), "pgoutput"))
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, region,
						   tide_doctor_printf(d, "slot \"%s\" is not ours: its plugin is %s", name,
											  tide_json_text(slot, "plugin")),
						   "drop or rename it; links use pgoutput");
	for (size_t i = 0; i < N_ELEMENTS(wal_states); i++)
	{
		if (tide_doctor_same(status, wal_states[i].status))
		{
			tide_doctor_report(d, wal_states[i].level, id, region,
							   tide_doctor_printf(d, "slot \"%s\" %s (%s; %s kept)", name,
												  wal_states[i].meaning, status,
												  tide_doctor_bytes(d, retained)),
							   wal_states[i].hint);
			return;
		}
	}
	if (keep > 0 && retained * 100 > keep * MAX_RETAINED_PERCENT)
		tide_doctor_report(d, TIDE_DOCTOR_WARN, id, region,
						   tide_doctor_printf(d,
											  "slot \"%s\" keeps %s of WAL, and loses it beyond "
											  "max_slot_wal_keep_size, %s",
											  name, tide_doctor_bytes(d, retained),
											  tide_doctor_bytes(d, keep)),
						   "see why the link is behind, or raise max_slot_wal_keep_size there");
}

/* ---- tables ---- */

static void
check_key(TideDoctor *d, const char *id, const json_t *table)
{
	const char *name = tide_json_text(table, "name");

	if (tide_json_bool(table, "insert_only"))
		return;
	if (tide_doctor_same(tide_json_text(table, "replica_identity"), "n"))
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, name,
						   "its replica identity is NOTHING: updates and deletes can't leave",
						   tide_doctor_printf(d, "ALTER TABLE %s REPLICA IDENTITY DEFAULT", name));
	else if (json_array_size(json_object_get(table, "key")) == 0)
		tide_doctor_report(
			d, TIDE_DOCTOR_ERROR, id, name, "it has no key any more: rows can't be told apart",
			tide_doctor_printf(d,
							   "add a primary key, or ALTER TABLE %s REPLICA IDENTITY USING INDEX "
							   "with a unique index of columns that are NOT NULL",
							   name));
}

/* What pg_trigger.tgenabled of tide_stamp means; "O" is right. */
static const struct
{
	const char *enabled;
	const char *meaning;
} trigger_states[] = {
	{"D", "its trigger tide_stamp is disabled: what is written is not stamped"},
	{"R", "its trigger tide_stamp fires for replicas only: what is written is not stamped"},
	{"A", "its trigger tide_stamp fires ALWAYS: what arrives is stamped as if written here"},
};

/* Saying the same again puts column, trigger, publication and rights right. */
static const char *
add_again(TideDoctor *d, const json_t *table)
{
	char *options = json_dumps(json_object_get(table, "options"), JSON_SORT_KEYS);
	bool none = options == NULL || strcmp(options, "{}") == 0;
	const char *hint = tide_doctor_printf(
		d, "SELECT tide.table_add('%s', '%s'%s%s%s)", tide_json_text(table, "name"),
		tide_json_text(table, "class"), none ? "" : ", '", none ? "" : options, none ? "" : "'");

	free(options);
	return hint;
}

static void
check_stamp(TideDoctor *d, const char *id, const json_t *table)
{
	const char *name = tide_json_text(table, "name");
	const char *trigger = tide_json_text(table, "trigger");
	const json_t *off = json_object_get(table, "partitions_off");

	if (json_object_get(json_object_get(table, "columns"), "tide_stamp") == NULL)
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, name, "its column tide_stamp is gone",
						   add_again(d, table));
	if (trigger == NULL)
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, name,
						   "its trigger tide_stamp is gone: what is written is not stamped",
						   add_again(d, table));
	for (size_t i = 0; i < N_ELEMENTS(trigger_states); i++)
	{
		if (tide_doctor_same(trigger, trigger_states[i].enabled))
			tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, name, trigger_states[i].meaning,
							   add_again(d, table));
	}
	if (json_array_size(off) > 0)
		tide_doctor_report(
			d, TIDE_DOCTOR_ERROR, id, name,
			tide_doctor_printf(d, "tide_stamp is not enabled in partitions: %s", list_text(d, off)),
			"ALTER TABLE ... ENABLE TRIGGER tide_stamp");
}

static bool
published_in(const json_t *table, const char *publication)
{
	const json_t *list = json_object_get(table, "publications");

	for (size_t i = 0; i < json_array_size(list); i++)
	{
		if (tide_doctor_same(json_string_value(json_array_get(list, i)), publication))
			return true;
	}
	return false;
}

static void
check_published(TideDoctor *d, const char *id, const json_t *table)
{
	static const char *const publications[] = {"tide_global", "tide_global_insert", "tide_low",
											   "tide_low_insert"};
	const char *name = tide_json_text(table, "name");
	bool low = tide_doctor_same(tide_json_text(table, "lane"), "low");
	const char *wanted = publications[2 * low + tide_json_bool(table, "insert_only")];

	for (size_t i = 0; i < N_ELEMENTS(publications); i++)
	{
		const char *publication = publications[i];
		bool should = tide_doctor_travels(table) && tide_doctor_same(publication, wanted) &&
					  !json_is_object(json_object_get(table, "residency"));

		if (published_in(table, publication) == should)
			continue;
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, name,
						   tide_doctor_printf(d, "it is of class \"%s\" and %s publication %s",
											  tide_json_text(table, "class"),
											  should ? "missing from" : "yet part of", publication),
						   add_again(d, table));
	}
}

/* What may not leave, or not all of it, and goes by a stream that is not ours. */
static void
check_foreign(TideDoctor *d, const char *id, const json_t *table)
{
	const json_t *foreign = json_object_get(table, "foreign_publications");

	if (json_array_size(foreign) == 0 ||
		(tide_doctor_travels(table) && !json_is_object(json_object_get(table, "residency"))))
		return;
	tide_doctor_report(d, TIDE_DOCTOR_WARN, id, tide_json_text(table, "name"),
					   tide_doctor_printf(d,
										  "class \"%s\" says what may leave, but it is also in "
										  "publication(s) that are not pg_tide's: %s",
										  tide_json_text(table, "class"), list_text(d, foreign)),
					   "whoever subscribes to those gets all of it: take the table out of them");
}

/* What arrives is written with the rights of the relay's role. */
static void
check_target(TideDoctor *d, const char *id, const json_t *table)
{
	const char *name = tide_json_text(table, "name");
	const json_t *lacks = json_object_get(table, "lacks");

	if (json_array_size(lacks) > 0)
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, name,
						   tide_doctor_printf(d, "the relay's role lacks %s", list_text(d, lacks)),
						   add_again(d, table));
	if (tide_json_bool(table, "row_security"))
		tide_doctor_report(
			d, TIDE_DOCTOR_ERROR, id, name,
			"row security is on for the relay's role: rows can't be applied or copied",
			tide_doctor_printf(d, "ALTER TABLE %s DISABLE ROW LEVEL SECURITY", name));
}

static void
check_tables(TideDoctor *d, const char *id)
{
	const json_t *tables = json_object_get(d->rows, "tables");

	for (size_t i = 0; i < json_array_size(tables); i++)
	{
		const json_t *table = json_array_get(tables, i);
		const char *name = tide_json_text(table, "name");

		if (tide_json_text(table, "table") == NULL)
		{
			tide_doctor_report(d, TIDE_DOCTOR_WARN, id, name, "a replicated table was dropped",
							   tide_doctor_printf(d, "SELECT tide.table_remove(%s)", name));
			continue;
		}
		check_stamp(d, id, table);
		check_published(d, id, table);
		check_foreign(d, id, table);
		if (!tide_doctor_travels(table))
			continue;
		check_key(d, id, table);
		check_target(d, id, table);
	}
}

/* ---- publications, as tide.table_add() makes them ---- */

static void
check_publications(TideDoctor *d, const char *id)
{
	static const struct
	{
		const char *name;
		const char *key;
		bool wanted;
	} parts[] = {
		{"tide_global", "insert", true},
		{"tide_global", "update", true},
		{"tide_global", "delete", true},
		{"tide_global", "truncate", true},
		{"tide_global", "via_root", true},
		{"tide_global_insert", "insert", true},
		{"tide_global_insert", "update", false},
		{"tide_global_insert", "delete", false},
		{"tide_global_insert", "via_root", true},
		{"tide_low", "insert", true},
		{"tide_low", "update", true},
		{"tide_low", "delete", true},
		{"tide_low", "truncate", true},
		{"tide_low", "via_root", true},
		{"tide_low_insert", "insert", true},
		{"tide_low_insert", "update", false},
		{"tide_low_insert", "delete", false},
		{"tide_low_insert", "via_root", true},
	};
	const json_t *publications = json_object_get(d->rows, "publications");

	for (size_t i = 0; i < N_ELEMENTS(parts); i++)
	{
		const json_t *publication = json_object_get(publications, parts[i].name);

		if (publication == NULL || tide_json_bool(publication, parts[i].key) == parts[i].wanted)
			continue;
		tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, parts[i].name,
						   tide_doctor_printf(d, "somebody changed it: \"%s\" is %s", parts[i].key,
											  parts[i].wanted ? "off" : "on"),
						   "tide.table_add() of any of its tables, again, puts it right");
	}
}

/* ---- links, as far as this database knows ---- */

static void
check_parked(TideDoctor *d, const char *id)
{
	TideError err = {0};
	PGresult *res;

	if (!tide_pg_exec(d->pg, tide_q_doctor_parked, 0, NULL, &res, &err))
	{
		tide_doctor_report(d, TIDE_DOCTOR_SKIP, id, NULL, err.message, err.hint);
		return;
	}
	for (int i = 0; i < PQntuples(res); i++)
		tide_doctor_report(
			d, TIDE_DOCTOR_WARN, id, PQgetvalue(res, i, 0),
			tide_doctor_printf(d, "%s change(s) of %s are parked; the first: %s",
							   PQgetvalue(res, i, 2), PQgetvalue(res, i, 1), PQgetvalue(res, i, 3)),
			"see tide.pending_changes; when the cause is gone, SELECT tide.pending_retry(id), or "
			"SELECT tide.pending_drop(id)");
	PQclear(res);
}

static void
check_lag(TideDoctor *d, const char *id)
{
	TideError err = {0};
	PGresult *res;

	if (!tide_pg_exec(d->pg, tide_q_doctor_lag, 0, NULL, &res, &err))
	{
		tide_doctor_report(d, TIDE_DOCTOR_SKIP, id, NULL, err.message, err.hint);
		return;
	}
	for (int i = 0; i < PQntuples(res); i++)
		tide_doctor_report(
			d, TIDE_DOCTOR_WARN, id, PQgetvalue(res, i, 0),
			tide_doctor_printf(d, "rows of class \"%s\" are %s s late; its slo is %s",
							   PQgetvalue(res, i, 1), PQgetvalue(res, i, 2), PQgetvalue(res, i, 3)),
			"is a relay running here, the link up, and that region's server well?");
	PQclear(res);
}

/* Links are no part of tide.pipelines, where check_states of doctor_db.c looks. */
static void
check_errors(TideDoctor *d, const char *id)
{
	const json_t *links = json_object_get(d->status, "links");

	for (size_t i = 0; i < json_array_size(links); i++)
	{
		const json_t *link = json_array_get(links, i);
		const char *error = tide_json_text(link, "last_error");

		if (tide_doctor_same(tide_json_text(link, "state"), "error"))
			tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, tide_json_text(link, "region"),
							   error != NULL ? error : "no reason kept",
							   "it is tried again; a few errors wait for a person: "
							   "docs/operations.md, Rows: at 3 a.m.");
	}
}

static void
check_links(TideDoctor *d, const char *id)
{
	const json_t *links = json_object_get(d->rows, "links");

	for (size_t i = 0; i < json_array_size(links); i++)
	{
		const json_t *link = json_array_get(links, i);
		const char *reason = tide_json_text(link, "last_resync");
		long long n = tide_json_int(link, "resyncs");

		if (n > 0)
			tide_doctor_report(
				d, TIDE_DOCTOR_NOTE, id, tide_json_text(link, "region"),
				tide_doctor_printf(d, "its rows were copied again %lld time(s); last because: %s",
								   n, reason != NULL ? reason : "no reason kept"),
				"if that was not expected: what happened to the slot, or to this database?");
		if (tide_json_bool(link, "removing"))
			tide_doctor_report(
				d, TIDE_DOCTOR_WARN, id, tide_json_text(link, "region"),
				"the link is being removed, and its slot is not dropped yet",
				"a relay here has to reach that region; if that region is gone: SELECT "
				"tide.link_remove('region', force => true)");
	}
}

const TideDoctorCheck tide_doctor_rows_checks[] = {
	{"rows.tables", "replicated tables are as pg_tide made them", TIDE_NEEDS_ROWS, check_tables},
	{"rows.publications", "the publications are as pg_tide made them", TIDE_NEEDS_ROWS,
	 check_publications},
	{"rows.residency", "nothing is here, or stays here, against residency", TIDE_NEEDS_ROWS,
	 tide_doctor_residency_here},
	{"rows.parked", "no change is parked", TIDE_NEEDS_ROWS, check_parked},
	{"rows.lag", "rows arrive within what their classes ask for", TIDE_NEEDS_ROWS, check_lag},
	{"rows.durability", "regions that commits wait for are there and answer", TIDE_NEEDS_ROWS,
	 tide_doctor_check_durability},
	{"rows.held", "no class waits for more important ones", TIDE_NEEDS_ROWS, tide_doctor_held},
	{"rows.wal", "the WAL kept for other regions has room", TIDE_NEEDS_ROWS, tide_doctor_wal},
	{"rows.transactions", "no transaction has been open for long", TIDE_NEEDS_ROWS,
	 tide_doctor_transactions},
	{"rows.state", "no link is failing", TIDE_NEEDS_STATUS, check_errors},
	{"rows.links", "no link had to copy again, or waits to be removed", TIDE_NEEDS_ROWS,
	 check_links},
	{NULL, NULL, TIDE_NEEDS_NOTHING, NULL},
};
