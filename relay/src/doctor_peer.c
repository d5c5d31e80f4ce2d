/*
 * doctor_peer.c
 *		What "pg_tide doctor" checks of rows between this region and the others.
 *
 * Owns: asking every region that is known here, and comparing what it says with
 * what this region says.  A region that rows are taken from has to answer; of the
 * others only what is left of former links is looked for.  Does not own: what
 * is looked at in one region's document alone (doctor_rows.c).
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "doctor_rows.h"
#include "pg_json.h"
#include "queries.h"
#include "stop.h"
#include "tide_stamp.h"

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

/* Of two regions' servers: times and stamps are compared between them. */
#define MAX_REGION_SKEW_US 1000000

#define SLOT_PREFIX "tide_link_"
#define PUBLISHER_PREFIX "tide_rows_"

/* A region that can't be asked may be away for a while. */
#define SILENT_S 900

/* ---- asking ---- */

static const json_t *
find_member(const json_t *array, const char *key, const char *value)
{
	for (size_t i = 0; i < json_array_size(array); i++)
	{
		const json_t *member = json_array_get(array, i);

		if (tide_doctor_same(tide_json_text(member, key), value))
			return member;
	}
	return NULL;
}

static const json_t *
find_table(const json_t *rows, const json_t *like)
{
	const json_t *tables = json_object_get(rows, "tables");

	for (size_t i = 0; i < json_array_size(tables); i++)
	{
		const json_t *table = json_array_get(tables, i);

		if (tide_doctor_same(tide_json_text(table, "schema"), tide_json_text(like, "schema")) &&
			tide_doctor_same(tide_json_text(table, "table"), tide_json_text(like, "table")))
			return table;
	}
	return NULL;
}

static bool
ask(TideDoctor *d, TidePeer *peer, const char *conninfo, TideError *err)
{
	long long before;
	long long after;

	if (!tide_doctor_open(conninfo, &peer->pg, err))
		return false;
	before = tide_wall_us();
	if (!tide_pg_json(peer->pg, tide_q_doctor_rows, &peer->rows, err))
		return false;
	after = tide_wall_us();
	peer->skew_us = tide_json_int(peer->rows, "clock_us") - (before + (after - before) / 2) -
					tide_json_int(d->server, "skew_us");
	return true;
}

static void
unreachable(TideDoctor *d, const char *id, const TidePeer *peer, const TideError *err)
{
	tide_doctor_report(
		d, peer->link != NULL ? TIDE_DOCTOR_ERROR : TIDE_DOCTOR_NOTE, id, peer->region,
		tide_doctor_printf(d, "region \"%s\" can't be asked: %s", peer->region, err->message),
		err->hint[0] != '\0'
			? err->hint
			: "is its server up, the network whole, and the conninfo of tide.region_add() right? "
			  "References (env:, file:) are resolved on this machine");
}

/* Asks every region; the answers stay with the doctor. */
static void
check_reach(TideDoctor *d, const char *id)
{
	const json_t *regions = json_object_get(d->rows, "regions");
	TidePeer **last = &d->peers;

	for (size_t i = 0; i < json_array_size(regions); i++)
	{
		const json_t *region = json_array_get(regions, i);
		TidePeer *peer = tide_arena_zalloc(d->arena, sizeof(TidePeer));
		TideError err = {0};

		peer->region = tide_json_text(region, "region");
		peer->link = find_member(json_object_get(d->rows, "links"), "region", peer->region);
		*last = peer;
		last = &peer->next;
		if (!ask(d, peer, tide_json_text(region, "conninfo"), &err))
			unreachable(d, id, peer, &err);
		else if (peer->link != NULL)
			tide_doctor_report(d, TIDE_DOCTOR_OK, id, peer->region, "the region answers", NULL);
	}
}

void
tide_doctor_peers_free(TideDoctor *d)
{
	for (TidePeer *peer = d->peers; peer != NULL; peer = peer->next)
	{
		json_decref(peer->rows);
		tide_pg_close(peer->pg);
	}
}

/* Goes through the regions that rows are taken from and that answered. */
#define FOR_EACH_ORIGIN(d, peer)                                             \
	for (TidePeer *peer = (d)->peers; (peer) != NULL; (peer) = (peer)->next) \
		if ((peer)->link != NULL && (peer)->rows != NULL)

