/*
 * link_tables.c
 *		Which tables a link's two sides have, and which of them want to be copied.
 *
 * Owns: the lists, comparing them, and which tables are left alone for a while
 * because their copy failed.  Does not own: when it is looked (link_watch.c),
 * copying (link_copy.c).
 *
 * A table that is here and not published there waits; so does one that is
 * published there and not added here: adding it makes it wanted.
 */
#include <stdlib.h>
#include <string.h>

#include "link_internal.h"
#include "mem.h"
#include "queries.h"

#define REFUSED_MS 20000 /* a table whose copy failed is left alone for so long */

static TideTableList *
new_list(size_t n)
{
	TideTableList *list = tide_zalloc(sizeof(*list));

	list->tables = tide_zalloc(sizeof(TideTable) * (n + 1));
	list->n = n;
	return list;
}

static void
clear_table(TideTable *table)
{
	free(table->schema);
	free(table->name);
	free(table->columns);
	free(table->types);
	free(table->copy_sql);
	memset(table, 0, sizeof(*table));
}

void
tide_tables_free(TideTableList *list)
{
	if (list == NULL)
		return;
	for (size_t i = 0; i < list->n; i++)
		clear_table(&list->tables[i]);
	free(list->tables);
	free(list);
}

TideTable *
tide_tables_find(const TideTableList *list, const char *schema, const char *name)
{
	for (size_t i = 0; list != NULL && i < list->n; i++)
	{
		TideTable *table = &list->tables[i];

		if (strcmp(table->schema, schema) == 0 && strcmp(table->name, name) == 0)
			return table;
	}
	return NULL;
}

TideTableList *
tide_tables_there(const PGresult *res)
{
	TideTableList *list = new_list((size_t) PQntuples(res));

	for (int row = 0; row < PQntuples(res); row++)
	{
		TideTable *table = &list->tables[row];

		table->schema = tide_strdup(PQgetvalue(res, row, 0));
		table->name = tide_strdup(PQgetvalue(res, row, 1));
		table->columns = tide_strdup(PQgetvalue(res, row, 3));
		table->types = tide_strdup(PQgetvalue(res, row, 4));
		table->binary = strcmp(PQgetvalue(res, row, 5), "binary") == 0;
		table->copy_sql = tide_strdup(PQgetvalue(res, row, 6));
		table->rows_estimate = tide_pg_int64(res, row, 7);
		table->bytes = tide_pg_int64(res, row, 8);
	}
	return list;
}

TideTableList *
tide_tables_here(const PGresult *res)
{
	TideTableList *list = new_list((size_t) PQntuples(res));

	for (int row = 0; row < PQntuples(res); row++)
	{
		TideTable *table = &list->tables[row];

		table->schema = tide_strdup(PQgetvalue(res, row, 0));
		table->name = tide_strdup(PQgetvalue(res, row, 1));
		/* The rest is copied, or comes by the other lane. */
		table->wanted = strcmp(PQgetvalue(res, row, 2), "wanted") == 0 ||
						strcmp(PQgetvalue(res, row, 2), "copying") == 0;
		table->wish = tide_pg_int64(res, row, 3);
	}
	return list;
}

static bool
left_alone(const TideLink *link, const TideTable *table)
{
	const TideTable *refused = tide_tables_find(link->refused, table->schema, table->name);

	return refused != NULL && tide_monotonic_ms() < refused->retry_at;
}

size_t
tide_tables_to_copy(const TideLink *link, const TideTableList *here, TideTableList *there)
{
	size_t n = 0;

	for (size_t i = 0; i < there->n; i++)
	{
		TideTable *table = &there->tables[i];
		const TideTable *mine = tide_tables_find(here, table->schema, table->name);

		if (mine != NULL && mine->wanted && !left_alone(link, table))
		{
			TideTable keep = *table;

			keep.wish = mine->wish;
			*table = there->tables[n];
			there->tables[n++] = keep;
		}
	}
	for (size_t i = n; i < there->n; i++)
		clear_table(&there->tables[i]);
	there->n = n;
	return n;
}

bool
tide_link_look(TideLink *link, TideTableList **here, TideError *err)
{
	const char *values[4];
	PGresult *lanes;
	PGresult *res;
	bool ok;

	if (!tide_link_control(link, err))
		return false;
	if (!tide_pg_exec(link->control, tide_q_rows_lanes, 0, NULL, &lanes, err))
		return tide_link_at_origin(link, err);
	values[2] = PQgetvalue(lanes, 0, 0);
	values[3] = link->spec.lanes;
	ok = tide_link_exec(link, link->reports, tide_q_relay_link_tables, 4, values, &res, err);
	PQclear(lanes);
	if (!ok)
		return false;
	if (here != NULL)
		*here = tide_tables_here(res);
	PQclear(res);
	return true;
}

bool
tide_link_tables(TideLink *link, TideTableList **there, TideError *err)
{
	const char *destination[1] = {tide_link_destination(link)};
	PGresult *res = NULL;
	TideTableList *here = NULL;

	*there = NULL;
	if (!tide_link_look(link, &here, err))
		return false;
	if (!tide_pg_exec(link->control, tide_q_rows_tables, 1, destination, &res, err))
	{
		tide_tables_free(here);
		return tide_link_at_origin(link, err);
	}
	*there = tide_tables_there(res);
	PQclear(res);
	(void) tide_tables_to_copy(link, here, *there);
	tide_tables_free(here);
	return true;
}

void
tide_link_refuse(TideLink *link, const TideTable *table)
{
	TideTable *known = tide_tables_find(link->refused, table->schema, table->name);

	if (known == NULL)
	{
		if (link->refused == NULL)
			link->refused = new_list(0);
		link->refused->tables = tide_realloc(link->refused->tables,
											 sizeof(TideTable) * (link->refused->n + 1));
		known = &link->refused->tables[link->refused->n++];
		memset(known, 0, sizeof(*known));
		known->schema = tide_strdup(table->schema);
		known->name = tide_strdup(table->name);
	}
	known->retry_at = tide_monotonic_ms() + REFUSED_MS;
}
