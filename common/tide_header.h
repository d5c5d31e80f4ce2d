/*
 * tide_header.h
 *		Header names and values as they travel in broker messages.
 *
 * Owns: making any bytes safe as a header value and back, and which names an
 * application may use for itself.  Does not own: which headers an event has.
 */
#ifndef TIDE_HEADER_H
#define TIDE_HEADER_H

#include <stdbool.h>
#include <stddef.h>

#include "tide_buf.h"

#define TIDE_HEADER_NAME_MAX 128

/*
 * Appends value with control bytes, DEL, space, '"', '%' and every non-ASCII
 * byte as %XX (the CloudEvents rule for HTTP headers).
 */
extern bool tide_header_encode(TideBuf *out, const char *value, size_t len);

/*
 * Appends the decoded bytes; may produce NUL and invalid UTF-8, the caller
 * looks.  Bytes that should have been encoded are taken as they are (foreign
 * senders), but a '%' without two hex digits, CR, LF and NUL are errors: false,
 * with out as it was.
 */
extern bool tide_header_decode(TideBuf *out, const char *value, size_t len);

/*
 * May this header of the application be exposed as a header of its own?
 * RFC 9110 token characters, 1 to 128 bytes, and not ours or the broker's:
 * content-type and names that begin with nats-, ce- or tide- (any case).
 */
extern bool tide_header_name_ok(const char *name, size_t len);

#endif /* TIDE_HEADER_H */