/* What can't be said of regions that did not answer. */
static void
skip_silent(TideDoctor *d, const char *id)
{
	for (const TidePeer *peer = d->peers; peer != NULL; peer = peer->next)
	{
		if (peer->link != NULL && peer->rows == NULL)
			tide_doctor_report(d, TIDE_DOCTOR_SKIP, id, peer->region,
							   "could not be checked: the region can't be asked", NULL);
	}
}

/* ---- who is there ---- */

static void
check_identity(TideDoctor *d, const char *id)
{
	for (TidePeer *peer = d->peers; peer != NULL; peer = peer->next)
	{
		const char *region = tide_json_text(peer->rows, "region");
		const char *version = tide_json_text(peer->rows, "extension_version");

		if (peer->rows == NULL)
			continue;
		if (!tide_doctor_same(region, peer->region))
			tide_doctor_report(
				d, TIDE_DOCTOR_ERROR, id, peer->region,
				tide_doctor_printf(d, "the database behind its conninfo is region \"%s\"", region),
				"correct it: SELECT tide.region_add('region', 'conninfo')");
		if (!tide_doctor_same(version, TIDE_VERSION))
			tide_doctor_report(d, TIDE_DOCTOR_WARN, id, peer->region,
							   tide_doctor_printf(d, "its extension is version %s, here it is %s",
												  version, TIDE_VERSION),
							   "bring all regions to the same version");
		if (tide_json_bool(peer->rows, "in_recovery"))
			tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, peer->region,
							   "its server is a standby: links need the primary",
							   "use several hosts and target_session_attrs=read-write in its "
							   "conninfo");
	}
}

static void
check_role(TideDoctor *d, const char *id)
{
	skip_silent(d, id);
	FOR_EACH_ORIGIN(d, peer)
	{
		const json_t *role = json_object_get(peer->rows, "role");
		const char *name = tide_json_text(role, "name");

		if (!tide_json_bool(role, "replication"))
			tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, peer->region,
							   tide_doctor_printf(d, "role %s may not read the WAL there", name),
							   tide_doctor_printf(d, "there: ALTER ROLE %s REPLICATION", name));
		if (!tide_json_bool(role, "relay"))
			tide_doctor_report(
				d, TIDE_DOCTOR_ERROR, id, peer->region,
				tide_doctor_printf(d, "role %s may not use what tide_relay may there", name),
				tide_doctor_printf(d, "there: GRANT tide_relay TO %s", name));
	}
}

static void
check_clock(TideDoctor *d, const char *id)
{
	skip_silent(d, id);
	FOR_EACH_ORIGIN(d, peer)
	{
		if (llabs(peer->skew_us) > MAX_REGION_SKEW_US)
			tide_doctor_report(d, TIDE_DOCTOR_WARN, id, peer->region,
							   tide_doctor_printf(d, "its clock is %.1f s %s this region's",
												  (double) llabs(peer->skew_us) / 1e6,
												  peer->skew_us > 0 ? "ahead of" : "behind"),
							   "run NTP in both; stamps and lag are made with these clocks");
	}
}

/* ---- servers ---- */

/* Does any region that answered take rows from here? */
static bool
anybody_takes(const TideDoctor *d)
{
	for (const TidePeer *peer = d->peers; peer != NULL; peer = peer->next)
	{
		if (find_member(json_object_get(peer->rows, "links"), "region",
						tide_json_text(d->rows, "region")) != NULL)
			return true;
	}
	return false;
}

static void
check_servers(TideDoctor *d, const char *id)
{
	skip_silent(d, id);
	if (tide_doctor_publishes(d->rows))
		tide_doctor_server(d, id, NULL, d->rows,
						   anybody_takes(d) ? TIDE_DOCTOR_ERROR : TIDE_DOCTOR_NOTE);
	FOR_EACH_ORIGIN(d, peer)
	{
		tide_doctor_server(d, id, peer->region, peer->rows, TIDE_DOCTOR_ERROR);
	}
}

/* ---- slots ---- */

static bool
is_new(const json_t *link)
{
	return tide_doctor_same(tide_json_text(link, "phase"), "new");
}

