/*
 * doctor_durability.c
 *		What "pg_tide doctor" checks of classes whose commits wait for another region.
 *
 * Owns: is the server told to wait, is the other region there to answer, did waits end without
 * an answer.  Does not own: what such classes are (docs/durability.md).
 */
#include "doctor_durability.h"
#include "queries.h"

enum
{
	CLASS,
	PEER,
	LISTED,
	CONNECTED,
	ENDED,
	LAST_ENDED,
	BY_BROKER,
	LINE
};

static bool
is_true(const PGresult *res, int row, int column)
{
	return PQgetvalue(res, row, column)[0] == 't';
}

static void
check_class(TideDoctor *d, const char *id, const PGresult *res, int row)
{
	const char *class = PQgetvalue(res, row, CLASS);
	const char *peer = PQgetvalue(res, row, PEER);

	if (!is_true(res, row, LISTED))
		tide_doctor_report(
			d, TIDE_DOCTOR_ERROR, id, class,
			tide_doctor_printf(d,
							   "the server does not wait for region \"%s\": its tables can't be "
							   "written",
							   peer),
			tide_doctor_printf(d, "set %s and reload", PQgetvalue(res, row, LINE)));
	if (is_true(res, row, BY_BROKER))
		tide_doctor_report(
			d, TIDE_DOCTOR_ERROR, id, class,
			tide_doctor_printf(d, "region \"%s\" takes rows from a broker, which answers nobody",
							   peer),
			"a synchronous class needs a link with the transport \"direct\" over there");
	else if (!is_true(res, row, CONNECTED))
		tide_doctor_report(
			d, TIDE_DOCTOR_ERROR, id, class,
			tide_doctor_printf(d, "region \"%s\" takes no rows from here: commits wait for it",
							   peer),
			"start its relay, or tide.link_add() there; what may go on without it: "
			"docs/durability.md");
	if (PQgetvalue(res, row, ENDED)[0] != '0')
		tide_doctor_report(
			d, TIDE_DOCTOR_WARN, id, class,
			tide_doctor_printf(d,
							   "%s wait(s) for region \"%s\" ended without its answer since this "
							   "server started, the last at %s",
							   PQgetvalue(res, row, ENDED), peer, PQgetvalue(res, row, LAST_ENDED)),
			"those commits stand, and were here alone until the link caught up");
}

void
tide_doctor_check_durability(TideDoctor *d, const char *id)
{
	TideError err = {0};
	PGresult *res;

	if (!tide_pg_exec(d->pg, tide_q_doctor_sync, 0, NULL, &res, &err))
	{
		tide_doctor_report(d, TIDE_DOCTOR_SKIP, id, NULL, err.message, err.hint);
		return;
	}
	for (int row = 0; row < PQntuples(res); row++)
		check_class(d, id, res, row);
	PQclear(res);
}
