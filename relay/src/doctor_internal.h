/*
 * doctor_internal.h
 *		What cmd_doctor.c and the checks of the database share.
 */
#ifndef TIDE_DOCTOR_INTERNAL_H
#define TIDE_DOCTOR_INTERNAL_H

#include "arena.h"
#include "doctor.h"

typedef struct TideFinding
{
	struct TideFinding *next;
	TideDoctorLevel level;
	const char *check;
	const char *subject; /* NULL: the whole database */
	const char *message;
	const char *hint; /* NULL: none */
} TideFinding;

struct TideDoctor
{
	TideArena *arena; /* all findings and texts */
	TideFinding *first;
	TideFinding *last;
	const char *conninfo;
	TidePg *pg; /* NULL: the database can't be reached */

	/* What was read once for all checks; NULL: could not be read. */
	json_t *server;	   /* queries.sql, doctor_server */
	json_t *status;	   /* status */
	json_t *pipelines; /* doctor_pipelines */
	json_t *rows;	   /* doctor_rows */

	struct TidePeer *peers; /* the other regions that are known here; see doctor_rows.h */
};

/* How much a check needs; it is left out if that is not there. */
typedef enum TideDoctorNeed
{
	TIDE_NEEDS_NOTHING,
	TIDE_NEEDS_SERVER,
	TIDE_NEEDS_STATUS,
	TIDE_NEEDS_PIPELINES,
	TIDE_NEEDS_ROWS
} TideDoctorNeed;

typedef struct TideDoctorCheck
{
	const char *id;
	const char *title; /* what is found to be well if the check reports nothing */
	TideDoctorNeed need;
	void (*run)(TideDoctor *d, const char *id);
} TideDoctorCheck;

/* In the order in which they run; each ends with a row without an id. */
extern const TideDoctorCheck tide_doctor_db_checks[];
extern const TideDoctorCheck tide_doctor_rows_checks[]; /* this region's rows */
extern const TideDoctorCheck tide_doctor_peer_checks[]; /* rows between it and the others */
extern const TideDoctorCheck tide_doctor_schema_checks[];

/* Connects to what a conninfo, or a reference to one, names.  Resolved on this machine. */
extern bool tide_doctor_open(const char *conninfo, TidePg **pg, TideError *err);

#endif /* TIDE_DOCTOR_INTERNAL_H */
