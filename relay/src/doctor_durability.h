/*
 * doctor_durability.h
 *		The doctor's check of synchronous classes; see doctor_durability.c.
 */
#ifndef TIDE_DOCTOR_DURABILITY_H
#define TIDE_DOCTOR_DURABILITY_H

#include "doctor_internal.h"

extern void tide_doctor_check_durability(TideDoctor *d, const char *id);

#endif /* TIDE_DOCTOR_DURABILITY_H */
