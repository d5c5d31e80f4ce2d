/* Stands in until doctor_nats.c exists. */
#include "doctor.h"

void
tide_doctor_check_nats(TideDoctor *d, const char *pipeline, const char *direction,
					   const char *target, json_t *config)
{
	(void) direction;
	(void) target;
	(void) config;
	tide_doctor_report(d, TIDE_DOCTOR_SKIP, "nats", pipeline, "NATS can't be checked yet", NULL);
}
