/*
 * pg_json.h
 *		Queries whose one value is a JSON document.
 *
 * Owns: running them and reading members of what they return.
 */
#ifndef TIDE_PG_JSON_H
#define TIDE_PG_JSON_H

#include <jansson.h>

#include "pg.h"

/* Runs a query that returns one row with one JSON text; *document is the caller's to json_decref. */
extern bool tide_pg_json(TidePg *pg, const char *sql, json_t **document, TideError *err);

/* Members of an object, forgiving: NULL, false or 0 if absent or of another type. */
extern const char *tide_json_text(const json_t *object, const char *key);
extern bool tide_json_bool(const json_t *object, const char *key);
extern long long tide_json_int(const json_t *object, const char *key);

#endif /* TIDE_PG_JSON_H */
