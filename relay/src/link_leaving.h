/*
 * link_leaving.h
 *		A link's part in moving rows: telling the origin which of the rows it may not keep are here.
 *
 * Questions go over the connections of link_watch.c, which sends one at a time and says when
 * the answer is there.
 */
#ifndef TIDE_LINK_LEAVING_H
#define TIDE_LINK_LEAVING_H

#include "link_internal.h"

typedef struct TideLinkLeaving TideLinkLeaving;

extern TideLinkLeaving *tide_link_leaving_new(TideLink *link);
extern void tide_link_leaving_free(TideLinkLeaving *leaving); /* NULL is fine */

/* To the origin (link->control). */
extern bool tide_link_leaving_due_there(const TideLinkLeaving *leaving);
extern bool tide_link_leaving_ask_there(TideLinkLeaving *leaving, TideError *err);
extern void tide_link_leaving_heard_there(TideLinkLeaving *leaving, const PGresult *res);
extern void tide_link_leaving_lost_there(TideLinkLeaving *leaving); /* no answer will come */

/* To our own database (link->reports). */
extern bool tide_link_leaving_due_here(const TideLinkLeaving *leaving);
extern bool tide_link_leaving_ask_here(TideLinkLeaving *leaving, TideError *err);
extern bool tide_link_leaving_busy_here(const TideLinkLeaving *leaving); /* an answer is awaited */
extern void tide_link_leaving_heard_here(TideLinkLeaving *leaving, const PGresult *res);

/* The question failed.  true: that is no reason to end the link; err is cleared. */
extern bool tide_link_leaving_refused(TideLinkLeaving *leaving, TideError *err);

#endif /* TIDE_LINK_LEAVING_H */
