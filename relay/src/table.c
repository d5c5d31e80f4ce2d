/*
 * table.c
 *		Aligned columns on a terminal.
 */
#include "table.h"

#include <stdlib.h>
#include <string.h>

#include "mem.h"
#include "tide_text.h"

typedef struct Row
{
	char **cells;
	char *note; /* may be NULL */
} Row;

struct TideTable
{
	const TideTableColumn *columns;
	size_t n_columns;
	Row *rows;
	size_t n_rows;
	size_t n_cells; /* of the last row; == n_columns: the row is complete */
};

TideTable *
tide_table_new(const TideTableColumn *columns, size_t n_columns)
{
	TideTable *table = tide_zalloc(sizeof(TideTable));

	table->columns = columns;
	table->n_columns = n_columns;
	table->n_cells = n_columns;
	return table;
}

void
tide_table_free(TideTable *table)
{
	if (table == NULL)
		return;
	for (size_t r = 0; r < table->n_rows; r++)
	{
		for (size_t c = 0; c < table->n_columns; c++)
			free(table->rows[r].cells[c]);
		free(table->rows[r].cells);
		free(table->rows[r].note);
	}
	free(table->rows);
	free(table);
}

void
tide_table_cell(TideTable *table, const char *text)
{
	Row *row;

	if (table->n_cells == table->n_columns)
	{
		table->rows = tide_realloc(table->rows, (table->n_rows + 1) * sizeof(Row));
		row = &table->rows[table->n_rows++];
		row->cells = tide_zalloc(table->n_columns * sizeof(char *));
		row->note = NULL;
		table->n_cells = 0;
	}
	row = &table->rows[table->n_rows - 1];
	row->cells[table->n_cells++] = tide_strdup(text != NULL ? text : "-");
}

void
tide_table_note(TideTable *table, const char *text)
{
	Row *row = &table->rows[table->n_rows - 1];

	free(row->note);
	row->note = tide_strdup(text);
}

/* Bytes that may be written as they are; 0: show '?' for one byte. */
static size_t
safe_length(const char *s)
{
	unsigned char c = (unsigned char) *s;
	size_t len = tide_utf8_sequence(s, strlen(s));

	if (c < 0x20 || c == 0x7F || (len == 2 && memcmp(s, "\xC2\xA0", 2) < 0))
		return 0;
	return len;
}

void
tide_write_safely(FILE *out, const char *text)
{
	while (*text != '\0')
	{
		size_t len = safe_length(text);

		if (len == 0)
			putc(*text == '\n' || *text == '\t' ? ' ' : '?', out);
		else
			fwrite(text, 1, len, out);
		text += len > 0 ? len : 1;
	}
}

/* In characters; wide ones are not known here and cost a ragged edge. */
static size_t
shown_width(const char *text)
{
	size_t width = 0;

	while (*text != '\0')
	{
		size_t len = safe_length(text);

		text += len > 0 ? len : 1;
		width++;
	}
	return width;
}

static size_t
column_width(const TideTable *table, size_t column)
{
	size_t width = shown_width(table->columns[column].title);

	for (size_t r = 0; r < table->n_rows; r++)
	{
		const char *cell = table->rows[r].cells[column];
		size_t w = cell != NULL ? shown_width(cell) : 0;

		width = w > width ? w : width;
	}
	return width;
}

static void
write_cell(const TideTable *table, FILE *out, size_t column, const char *text, size_t width)
{
	int padding = (int) (width - shown_width(text));
	bool last = column + 1 == table->n_columns;

	if (table->columns[column].right)
		fprintf(out, "%*s", padding, "");
	tide_write_safely(out, text);
	if (!table->columns[column].right && !last)
		fprintf(out, "%*s", padding, "");
	fputs(last ? "\n" : "  ", out);
}

void
tide_table_write(const TideTable *table, FILE *out)
{
	size_t *widths = tide_malloc(table->n_columns * sizeof(size_t));

	for (size_t c = 0; c < table->n_columns; c++)
	{
		widths[c] = column_width(table, c);
		write_cell(table, out, c, table->columns[c].title, widths[c]);
	}
	for (size_t r = 0; r < table->n_rows; r++)
	{
		const Row *row = &table->rows[r];

		for (size_t c = 0; c < table->n_columns; c++)
			write_cell(table, out, c, row->cells[c] != NULL ? row->cells[c] : "", widths[c]);
		if (row->note != NULL)
		{
			fputs("    ", out);
			tide_write_safely(out, row->note);
			putc('\n', out);
		}
	}
	free(widths);
}