/* The slot that this region's link needs there: named slot_name, made by whom says. */
static void
check_own_slot(TideDoctor *d, const char *id, const TidePeer *peer, const json_t *link,
			   const char *slot_name, const char *reader)
{
	const json_t *slot = find_member(json_object_get(peer->rows, "slots"), "name", slot_name);

	if (slot == NULL && is_new(link))
		tide_doctor_report(d, TIDE_DOCTOR_NOTE, id, peer->region,
						   tide_doctor_printf(d, "slot \"%s\" is not made yet", slot_name),
						   "a relay makes it; is one running?");
	else if (slot == NULL)
		tide_doctor_report(
			d, TIDE_DOCTOR_ERROR, id, peer->region,
			tide_doctor_printf(
				d, "slot \"%s\" is gone: changes made since are not kept for this region",
				slot_name),
			"the relay notices and copies the rows again; with \"resync\": \"manual\" it waits for "
			"SELECT tide.link_resync('region')");
	else
	{
		tide_doctor_slot(d, id, peer->region, peer->rows, slot);
		if (!tide_json_bool(slot, "active") && !tide_json_bool(link, "removing"))
			tide_doctor_report(
				d, TIDE_DOCTOR_WARN, id, peer->region,
				tide_doctor_printf(
					d, "nobody reads slot \"%s\"; it keeps %s of WAL", slot_name,
					tide_doctor_bytes(d, json_number_value(json_object_get(slot, "retained")))),
				reader);
	}
}

/* Does the link bring frames from a broker's stream that is for its region alone? */
static bool
has_own_stream(const json_t *link)
{
	return tide_json_bool(json_object_get(link, "options"), "own_stream");
}

/* Frames come by a broker: the origin publishes them, and knows who takes them from which stream. */
static void
check_publisher(TideDoctor *d, const char *id, const TidePeer *peer)
{
	const char *here = tide_json_text(d->rows, "region");
	const json_t *taker = find_member(json_object_get(peer->rows, "destinations"), "region", here);
	const char *pipeline = has_own_stream(peer->link)
							   ? tide_doctor_printf(d, "rows:publish:%s", here)
							   : "rows:publish";
	const json_t *publisher = find_member(json_object_get(peer->rows, "publishers"), "pipeline",
										  pipeline);
	bool known = tide_doctor_same(tide_json_text(taker, "pipeline"), pipeline);

	if (publisher != NULL && known)
		check_own_slot(
			d, id, peer, peer->link, tide_json_text(publisher, "slot"),
			tide_doctor_printf(d, "is a relay running there? Its pipeline %s reads it", pipeline));
	else
		tide_doctor_report(
			d, is_new(peer->link) ? TIDE_DOCTOR_NOTE : TIDE_DOCTOR_ERROR, id, peer->region,
			known			? "it publishes no rows"
			: taker != NULL ? "it keeps its rows for this region in another stream than the link's"
							: "it does not keep its rows for this region",
			is_new(peer->link)
				? "the relay here announces that it takes rows; is one running?"
				: tide_doctor_printf(d, "if that lasts: SELECT tide.link_resync('%s')",
									 peer->region));
}

/* Each lane has its slot. */
static void
check_lanes(TideDoctor *d, const char *id, const TidePeer *peer)
{
	const json_t *lanes = json_object_get(d->rows, "lanes");

	for (size_t i = 0; i < json_array_size(lanes); i++)
	{
		const json_t *lane = json_array_get(lanes, i);

		if (tide_doctor_same(tide_json_text(lane, "region"), peer->region))
			check_own_slot(d, id, peer, lane, tide_json_text(lane, "slot"),
						   "is a relay running here, and the link enabled?");
	}
}

static void
check_slots_there(TideDoctor *d, const char *id)
{
	skip_silent(d, id);
	FOR_EACH_ORIGIN(d, peer)
	{
		if (tide_doctor_same(tide_json_text(peer->link, "transport"), "direct"))
			check_lanes(d, id, peer);
		else
			check_publisher(d, id, peer);
	}
}

/* ---- orphans ---- */

