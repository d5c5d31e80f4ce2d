/*
 * cmd_doctor.c
 *		"pg_tide doctor": finds what is wrong or will go wrong, and says what to do.
 *
 * Owns: running the checks, collecting what they report, showing it.  Does not
 * own: the checks (doctor_db.c, doctor_nats.c, doctor_rows.c, doctor_peer.c).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "doctor_rows.h"
#include "mem.h"
#include "nats_conn.h"
#include "pg_json.h"
#include "queries.h"
#include "table.h"

static const TideCliOption options[] = {
	{"dbname", 'd', "CONNINFO", NULL, "libpq connection string or URI (default: PG* variables)"},
	{"json", '\0', NULL, NULL, "print one JSON document"},
	{"log-level", '\0', "LEVEL", "warn", "error, warn, info or debug"},
	{"log-format", '\0', "FORMAT", "text", "text or json"},
	{NULL, '\0', NULL, NULL, NULL},
};

static const struct
{
	const char *name;
	bool wrong; /* counts for the exit status */
} levels[] = {
	[TIDE_DOCTOR_OK] = {"ok", false},	   [TIDE_DOCTOR_NOTE] = {"note", false},
	[TIDE_DOCTOR_SKIP] = {"skip", false},  [TIDE_DOCTOR_WARN] = {"warn", true},
	[TIDE_DOCTOR_ERROR] = {"error", true},
};

#define N_LEVELS (sizeof(levels) / sizeof(levels[0]))

/* ---- what checks call ---- */

static const char *
keep(TideDoctor *d, const char *text)
{
	return text != NULL && text[0] != '\0' ? tide_arena_strdup(d->arena, text) : NULL;
}

void
tide_doctor_report(TideDoctor *d, TideDoctorLevel level, const char *check, const char *subject,
				   const char *message, const char *hint)
{
	TideFinding *finding = tide_arena_zalloc(d->arena, sizeof(TideFinding));

	finding->level = level;
	finding->check = keep(d, check);
	finding->subject = keep(d, subject);
	finding->message = tide_arena_strdup(d->arena, message != NULL ? message : "");
	finding->hint = keep(d, hint);
	if (d->last != NULL)
		d->last->next = finding;
	else
		d->first = finding;
	d->last = finding;
}

const char *
tide_doctor_printf(TideDoctor *d, const char *fmt, ...)
{
	va_list args;
	char *text;
	const char *kept;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		tide_out_of_memory(strlen(fmt));
	va_end(args);
	kept = tide_arena_strdup(d->arena, text);
	free(text);
	return kept;
}

TidePg *
tide_doctor_pg(TideDoctor *d)
{
	return d->pg;
}

const char *
tide_doctor_region(TideDoctor *d)
{
	return tide_json_text(d->status, "region");
}

/* ---- running ---- */

/* Reads a document the first time a check needs it; says once why it can't be read. */
static bool
fetch(TideDoctor *d, json_t **document, bool *tried, const char *sql, const char *what)
{
	TideError err = {0};

	if (*document == NULL && !*tried && tide_json_text(d->server, "extension_version") != NULL)
	{
		*tried = true;
		if (!tide_pg_json(d->pg, sql, document, &err))
			tide_doctor_report(d, TIDE_DOCTOR_ERROR, what, NULL, err.message, err.hint);
	}
	return *document != NULL;
}

typedef struct Tried
{
	bool status;
	bool pipelines;
	bool rows;
} Tried;

static bool
have(TideDoctor *d, TideDoctorNeed need, Tried *tried)
{
	switch (need)
	{
		case TIDE_NEEDS_NOTHING:
			return true;
		case TIDE_NEEDS_SERVER:
			return d->server != NULL;
		case TIDE_NEEDS_STATUS:
			return fetch(d, &d->status, &tried->status, tide_q_status, "status");
		case TIDE_NEEDS_PIPELINES:
			return fetch(d, &d->pipelines, &tried->pipelines, tide_q_doctor_pipelines, "pipelines");
		case TIDE_NEEDS_ROWS:
			return fetch(d, &d->rows, &tried->rows, tide_q_doctor_rows, "rows");
	}
	return false;
}

