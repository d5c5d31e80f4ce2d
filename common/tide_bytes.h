/*
 * tide_bytes.h
 *		Integers in bytes, the most significant first.
 *
 * Owns: nothing but that.  Written out, not as loops: so compilers make one instruction of each.
 */
#ifndef TIDE_BYTES_H
#define TIDE_BYTES_H

#include <stdint.h>

static inline uint16_t
tide_get_u16(const uint8_t *bytes)
{
	return (uint16_t) (bytes[0] << 8 | bytes[1]);
}

static inline uint32_t
tide_get_u32(const uint8_t *bytes)
{
	return (uint32_t) bytes[0] << 24 | (uint32_t) bytes[1] << 16 | (uint32_t) bytes[2] << 8 |
		   bytes[3];
}

static inline uint64_t
tide_get_u64(const uint8_t *bytes)
{
	return (uint64_t) tide_get_u32(bytes) << 32 | tide_get_u32(bytes + 4);
}

static inline void
tide_put_u16(uint8_t *bytes, uint16_t value)
{
	bytes[0] = (uint8_t) (value >> 8);
	bytes[1] = (uint8_t) value;
}

static inline void
tide_put_u32(uint8_t *bytes, uint32_t value)
{
	bytes[0] = (uint8_t) (value >> 24);
	bytes[1] = (uint8_t) (value >> 16);
	bytes[2] = (uint8_t) (value >> 8);
	bytes[3] = (uint8_t) value;
}

static inline void
tide_put_u64(uint8_t *bytes, uint64_t value)
{
	tide_put_u32(bytes, (uint32_t) (value >> 32));
	tide_put_u32(bytes + 4, (uint32_t) value);
}

#endif /* TIDE_BYTES_H */
