/*
 * parts.h
 *		Handing a value to our database that is too large for one statement.
 *
 * libpq keeps a second copy of whatever it sends, and moves what is left of it each time the
 * socket is full, which takes the square of its size.  tide.relay_part takes it in parts
 * (extension/src/large_value.c), and the statement that wants it is then sent with an empty value.
 */
#ifndef TIDE_PARTS_H
#define TIDE_PARTS_H

#include "pg.h"

typedef struct TideParts
{
	const char *data; /* borrowed, until all is sent */
	size_t len;
	size_t sent;
} TideParts;

/* Is a value of so many bytes sent in parts? */
extern bool tide_parts_needed(size_t len);

/* The statement for the next part; in libpq's pipeline mode, if pipeline.  Without waiting for its end. */
extern bool tide_parts_send(TidePg *pg, TideParts *parts, bool pipeline, TideError *err);

#endif /* TIDE_PARTS_H */