/* Whose slot it is says the number at the end of its name; 0: none. */
static long long
slot_region_id(const char *slot)
{
	const char *mark = strrchr(slot, '_');

	return mark != NULL && strlen(mark + 1) == 8 ? strtoll(mark + 1, NULL, 16) : 0;
}

static void
orphan(TideDoctor *d, const char *id, const char *region, const char *where, const json_t *slot,
	   const char *why)
{
	const char *name = tide_json_text(slot, "name");
	bool active = tide_json_bool(slot, "active");

	tide_doctor_report(
		d, TIDE_DOCTOR_WARN, id, region,
		tide_doctor_printf(
			d, "slot \"%s\" keeps %s of WAL for nobody: %s", name,
			tide_doctor_bytes(d, json_number_value(json_object_get(slot, "retained"))), why),
		tide_doctor_printf(d, "%s%s: SELECT pg_drop_replication_slot('%s')", where,
						   active ? ", after ending who reads it" : "", name));
}

static bool
publisher_has(const json_t *rows, const char *slot)
{
	return find_member(json_object_get(rows, "publishers"), "slot", slot) != NULL;
}

static const TidePeer *
find_peer(const TideDoctor *d, long long region_id)
{
	const json_t *regions = json_object_get(d->rows, "regions");
	const TidePeer *peer = d->peers;

	for (size_t i = 0; i < json_array_size(regions) && peer != NULL; i++, peer = peer->next)
	{
		if (tide_json_int(json_array_get(regions, i), "region_id") == region_id)
			return peer;
	}
	return NULL;
}

static const TidePeer *
peer_named(const TideDoctor *d, const char *region)
{
	for (const TidePeer *peer = d->peers; peer != NULL; peer = peer->next)
	{
		if (tide_doctor_same(peer->region, region))
			return peer;
	}
	return NULL;
}

/* A slot of this database that is for another region. */
static void
check_slot_here(TideDoctor *d, const char *id, const json_t *slot)
{
	const char *name = tide_json_text(slot, "name");
	const TidePeer *peer = find_peer(d, slot_region_id(name));
	const json_t *link;

	if (peer == NULL)
	{
		orphan(d, id, NULL, "here", slot, "no region known here is called so");
		return;
	}
	if (peer->rows == NULL)
	{
		if (!tide_json_bool(slot, "active"))
			tide_doctor_report(
				d, TIDE_DOCTOR_WARN, id, peer->region,
				tide_doctor_printf(
					d, "its slot \"%s\" is not read, and keeps %s of WAL", name,
					tide_doctor_bytes(d, json_number_value(json_object_get(slot, "retained")))),
				tide_doctor_printf(d,
								   "if that region is gone for good: SELECT "
								   "pg_drop_replication_slot('%s')",
								   name));
		return;
	}
	link = find_member(json_object_get(peer->rows, "lanes"), "slot", name);
	if (link == NULL ||
		!tide_doctor_same(tide_json_text(link, "region"), tide_json_text(d->rows, "region")))
		orphan(d, id, peer->region, "here", slot,
			   tide_doctor_printf(d, "region \"%s\" has no such link", peer->region));
	else
		tide_doctor_slot(d, id, NULL, d->rows, slot);
}

static void
check_slots_here(TideDoctor *d, const char *id)
{
	const json_t *slots = json_object_get(d->rows, "slots");

	for (size_t i = 0; i < json_array_size(slots); i++)
	{
		const json_t *slot = json_array_get(slots, i);
		const char *name = tide_json_text(slot, "name");

		if (strncmp(name, PUBLISHER_PREFIX, strlen(PUBLISHER_PREFIX)) != 0)
			check_slot_here(d, id, slot);
		else if (!publisher_has(d->rows, name))
			orphan(d, id, NULL, "here", slot, "nothing is published on a broker");
		else
			tide_doctor_slot(d, id, NULL, d->rows, slot);
	}
}

