/*
 * tide_crc.h
 *		CRC-32C, the checksum of frames.
 *
 * Owns: the sum.  Does not own: what is summed.
 */
#ifndef TIDE_CRC_H
#define TIDE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Goes on with a sum over more bytes; begin with 0.  tide_crc32c(0, "123456789", 9) is 0xe3069283. */
extern uint32_t tide_crc32c(uint32_t crc, const void *data, size_t len);

/* The same without the processor's help; for tests. */
extern uint32_t tide_crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif /* TIDE_CRC_H */
