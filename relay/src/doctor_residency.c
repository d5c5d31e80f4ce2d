/*
 * doctor_residency.c
 *		What "pg_tide doctor" says of residency: what regions hold against it, and what can't be sent.
 *
 * Owns: asking tide.residency_audit() here and in every region that answers.  Does not own: asking
 * whether classes are alike (doctor_peer.c).
 */
#include <string.h>

#include "doctor_rows.h"
#include "queries.h"

/*
 * One row of the audit: table, region, how it is sent, rows and values of others that must not be there, rows
 * of its own.
 */
static void
report_rule(TideDoctor *d, const char *id, const char *place, const PGresult *res, int row)
{
	const char *table = PQgetvalue(res, row, 0);
	const char *sent = PQgetvalue(res, row, 2);

	if (tide_pg_int64(res, row, 3) > 0 || tide_pg_int64(res, row, 4) > 0)
		tide_doctor_report(
			d, TIDE_DOCTOR_ERROR, id, table,
			tide_doctor_printf(d, "%s holds %s rows and %s values of other regions against policy",
							   place, PQgetvalue(res, row, 3), PQgetvalue(res, row, 4)),
			"a relay there removes them soon after a change of the class; if they stay: SELECT * "
			"FROM tide.residency_purge() there, and make the class the same where they come from");
	if (tide_pg_int64(res, row, 5) > 0)
		tide_doctor_report(
			d, TIDE_DOCTOR_WARN, id, table,
			tide_doctor_printf(d, "%s holds %s rows that it wrote itself against policy", place,
							   PQgetvalue(res, row, 5)),
			"they go when a region that may have them, with all columns, has them and a link "
			"from there, direct or with its own stream; tide.residency_leaving has their keys");
	if (strncmp(sent, "not ", 4) == 0)
		tide_doctor_report(
			d, strncmp(sent, "not as ", 7) == 0 ? TIDE_DOCTOR_ERROR : TIDE_DOCTOR_WARN, id, table,
			tide_doctor_printf(d, "%s: what region \"%s\" may have is %s", place,
							   PQgetvalue(res, row, 1), sent),
			"add \"own_stream\": true to the options of tide.link_add() in the region that takes "
			"rows; a publication that was changed is put right by tide.table_add() again");
}

static void
audit(TideDoctor *d, const char *id, TidePg *pg, const char *subject, const char *place)
{
	TideError err = {0};
	PGresult *res;

	if (!tide_pg_exec(pg, tide_q_doctor_residency, 0, NULL, &res, &err))
	{
		tide_doctor_report(d, TIDE_DOCTOR_SKIP, id, subject, err.message, err.hint);
		return;
	}
	for (int row = 0; row < PQntuples(res); row++)
		report_rule(d, id, place, res, row);
	PQclear(res);
}

void
tide_doctor_residency_here(TideDoctor *d, const char *id)
{
	audit(d, id, d->pg, NULL, "this region");
}

void
tide_doctor_residency_there(TideDoctor *d, const char *id)
{
	for (const TidePeer *peer = d->peers; peer != NULL; peer = peer->next)
	{
		if (peer->rows != NULL)
			audit(d, id, peer->pg, peer->region,
				  tide_doctor_printf(d, "region \"%s\"", peer->region));
	}
}
