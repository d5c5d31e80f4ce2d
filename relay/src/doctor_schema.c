/*
 * doctor_schema.c
 *		What "pg_tide doctor" checks of schemas: drift, sequences, collations, numbers in ids.
 *
 * Owns: these checks, what each region is asked for them (queries.sql, doctor_schema).  Does not
 * own: comparing (the database does: tide.schema_drift, doctor_sequences, doctor_collations), who
 * the other regions are (doctor_peer.c).
 */
#include <stdlib.h>

#include "doctor_rows.h"
#include "pg_json.h"
#include "queries.h"

/* Goes through the answers of a query to our database; each reports one row. */
static void
each_row(TideDoctor *d, const char *id, const char *sql, int n_values, const char *const *values,
		 void (*report)(TideDoctor *d, const char *id, const PGresult *res, int row))
{
	TideError err = {0};
	PGresult *res;

	if (!tide_pg_exec(d->pg, sql, n_values, values, &res, &err))
	{
		tide_doctor_report(d, TIDE_DOCTOR_SKIP, id, NULL, err.message, err.hint);
		return;
	}
	for (int row = 0; row < PQntuples(res); row++)
		report(d, id, res, row);
	PQclear(res);
}

/* ---- drift ---- */

static void
report_drift(TideDoctor *d, const char *id, const PGresult *res, int row)
{
	bool blocking = tide_pg_bool(res, row, 3);

	tide_doctor_report(
		d, blocking ? TIDE_DOCTOR_ERROR : TIDE_DOCTOR_NOTE, id, PQgetvalue(res, row, 1),
		tide_doctor_printf(d, "%s (\"there\" is region \"%s\")%s%s%s", PQgetvalue(res, row, 2),
						   PQgetvalue(res, row, 0), blocking ? "; " : "",
						   blocking ? PQgetvalue(res, row, 4) : "",
						   blocking ? " change(s) of the table wait" : ""),
		blocking ? "make the table the same here and there; what waits is then applied by itself"
				 : "fine in the middle of a change that is made region by region");
}

static void
check_drift(TideDoctor *d, const char *id)
{
	each_row(d, id, tide_q_doctor_drift, 0, NULL, report_drift);
}

/* ---- comparing with other regions ---- */

/* Asks every region that rows are taken from, and has our database compare. */
static void
compare(TideDoctor *d, const char *id, const char *sql,
		void (*report)(TideDoctor *d, const char *id, const PGresult *res, int row))
{
	for (TidePeer *peer = d->peers; peer != NULL; peer = peer->next)
	{
		TideError err = {0};
		json_t *facts = NULL;
		char *text;
		const char *values[2] = {peer->region, NULL};

		if (peer->link == NULL || peer->pg == NULL)
			continue;
		if (!tide_pg_json(peer->pg, tide_q_doctor_schema, &facts, &err))
		{
			tide_doctor_report(d, TIDE_DOCTOR_SKIP, id, peer->region, err.message, err.hint);
			continue;
		}
		text = json_dumps(facts, 0);
		values[1] = text;
		each_row(d, id, sql, 2, values, report);
		free(text);
		json_decref(facts);
	}
}

static void
report_sequence(TideDoctor *d, const char *id, const PGresult *res, int row)
{
	tide_doctor_report(
		d, TIDE_DOCTOR_NOTE, id, PQgetvalue(res, row, 0),
		tide_doctor_printf(d,
						   "column \"%s\" has its values from sequence %s (%s) here, and from %s "
						   "(%s) in region \"%s\": both will give the same ones",
						   PQgetvalue(res, row, 1), PQgetvalue(res, row, 2),
						   PQgetvalue(res, row, 3), PQgetvalue(res, row, 4),
						   PQgetvalue(res, row, 5), PQgetvalue(res, row, 6)),
		tide_doctor_printf(d,
						   "let the default be tide.global_id(), or keep the regions apart: ALTER "
						   "SEQUENCE %s INCREMENT BY n START WITH k RESTART WITH k, with n the "
						   "number of regions and another k in each",
						   PQgetvalue(res, row, 2)));
}

static void
check_sequences(TideDoctor *d, const char *id)
{
	compare(d, id, tide_q_doctor_sequences, report_sequence);
}

static void
report_collation(TideDoctor *d, const char *id, const PGresult *res, int row)
{
	tide_doctor_report(
		d, TIDE_DOCTOR_WARN, id, PQgetvalue(res, row, 0),
		tide_doctor_printf(d, "key column \"%s\" has collation %s here, %s in region \"%s\"",
						   PQgetvalue(res, row, 1), PQgetvalue(res, row, 2),
						   PQgetvalue(res, row, 3), PQgetvalue(res, row, 4)),
		"rows are found by equality, so they replicate; but the regions sort them differently, and "
		"what is equal may differ under a collation that is not deterministic");
}

static void
check_collations(TideDoctor *d, const char *id)
{
	compare(d, id, tide_q_doctor_collations, report_collation);
}

static void
report_node(TideDoctor *d, const char *id, const PGresult *res, int row)
{
	tide_doctor_report(d, TIDE_DOCTOR_ERROR, id, PQgetvalue(res, row, 0),
					   tide_doctor_printf(d,
										  "it has node number %s in ids, as this region has: "
										  "tide.global_id() gives the same ids in both",
										  PQgetvalue(res, row, 1)),
					   "SELECT tide.region_set_node(n) in one of them, with a number that is free");
}

static void
check_nodes(TideDoctor *d, const char *id)
{
	compare(d, id, tide_q_doctor_nodes, report_node);
}

const TideDoctorCheck tide_doctor_schema_checks[] = {
	{"schema.drift", "tables take all rows of the regions they come from", TIDE_NEEDS_ROWS,
	 check_drift},
	{"schema.sequences", "no two regions give the same numbers", TIDE_NEEDS_ROWS, check_sequences},
	{"schema.collation", "keys have the same collations in all regions", TIDE_NEEDS_ROWS,
	 check_collations},
	{"schema.ids", "node numbers in ids differ", TIDE_NEEDS_ROWS, check_nodes},
	{NULL, NULL, TIDE_NEEDS_NOTHING, NULL},
};
