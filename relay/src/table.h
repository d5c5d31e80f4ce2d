/*
 * table.h
 *		Aligned columns on a terminal.
 *
 * Owns: widths, alignment, and keeping control characters out of a terminal.
 * Does not own: what the cells say.
 */
#ifndef TIDE_TABLE_H
#define TIDE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct TideTable TideTable;

typedef struct TideTableColumn
{
	const char *title;
	bool right; /* align to the right: numbers */
} TideTableColumn;

/* columns is borrowed until free. */
extern TideTable *tide_table_new(const TideTableColumn *columns, size_t n_columns);
extern void tide_table_free(TideTable *table);

/* Cells of one row, one after the other; copied; NULL is shown as "-". */
extern void tide_table_cell(TideTable *table, const char *text);
/* A line of its own under the last row. */
extern void tide_table_note(TideTable *table, const char *text);
extern void tide_table_write(const TideTable *table, FILE *out);

/* Writes text with control characters and invalid bytes replaced by '?'. */
extern void tide_write_safely(FILE *out, const char *text);

#endif /* TIDE_TABLE_H */