/* Slots in other regions that carry this region's number, and that no link here uses. */
static void
check_slots_left(TideDoctor *d, const char *id)
{
	long long own = tide_json_int(d->rows, "region_id");

	for (const TidePeer *peer = d->peers; peer != NULL; peer = peer->next)
	{
		const json_t *slots = json_object_get(peer->rows, "slots");

		for (size_t i = 0; i < json_array_size(slots); i++)
		{
			const json_t *slot = json_array_get(slots, i);
			const char *name = tide_json_text(slot, "name");

			if (strncmp(name, SLOT_PREFIX, strlen(SLOT_PREFIX)) != 0 ||
				slot_region_id(name) != own ||
				find_member(json_object_get(d->rows, "lanes"), "slot", name) != NULL)
				continue;
			orphan(d, id, peer->region, tide_doctor_printf(d, "in region \"%s\"", peer->region),
				   slot, "this region has no such link");
		}
	}
}

/* Who takes rows from a broker has no slot of its own: the one here waits for him. */
static const char *
why_in_vain(TideDoctor *d, const char *region, const TidePeer *peer, const json_t *waited)
{
	const json_t *link;

	if (peer == NULL)
		return "no region known here is called so";
	if (peer->rows == NULL)
		return tide_json_int(waited, "silent") > SILENT_S
				   ? "it has not been heard of for over 15 minutes, and can't be asked"
				   : NULL;
	link = find_member(json_object_get(peer->rows, "links"), "region",
					   tide_json_text(d->rows, "region"));
	if (link == NULL)
		return tide_doctor_printf(d, "region \"%s\" has no such link", region);
	if (tide_doctor_same(tide_json_text(link, "transport"), "direct"))
		return tide_doctor_printf(d, "region \"%s\" takes them by a direct link", region);
	return NULL;
}

static void
check_destinations_here(TideDoctor *d, const char *id)
{
	const json_t *destinations = json_object_get(d->rows, "waited_for");

	for (size_t i = 0; i < json_array_size(destinations); i++)
	{
		const json_t *waited = json_array_get(destinations, i);
		const char *region = tide_json_text(waited, "region");
		const char *why = why_in_vain(d, region, peer_named(d, region), waited);

		if (why != NULL)
			tide_doctor_report(
				d, TIDE_DOCTOR_WARN, id, region,
				tide_doctor_printf(d, "WAL is kept for it, to be published on a broker: %s", why),
				tide_doctor_printf(d,
								   "if it takes no rows by a broker any more: here: "
								   "SELECT tide.rows_leave('%s')",
								   region));
	}
}

static void
check_orphans(TideDoctor *d, const char *id)
{
	check_slots_here(d, id);
	check_slots_left(d, id);
	check_destinations_here(d, id);
}

/* ---- tables in both regions ---- */

/* What two regions should say alike of a table. */
static const struct
{
	const char *key;
	const char *what;
	TideDoctorLevel level;
	const char *hint;
} alike[] = {
	{"class", "class", TIDE_DOCTOR_WARN,
	 "rows are then treated as one class there and as another here; tide.table_remove(), then "
	 "tide.table_add() with the right one"},
	{"options", "options of tide.table_add()", TIDE_DOCTOR_ERROR,
	 "regions that merge differently end with different rows; SELECT tide.table_add() again"},
	{"insert_only", "insert_only", TIDE_DOCTOR_WARN,
	 "SELECT tide.table_add() with the same options in both"},
	{"key", "key", TIDE_DOCTOR_ERROR, "rows are found by their key: make it the same columns"},
};

/* A JSON value for people. */
static const char *
value_text(TideDoctor *d, const json_t *value)
{
	char *text;
	const char *kept;

	if (value == NULL || json_is_null(value))
		return "none";
	if (json_is_string(value))
		return json_string_value(value);
	text = json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS);
	kept = tide_doctor_printf(d, "%s", text != NULL ? text : "?");
	free(text);
	return kept;
}

static void
compare_added(TideDoctor *d, const char *id, const TidePeer *peer, const json_t *here,
			  const json_t *there)
{
	const char *table = tide_json_text(here, "name");

	for (size_t i = 0; i < N_ELEMENTS(alike); i++)
	{
		const json_t *a = json_object_get(here, alike[i].key);
		const json_t *b = json_object_get(there, alike[i].key);

		if (json_equal(a, b))
			continue;
		tide_doctor_report(d, alike[i].level, id, table,
						   tide_doctor_printf(d, "%s: %s here, %s in region \"%s\"", alike[i].what,
											  value_text(d, a), value_text(d, b), peer->region),
						   alike[i].hint);
	}
}

