/*
 * tide_shapes.h
 *		The relations and types that pgoutput has announced in a session.
 *
 * Owns: remembering them, and the record that describes a relation in a frame.
 * Does not own: which frame needs which description (tide_capture.c).
 */
#ifndef TIDE_SHAPES_H
#define TIDE_SHAPES_H

#include "tide_oidmap.h"
#include "tide_pgoutput.h"

/* A relation as last announced. */
typedef struct TideShape
{
	TideBuf record; /* the whole 'R' record */
	int n_columns;

	/* Of whoever writes records. */
	uint64_t offset;	  /* where it was written last; 0: not in this form */
	uint64_t transaction; /* that used it last */
} TideShape;

/* All zeroes: nothing announced. */
typedef struct TideShapes
{
	TideOidMap relations;
	TideOidMap types;
} TideShapes;

/* Takes an announcement; if it changes a shape, its offset becomes 0.  false: out of memory. */
extern bool tide_shapes_relation(TideShapes *shapes, const PgRelation *announced);
extern bool tide_shapes_type(TideShapes *shapes, const PgType *announced);

/* NULL: not announced. */
extern TideShape *tide_shapes_find(const TideShapes *shapes, uint32_t relid);

extern void tide_shapes_free(TideShapes *shapes);

#endif /* TIDE_SHAPES_H */