static void
run_checks(TideDoctor *d, const TideDoctorCheck *checks, Tried *tried)
{
	for (const TideDoctorCheck *check = checks; check->id != NULL; check++)
	{
		TideFinding *before;

		if (!have(d, check->need, tried))
		{
			tide_doctor_report(d, TIDE_DOCTOR_SKIP, check->id, NULL, "could not be checked", NULL);
			continue;
		}
		before = d->last;
		check->run(d, check->id);
		if (d->last == before)
			tide_doctor_report(d, TIDE_DOCTOR_OK, check->id, NULL, check->title, NULL);
	}
}

/* ---- showing ---- */

static void
print_text(const TideDoctor *d, const size_t *counts)
{
	for (const TideFinding *f = d->first; f != NULL; f = f->next)
	{
		printf("%-6s %-18s ", levels[f->level].name, f->check);
		if (f->subject != NULL)
		{
			tide_write_safely(stdout, f->subject);
			fputs(": ", stdout);
		}
		tide_write_safely(stdout, f->message);
		putchar('\n');
		if (f->hint != NULL && f->level != TIDE_DOCTOR_OK)
		{
			printf("%26shint: ", "");
			tide_write_safely(stdout, f->hint);
			putchar('\n');
		}
	}
	printf("\n%zu error(s), %zu warning(s), %zu note(s), %zu skipped\n", counts[TIDE_DOCTOR_ERROR],
		   counts[TIDE_DOCTOR_WARN], counts[TIDE_DOCTOR_NOTE], counts[TIDE_DOCTOR_SKIP]);
}

/* The server's texts are UTF-8; a broken file name in an error may not be. */
static json_t *
json_text(const char *text)
{
	json_t *value = text != NULL ? json_string(text) : json_null();

	return value != NULL ? value : json_string("(not valid UTF-8)");
}

static void
print_json(const TideDoctor *d, const size_t *counts, bool ok)
{
	json_t *findings = json_array();
	json_t *document;

	for (const TideFinding *f = d->first; f != NULL; f = f->next)
		json_array_append_new(
			findings, json_pack("{s:s, s:s, s:o, s:o, s:o}", "level", levels[f->level].name,
								"check", f->check, "subject", json_text(f->subject), "message",
								json_text(f->message), "hint", json_text(f->hint)));
	document = json_pack("{s:b, s:s, s:i, s:i, s:i, s:i, s:o}", "ok", ok, "version", TIDE_VERSION,
						 "errors", (int) counts[TIDE_DOCTOR_ERROR], "warnings",
						 (int) counts[TIDE_DOCTOR_WARN], "notes", (int) counts[TIDE_DOCTOR_NOTE],
						 "skipped", (int) counts[TIDE_DOCTOR_SKIP], "findings", findings);
	json_dumpf(document, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(document);
}

static TideExitCode
run(const TideCliArgs *args)
{
	static const TideDoctorCheck *const groups[] = {tide_doctor_db_checks, tide_doctor_rows_checks,
													tide_doctor_peer_checks,
													tide_doctor_schema_checks};
	TideDoctor doctor = {0};
	Tried tried = {0};
	size_t counts[N_LEVELS] = {0};
	TideError err = {0};
	bool ok = true;

	if (!tide_cli_init_log(args))
		return TIDE_EXIT_USAGE;
	doctor.arena = tide_arena_new();
	doctor.conninfo = tide_cli_value(args, "dbname");
	if (!tide_nats_init(&err))
		tide_doctor_report(&doctor, TIDE_DOCTOR_ERROR, "nats", NULL, err.message, err.hint);
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		run_checks(&doctor, groups[i], &tried);
	for (const TideFinding *f = doctor.first; f != NULL; f = f->next)
	{
		counts[f->level]++;
		ok = ok && !levels[f->level].wrong;
	}
	if (tide_cli_flag(args, "json"))
		print_json(&doctor, counts, ok);
	else
		print_text(&doctor, counts);

	json_decref(doctor.server);
	json_decref(doctor.status);
	json_decref(doctor.pipelines);
	json_decref(doctor.rows);
	tide_doctor_peers_free(&doctor);
	tide_pg_close(doctor.pg);
	tide_nats_shutdown();
	tide_arena_free(doctor.arena);
	return ok ? TIDE_EXIT_OK : TIDE_EXIT_PROBLEM;
}

const TideCommand tide_cmd_doctor = {
	.name = "doctor",
	.summary = "find what is wrong, or will be, and say what to do",
	.options = options,
	.run = run,
};
