/*
 * pg_json.c
 *		Queries whose one value is a JSON document.
 */
#include "pg_json.h"

bool
tide_pg_json(TidePg *pg, const char *sql, json_t **document, TideError *err)
{
	json_error_t parse_error;
	PGresult *res;
	const char *text;

	*document = NULL;
	if (!tide_pg_exec(pg, sql, 0, NULL, &res, err))
		return false;
	text = PQntuples(res) == 1 ? tide_pg_value(res, 0, 0) : NULL;
	if (text == NULL)
		tide_error(err, TIDE_ERR_INTERNAL, "", "a query for a document returned none");
	else
	{
		*document = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, &parse_error);
		if (*document == NULL)
			tide_error(err, TIDE_ERR_INTERNAL, "", "can't read the server's JSON: %s",
					   parse_error.text);
	}
	PQclear(res);
	return *document != NULL;
}

const char *
tide_json_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

bool
tide_json_bool(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

long long
tide_json_int(const json_t *object, const char *key)
{
	return (long long) json_number_value(json_object_get(object, key));
}