static void
differs(TideDoctor *d, const char *id, TideDoctorLevel level, const json_t *table,
		const char *message, const char *hint)
{
	tide_doctor_report(d, level, id, tide_json_text(table, "name"), message, hint);
}

static void
compare_column(TideDoctor *d, const char *id, const TidePeer *peer, const json_t *table,
			   const char *column, const json_t *here, const json_t *there)
{
	const char *type = tide_json_text(there, "type");
	const char *exact = tide_json_text(there, "exact");

	if (here == NULL)
		differs(d, id, TIDE_DOCTOR_ERROR, table,
				tide_doctor_printf(d, "column \"%s\" of region \"%s\" is missing here", column,
								   peer->region),
				tide_doctor_printf(d, "ALTER TABLE %s ADD COLUMN \"%s\" %s",
								   tide_json_text(table, "name"), column, exact));
	else if (!tide_doctor_same(type, tide_json_text(here, "type")))
		differs(d, id, TIDE_DOCTOR_ERROR, table,
				tide_doctor_printf(d, "column \"%s\" is %s here and %s in region \"%s\"", column,
								   tide_json_text(here, "type"), type, peer->region),
				"give it the same type in both regions");
	else if (!tide_doctor_same(exact, tide_json_text(here, "exact")))
		differs(d, id, TIDE_DOCTOR_WARN, table,
				tide_doctor_printf(d, "column \"%s\" is %s here and %s in region \"%s\"", column,
								   tide_json_text(here, "exact"), exact, peer->region),
				"a value that does not fit here will be parked; give it the same type");
}

/* Can this region store what that one sends? */
static void
compare_shape(TideDoctor *d, const char *id, const TidePeer *peer, const json_t *here,
			  const json_t *there)
{
	const json_t *mine = json_object_get(here, "columns");
	const json_t *theirs = json_object_get(there, "columns");
	const char *name;
	json_t *column;

	json_object_foreach ((json_t *) theirs, name, column)
	{
		if (!tide_json_bool(column, "generated"))
			compare_column(d, id, peer, here, name, json_object_get(mine, name), column);
	}
	json_object_foreach ((json_t *) mine, name, column)
	{
		const json_t *other = json_object_get(theirs, name);

		if (tide_json_bool(column, "required") &&
			(other == NULL || tide_json_bool(other, "generated")))
			differs(d, id, TIDE_DOCTOR_ERROR, here,
					tide_doctor_printf(d,
									   "column \"%s\" is NOT NULL without a default here, and "
									   "region \"%s\" does not send it",
									   name, peer->region),
					"give it a default, or let it be NULL");
	}
}

/* ---- tables in one of them ---- */

static void
add_missing(json_t *list, const json_t *rows, const json_t *table)
{
	if (tide_doctor_travels(table) && tide_json_text(table, "table") != NULL &&
		find_table(rows, table) == NULL)
		json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "schema",
											  tide_json_text(table, "schema"), "table",
											  tide_json_text(table, "table"), "class",
											  tide_json_text(table, "class")));
}

/* Those of a's tables that travel and that b has not added. */
static json_t *
tables_missing(const json_t *a, const json_t *b)
{
	const json_t *tables = json_object_get(a, "tables");
	json_t *list = json_array();

	for (size_t i = 0; i < json_array_size(tables); i++)
		add_missing(list, b, json_array_get(tables, i));
	return list;
}

/*
 * Reports tables that one of two regions has added and the other, whose database
 * pg is, has not.  One that exists there all the same was probably forgotten;
 * otherwise it may well be meant.  place: where pg is, for the message.
 */
static void
report_missing(TideDoctor *d, const char *id, TidePg *pg, const json_t *missing, const char *what,
			   const char *place)
{
	char *list = json_dumps(missing, JSON_COMPACT);
	const char *values[1] = {list};
	TideError err = {0};
	PGresult *res = NULL;

	if (!tide_pg_exec(pg, tide_q_doctor_existing, 1, values, &res, &err))
		tide_doctor_report(d, TIDE_DOCTOR_SKIP, id, place, err.message, err.hint);
	for (int i = 0; res != NULL && i < PQntuples(res); i++)
	{
		const char *table = PQgetvalue(res, i, 0);
		bool exists = PQgetvalue(res, i, 2)[0] == 't';

		tide_doctor_report(
			d, exists ? TIDE_DOCTOR_WARN : TIDE_DOCTOR_NOTE, id, table,
			tide_doctor_printf(d, "%s: %s %s", what,
							   exists ? "it exists, but is not added," : "there is no such table",
							   place),
			tide_doctor_printf(d, "%s: SELECT tide.table_add('%s', '%s')", place, table,
							   PQgetvalue(res, i, 1)));
	}
	PQclear(res);
	free(list);
}

