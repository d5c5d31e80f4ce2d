/*
 * doctor_wal.c
 *		What "pg_tide doctor" says of room and patience: WAL kept for other regions, transactions
 *		that are open for long, classes that wait for more important ones.
 *
 * Owns: these checks of one region.  Does not own: the states of slots
 * (doctor_rows.c), the numbers (extension/sql/77_wal_watch.sql, 79_rows_views.sql).
 */
#include <stdlib.h>
#include <string.h>

#include "doctor_rows.h"
#include "queries.h"

#define SOON_S 3600 /* an hour: somebody has to act now */

static bool
ask(TideDoctor *d, const char *id, const char *sql, PGresult **res)
{
	TideError err = {0};

	if (tide_pg_exec(d->pg, sql, 0, NULL, res, &err))
		return true;
	tide_doctor_report(d, TIDE_DOCTOR_SKIP, id, NULL, err.message, err.hint);
	return false;
}

/* 125 as "2 min 5 s". */
static const char *
duration(TideDoctor *d, const char *seconds)
{
	long long s = strtoll(seconds, NULL, 10);

	if (s < 60)
		return tide_doctor_printf(d, "%lld s", s);
	if (s < 3600)
		return tide_doctor_printf(d, "%lld min %lld s", s / 60, s % 60);
	return tide_doctor_printf(d, "%lld h %lld min", s / 3600, s / 60 % 60);
}

static double
number(const PGresult *res, int row, int col)
{
	return strtod(PQgetvalue(res, row, col), NULL);
}

void
tide_doctor_wal(TideDoctor *d, const char *id)
{
	PGresult *res;

	if (!ask(d, id, tide_q_doctor_slots, &res))
		return;
	for (int i = 0; i < PQntuples(res); i++)
	{
		bool disk = strcmp(PQgetvalue(res, i, 5), "t") == 0;

		tide_doctor_report(
			d, number(res, i, 2) < SOON_S ? TIDE_DOCTOR_ERROR : TIDE_DOCTOR_WARN, id,
			PQgetisnull(res, i, 1) ? NULL : PQgetvalue(res, i, 1),
			tide_doctor_printf(d, "slot \"%s\" keeps %s/s more WAL; in %s %s (%s are left)",
							   PQgetvalue(res, i, 0), tide_doctor_bytes(d, number(res, i, 4)),
							   duration(d, PQgetvalue(res, i, 2)),
							   disk ? "the disk is full" : "the slot is lost",
							   tide_doctor_bytes(d, number(res, i, 3))),
			disk ? "why does that region not take its rows? Make room, or limit what a slot may "
				   "keep: max_slot_wal_keep_size"
				 : "why does that region not take its rows? max_slot_wal_keep_size limits what the "
				   "slot may keep");
	}
	PQclear(res);
}

void
tide_doctor_transactions(TideDoctor *d, const char *id)
{
	PGresult *res;

	if (!ask(d, id, tide_q_doctor_transactions, &res))
		return;
	for (int i = 0; i < PQntuples(res); i++)
	{
		bool writes = strcmp(PQgetvalue(res, i, 2), "t") == 0;

		tide_doctor_report(
			d, TIDE_DOCTOR_WARN, id, NULL,
			tide_doctor_printf(
				d, "a transaction has been open for %s (%s; %s): %s",
				duration(d, PQgetvalue(res, i, 1)), PQgetvalue(res, i, 3), PQgetvalue(res, i, 0),
				writes ? "slots keep the WAL since it began" : "dead rows since it began stay"),
			"end it: its session's COMMIT or ROLLBACK, pg_terminate_backend(pid), or ROLLBACK "
			"PREPARED");
	}
	PQclear(res);
}

void
tide_doctor_held(TideDoctor *d, const char *id)
{
	PGresult *res;

	if (!ask(d, id, tide_q_doctor_held, &res))
		return;
	for (int i = 0; i < PQntuples(res); i++)
		tide_doctor_report(d, TIDE_DOCTOR_NOTE, id, PQgetvalue(res, i, 0),
						   tide_doctor_printf(d, "classes %s have waited for %s: %s",
											  PQgetvalue(res, i, 1), PQgetvalue(res, i, 3),
											  PQgetvalue(res, i, 2)),
						   "they go on by themselves; docs/priorities.md");
	PQclear(res);
}
