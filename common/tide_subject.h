/*
 * tide_subject.h
 *		NATS subjects: validity and the algebra of wildcards.
 *
 * Owns: what '.', '*' and '>' mean.  Does not own: templates (tide_template.h)
 * or streams.
 */
#ifndef TIDE_SUBJECT_H
#define TIDE_SUBJECT_H

#include <stdbool.h>
#include <stddef.h>

#define TIDE_SUBJECT_MAX 1024 /* bytes; the server's whole control line is 4096 */

/*
 * Non-empty tokens separated by dots, valid UTF-8, no space, no control byte,
 * at most TIDE_SUBJECT_MAX bytes.  With allow_wildcards a token may be "*" and
 * the last one ">"; inside longer tokens neither is taken (the server would
 * read them as plain letters, which nobody who writes them means).
 */
extern bool tide_subject_valid(const char *subject, bool allow_wildcards);

/* The rest expects valid subjects; anything else gives some answer, never a crash. */
extern bool tide_subject_matches(const char *pattern, const char *subject);
/* Does wider match every subject that narrower matches? */
extern bool tide_subject_covers(const char *wider, const char *narrower);
/* Is there a subject that both match? */
extern bool tide_subject_overlaps(const char *a, const char *b);

#endif /* TIDE_SUBJECT_H */