static void
check_tables_here(TideDoctor *d, const char *id)
{
	skip_silent(d, id);
	FOR_EACH_ORIGIN(d, peer)
	{
		json_t *not_here = tables_missing(peer->rows, d->rows);
		json_t *not_there = tables_missing(d->rows, peer->rows);

		report_missing(d, id, d->pg, not_here,
					   tide_doctor_printf(d, "rows of region \"%s\" don't arrive", peer->region),
					   "here");
		report_missing(d, id, peer->pg, not_there,
					   tide_doctor_printf(d, "nothing comes from region \"%s\"", peer->region),
					   tide_doctor_printf(d, "in region \"%s\"", peer->region));
		json_decref(not_here);
		json_decref(not_there);
	}
}

/* May the link's role read it there, for the first copy? */
static void
check_readable(TideDoctor *d, const char *id, const TidePeer *peer, const json_t *there)
{
	const json_t *lacks = json_object_get(there, "lacks");
	const char *name = tide_json_text(there, "name");
	const char *role = tide_json_text(json_object_get(peer->rows, "role"), "name");

	for (size_t i = 0; i < json_array_size(lacks); i++)
	{
		if (tide_doctor_same(json_string_value(json_array_get(lacks, i)), "SELECT"))
			tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, name,
							   tide_doctor_printf(d, "role %s may not read it in region \"%s\"",
												  role, peer->region),
							   "tide.table_add() there, again, gives the right back");
	}
	if (tide_json_bool(there, "row_security"))
		tide_doctor_report(
			d, TIDE_DOCTOR_ERROR, id, name,
			tide_doctor_printf(d,
							   "row security applies to role %s in region \"%s\": "
							   "it can't be copied",
							   role, peer->region),
			"there: ALTER TABLE ... DISABLE ROW LEVEL SECURITY, or BYPASSRLS for that "
			"role");
}

static void
check_alike(TideDoctor *d, const char *id)
{
	skip_silent(d, id);
	FOR_EACH_ORIGIN(d, peer)
	{
		const json_t *tables = json_object_get(d->rows, "tables");

		for (size_t i = 0; i < json_array_size(tables); i++)
		{
			const json_t *here = json_array_get(tables, i);
			const json_t *there = find_table(peer->rows, here);

			if (there == NULL)
				continue;
			compare_added(d, id, peer, here, there);
			if (!tide_doctor_travels(here) || !tide_doctor_travels(there))
				continue;
			check_readable(d, id, peer, there);
			compare_shape(d, id, peer, here, there);
		}
	}
}

/* ---- declarations ---- */

/* Of every region that answers, whether rows come from there or not. */
static void
compare_classes(TideDoctor *d, const char *id, const TidePeer *peer)
{
	char *there = json_dumps(json_object_get(peer->rows, "classes"),
							 JSON_COMPACT | JSON_ENCODE_ANY);
	const char *values[2] = {peer->region, there};
	TideError err = {0};
	PGresult *res = NULL;

	if (there == NULL)
		tide_doctor_report(d, TIDE_DOCTOR_SKIP, id, peer->region,
						   "its extension is older and does not tell what it declares", NULL);
	else if (!tide_pg_exec(d->pg, tide_q_doctor_classes, 2, values, &res, &err))
		tide_doctor_report(d, TIDE_DOCTOR_SKIP, id, peer->region, err.message, err.hint);
	for (int i = 0; res != NULL && i < PQntuples(res); i++)
		tide_doctor_report(
			d, strcmp(PQgetvalue(res, i, 2), "lacks") == 0 ? TIDE_DOCTOR_NOTE : TIDE_DOCTOR_WARN,
			id, PQgetvalue(res, i, 0), PQgetvalue(res, i, 1),
			"make it the same in every region: SELECT * FROM tide.class_alter(name, "
			"options, dry_run => true) shows what that changes");
	PQclear(res);
	free(there);
}

