/*
 * link_shapes.h
 *		A link's eye on shapes: those of the origin's tables, and changes that waited for one to fit.
 *
 * Questions go over the connections of link_watch.c, which sends one at a time and says when
 * the answer is there.
 */
#ifndef TIDE_LINK_SHAPES_H
#define TIDE_LINK_SHAPES_H

#include "link_internal.h"

typedef struct TideLinkShapes TideLinkShapes;

extern TideLinkShapes *tide_link_shapes_new(TideLink *link);
extern void tide_link_shapes_free(TideLinkShapes *shapes); /* NULL is fine */

/* To the origin (link->control). */
extern bool tide_link_shapes_due_there(const TideLinkShapes *shapes);
extern bool tide_link_shapes_ask_there(TideLinkShapes *shapes, TideError *err);
extern long long *tide_link_shapes_next(TideLinkShapes *shapes); /* when it is due */
extern void tide_link_shapes_heard_there(TideLinkShapes *shapes, const PGresult *res);

/* To our own database (link->reports). */
extern bool tide_link_shapes_due_here(const TideLinkShapes *shapes);
extern bool tide_link_shapes_ask_here(TideLinkShapes *shapes, TideError *err);
extern bool tide_link_shapes_busy(const TideLinkShapes *shapes); /* an answer is awaited */
extern void tide_link_shapes_heard_here(TideLinkShapes *shapes, const PGresult *res);

/* The question failed.  true: that is no reason to end the link; err is cleared. */
extern bool tide_link_shapes_refused(TideLinkShapes *shapes, TideError *err);

#endif /* TIDE_LINK_SHAPES_H */
