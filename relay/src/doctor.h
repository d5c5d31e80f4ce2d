/*
 * doctor.h
 *		What the checks of "pg_tide doctor" share.
 *
 * Owns: collecting findings and showing them.  Does not own: the checks
 * (doctor_db.c for the database, doctor_nats.c for NATS).  A check reports what
 * it found; it changes nothing anywhere.
 */
#ifndef TIDE_DOCTOR_H
#define TIDE_DOCTOR_H

#include <jansson.h>

#include "pg.h"

typedef struct TideDoctor TideDoctor;

/* Errors and warnings make the exit status non-zero; the others don't. */
typedef enum TideDoctorLevel
{
	TIDE_DOCTOR_OK,
	TIDE_DOCTOR_NOTE, /* worth knowing, nothing to fix */
	TIDE_DOCTOR_SKIP, /* could not be checked; the message says why */
	TIDE_DOCTOR_WARN, /* works now, will hurt later */
	TIDE_DOCTOR_ERROR /* does not work, or breaks a promise */
} TideDoctorLevel;

/*
 * Reports a finding.  check: stable id ("nats.duplicate_window"); subject: what
 * it is about (a pipeline, a stream; NULL: the whole database); message names
 * the setting and its value; hint says what to do (NULL: nothing).  All copied.
 */
extern void tide_doctor_report(TideDoctor *d, TideDoctorLevel level, const char *check,
							   const char *subject, const char *message, const char *hint);

/* Text that lives as long as the doctor, for messages and hints. */
extern const char *
tide_doctor_printf(TideDoctor *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

extern TidePg *tide_doctor_pg(TideDoctor *d);		  /* open connection, or NULL */
extern const char *tide_doctor_region(TideDoctor *d); /* this database's region; NULL: unknown */

/*
 * Checks one nats pipeline's broker (doctor_nats.c).  direction: "outbox" or
 * "inbox"; target: the local outbox or inbox; config: borrowed, as stored,
 * secrets still references.
 */
extern void tide_doctor_check_nats(TideDoctor *d, const char *pipeline, const char *direction,
								   const char *target, json_t *config);

#endif /* TIDE_DOCTOR_H */