static void
check_classes(TideDoctor *d, const char *id)
{
	skip_silent(d, id);
	for (const TidePeer *peer = d->peers; peer != NULL; peer = peer->next)
	{
		if (peer->rows != NULL)
			compare_classes(d, id, peer);
	}
}

/* ---- copies ---- */

/* By residency: nothing of the table may come here, or not by such a link (doctor_residency.c says so). */
static bool
is_withheld(const TideDoctor *d, const json_t *there, const char *from)
{
	const char *region = tide_json_text(d->rows, "region");
	const json_t *withheld = json_object_get(there, "withheld");
	const json_t *link = find_member(json_object_get(d->rows, "links"), "region", from);

	for (size_t i = 0; i < json_array_size(withheld); i++)
	{
		if (tide_doctor_same(json_string_value(json_array_get(withheld, i)), region))
			return true;
	}
	return json_is_object(json_object_get(there, "residency")) &&
		   !tide_doctor_same(tide_json_text(link, "transport"), "direct") && !has_own_stream(link);
}

/*
 * Tables that wait for their first copy although the link streams, or whose copy
 * is what failed last: a link turns from one to the other as it tries again.
 */
static void
check_copies(TideDoctor *d, const char *id)
{
	const json_t *waiting = json_object_get(d->rows, "link_tables");
	const json_t *links = json_object_get(d->status, "links");

	for (size_t i = 0; i < json_array_size(waiting); i++)
	{
		const json_t *table = json_array_get(waiting, i);
		const char *region = tide_json_text(table, "region");
		const char *error = tide_json_text(find_member(links, "region", region), "last_error");
		const TidePeer *peer = d->peers;
		const json_t *there;

		while (peer != NULL && !tide_doctor_same(peer->region, region))
			peer = peer->next;
		there = peer != NULL ? find_table(peer->rows, table) : NULL;
		if (there == NULL || !tide_doctor_travels(there) || is_withheld(d, there, region))
			continue; /* not published there: it may wait for ever */
		if (!tide_doctor_same(tide_json_text(table, "phase"), "streaming") &&
			(error == NULL || strstr(error, tide_json_text(table, "table")) == NULL))
			continue; /* in its first copy */
		tide_doctor_report(d, TIDE_DOCTOR_WARN, id, tide_json_text(there, "name"),
						   tide_doctor_printf(d, "it has no first copy from region \"%s\" yet%s%s",
											  region, error != NULL ? "; last error: " : "",
											  error != NULL ? error : ""),
						   "its changes are skipped until it is copied, which is tried again and "
						   "again; mend what the error names");
	}
}

const TideDoctorCheck tide_doctor_peer_checks[] = {
	{"link.reach", "known regions can be asked", TIDE_NEEDS_ROWS, check_reach},
	{"link.identity", "regions are who they should be", TIDE_NEEDS_ROWS, check_identity},
	{"link.role", "the role of links has its rights there", TIDE_NEEDS_ROWS, check_role},
	{"link.server", "servers let rows be taken from them", TIDE_NEEDS_ROWS, check_servers},
	{"link.slot", "slots are there and read", TIDE_NEEDS_ROWS, check_slots_there},
	{"link.orphan", "no slot is left of a former link", TIDE_NEEDS_ROWS, check_orphans},
	{"link.tables", "tables are added in both regions", TIDE_NEEDS_ROWS, check_tables_here},
	{"link.classes", "every region declares its classes alike", TIDE_NEEDS_ROWS, check_classes},
	{"link.alike", "tables are alike in both regions", TIDE_NEEDS_ROWS, check_alike},
	{"link.residency", "no other region holds rows against its residency", TIDE_NEEDS_ROWS,
	 tide_doctor_residency_there},
	{"link.copy", "tables have their first copy", TIDE_NEEDS_ROWS, check_copies},
	{"link.clock", "the regions' clocks agree", TIDE_NEEDS_ROWS, check_clock},
	{NULL, NULL, TIDE_NEEDS_NOTHING, NULL},
};
