/*
 * link_merge.c
 *		Frames of inserts from COPY's rows, for tables that have rows of others already.
 */
#include "link_copy.h"

TideRowFrames *
tide_row_frames_new(const TideCopier *copier, const TideTable *table, TideError *err)
{
	(void) copier;
	tide_error(err, TIDE_ERR_CONFIG, "0A000", "table %s.%s has rows", table->schema, table->name);
	return NULL;
}

void
tide_row_frames_free(TideRowFrames *frames)
{
	(void) frames;
}

bool
tide_row_frames_add(TideRowFrames *frames, const char *row, size_t len, TideError *err)
{
	(void) frames;
	(void) row;
	(void) len;
	return tide_error(err, TIDE_ERR_INTERNAL, "", "not yet");
}

bool
tide_row_frames_make(TideRowFrames *frames, TideBuf *out, TideError *err)
{
	(void) frames;
	(void) out;
	return tide_error(err, TIDE_ERR_INTERNAL, "", "not yet");
}
