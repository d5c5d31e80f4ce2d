/*
 * status.h
 *		What the parts of "pg_tide status" share.
 *
 * Owns: tables made from the rows of a JSON document, and the document's
 * presentation.  Does not own: what the document holds (queries.sql, "status").
 */
#ifndef TIDE_STATUS_H
#define TIDE_STATUS_H

#include <jansson.h>
#include <stdio.h>

#include "exit_codes.h"
#include "table.h"

/* How a member of a row's object becomes a cell; the text is the caller's to free. */
typedef char *(*TideFormatCell)(const json_t *row, const char *key);

typedef struct TideStatusColumn
{
	TideTableColumn look;
	const char *key;
	TideFormatCell format;
} TideStatusColumn;

extern char *tide_format_text(const json_t *row, const char *key);
extern char *tide_format_yes(const json_t *row, const char *key);
extern char *tide_format_bytes(const json_t *row, const char *key);	  /* "12 MB"; "-": unknown */
extern char *tide_format_seconds(const json_t *row, const char *key); /* "0.2 s", "3 h"; "-" */

/* A further line under a row; NULL: none; the caller's to free. */
typedef char *(*TideFormatNote)(const json_t *row);

/* Nothing is written for an empty list.  At most 12 columns; note may be NULL. */
extern void tide_status_table(FILE *out, const json_t *rows, const TideStatusColumn *columns,
							  size_t n_columns, TideFormatNote note);

#define TIDE_STATUS_TABLE(out, rows, columns, note) \
	tide_status_table(out, rows, columns, sizeof(columns) / sizeof((columns)[0]), note)

/* "last error at TIME: TEXT" of a row that has one. */
extern char *tide_status_last_error(const json_t *row);

/* The whole document as tables. */
extern void tide_status_print(FILE *out, const json_t *status);

/* Its part about rows: links with the progress of their copies, slots (cmd_status_rows.c). */
extern void tide_status_print_rows(FILE *out, const json_t *status);

/* A line for each link that begins with the time: for logs and pipes. */
extern void tide_status_line_links(FILE *out, const char *time, const json_t *status);

/*
 * Reads and shows the document every second until SIGINT or SIGTERM, which is
 * TIDE_EXIT_OK (cmd_status_watch.c).  Only a first connection that fails ends it.
 */
extern TideExitCode tide_status_watch(const char *conninfo, bool as_json);

#endif /* TIDE_STATUS_H */
